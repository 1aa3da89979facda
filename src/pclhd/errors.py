"""The exceptions for mistakes that a user can make and correct."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave us: a path, a file, a setting.

    The command line prints the message on one line and exits with code 2, so the message must name the file, key or
    value, say what was expected and how to correct it.
    """

    #: Whether the message has been printed already.
    told = False

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ArgumentError(UserError):
    """A mistake in an argument of a function.

    The message names the argument as Python does (``out=labels.csv: already exists``); the command line prints its
    option instead (``--out labels.csv: …``).

    Args:
        argument: Its name.
        reason: What is wrong, and how to correct it. Names of arguments are in backticks: "choose another `out`".
        value: What was given; None where the name alone says enough.
    """

    def __init__(self, argument: str, reason: str, *, value: object = None) -> None:
        self.argument, self.reason, self.value = argument, reason, value
        super().__init__(f"{argument if value is None else f'{argument}={value}'}: {reason}")
