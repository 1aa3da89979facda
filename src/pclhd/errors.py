"""Exceptions for errors that a user can correct."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the user's input: a path, a file, a setting.

    The command line prints the message in one line and exits with code 2. So the message must name the file, key or
    value, what was expected, and how to correct it.
    """

    #: Whether the message has been printed already.
    reported = False

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ArgumentError(UserError):
    """An invalid argument of a function.

    The message names the argument as Python does (``out=labels.csv: already exists``); the command line prints the
    option instead (``--out labels.csv: …``).

    Args:
        argument: The argument's name.
        reason: What is wrong, and how to correct it. Names of arguments are in backticks: "choose another `out`".
        value: The given value; None where the name is enough.
    """

    def __init__(self, argument: str, reason: str, *, value: object = None) -> None:
        self.argument, self.reason, self.value = argument, reason, value
        super().__init__(f"{argument if value is None else f'{argument}={value}'}: {reason}")
