"""The one exception for mistakes that a user can make and mend."""


class UserError(Exception):
    """A mistake in what the user gave us: a path, a file, a setting.

    The command line prints the message on one line and exits with code 2, so the message must name the file, key or
    value, say what was expected and how to mend it.
    """

    #: Whether somebody has told the user already.
    told = False

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
