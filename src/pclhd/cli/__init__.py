"""The command line."""

from pclhd.cli.verbs import app, main

__all__ = ["app", "main"]
