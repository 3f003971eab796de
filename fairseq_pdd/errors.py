"""The exception for input that its user can fix."""


class UsageError(SystemExit, ValueError):
    """Wrong input, reported in one line that names the culprit and the fix.

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
        """Pickle the message alone, so that errors of worker processes can be restored."""
        return type(self), (self.message,)
