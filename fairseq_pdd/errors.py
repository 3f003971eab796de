"""The exception for input that its user can fix, and its form at the end of a command."""

import re
import sys
from types import TracebackType
from typing import Callable, Optional, Type


class UsageError(ValueError):
    """Wrong input, described in one line that names the culprit and the fix.

    A command ends with that line and status 1 instead of a traceback.
    """

    # torch gives the text of a DataLoader's worker by this keyword, as there is a `message`
    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The line, without the name of this package."""
        return str(self)


class MissingRequirement(UsageError, ImportError):
    """A package that is not installed, or a version that is too old; the fix is a pip command."""


def last_line(error: BaseException) -> str:
    """Return the line with which a command ends because of a :class:`UsageError`."""
    return f"fairseq_pdd: error: {error}"


def show_usage_errors_in_one_line(
    describe: Callable[[BaseException], Optional[str]] = lambda _: None,
) -> None:
    """Show an uncaught :class:`UsageError` as one line; other exceptions keep their traceback.

    For the processes of commands only: Python users expect a traceback.

    Args:
        describe: returns the line for an exception of another type that is a user's error, or None.
    """
    show_others = sys.excepthook

    def show(
        kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]
    ) -> None:
        line = _usage_error(error) or describe(error)
        if line is None:
            show_others(kind, error, trace)
        else:
            print(last_line(UsageError(line)), file=sys.stderr, flush=True)

    sys.excepthook = show


def is_fairseq_command() -> bool:
    """Return True if this process runs one of fairseq's commands."""
    return any(name.partition(".")[0] == "fairseq_cli" for name in sys.modules)


def _usage_error(error: BaseException) -> Optional[str]:
    """Return the message of a usage error of this process or of a worker process."""
    if isinstance(error, UsageError):
        # a DataLoader's worker puts its traceback before the message
        return _RAISED.sub("", str(error).strip().rpartition("\n")[2])
    # torch.multiprocessing wraps an error of a worker in a traceback, as text
    if type(error).__name__ == "ProcessRaisedException":
        _, *raised = _RAISED.split(str(error).strip())
        return raised[-1] if raised else None
    return None


_RAISED = re.compile(rf"^{re.escape(UsageError.__module__)}\.\w+: ", re.MULTILINE)
