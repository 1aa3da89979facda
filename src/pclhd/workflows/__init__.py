"""The functions behind the command line's verbs, independent of the command line."""
