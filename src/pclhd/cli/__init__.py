"""The command line."""

import sys

try:
    from pclhd.cli.verbs import app, main
except KeyboardInterrupt:  # Ctrl-C before anything was begun
    sys.exit(130)

__all__ = ["app", "main"]
