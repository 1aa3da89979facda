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


#: What torch, oneDNN, numpy, threads and the loader of libraries say when memory runs out, besides `MemoryError`.
_NO_MEMORY = (
    "DefaultCPUAllocator",
    "can't start new thread",
    "could not create a primitive",
    "annot allocate memory",
    "failed to map segment",
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the machine has no memory left."""
    said = isinstance(error, RuntimeError | ImportError | OSError) and any(sign in str(error) for sign in _NO_MEMORY)
    return said or isinstance(error, MemoryError)


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
