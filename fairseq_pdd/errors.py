"""The one exception for input that its user can mend."""


class UsageError(SystemExit, ValueError):
    """Wrong input, told in one line that names the culprit and the mend.

    A command ends with that line and status 1 instead of a traceback (it is a ``SystemExit``);
    Python callers catch it like any ``ValueError``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"fairseq_pdd: error: {message}")
        self.message = message

    def __str__(self) -> str:
        """Return the message (``SystemExit`` would show its arguments)."""
        return str(self.code)

    def __reduce__(self) -> "tuple[type[UsageError], tuple[str]]":
        """Pickle as what it was made of, for errors of worker processes."""
        return type(self), (self.message,)
