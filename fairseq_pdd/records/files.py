"""Files that appear under their name only when they are complete, and have one writer at a time."""

import fcntl
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Iterator, Optional, Tuple, Union, cast

from ..errors import UsageError

PathLike = Union[str, Path]


def create(path: PathLike, file: PathLike, mode: str = "wb") -> BinaryIO:
    """Open ``file`` for writing, and make its folder.

    Args:
        path: name that messages give to the file.
        file: the file itself: ``path``, or a temporary file that becomes it.
        mode: ``wb`` empties an older ``file``, ``ab`` keeps it.

    Raises:
        UsageError: the file cannot be written.
    """
    if not os.fspath(path):
        raise UsageError("cannot write a file whose name is empty: give its path")
    if os.path.isdir(path):
        raise UsageError(f"cannot write {path}: it is a folder; give a file in it")
    if _is_standard_stream(path):
        raise UsageError(
            f"cannot write {path}: this file takes the command's own output; give another file"
        )
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise UsageError(f"cannot write {path}: it is read-only; remove it or give another file")
    try:
        os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
        return cast(BinaryIO, open(file, mode))
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise cannot_write(path, error) from error


def cannot_write(path: PathLike, error: Exception) -> UsageError:
    """Return the error of a file that the system refuses to write."""
    return UsageError(f"cannot write {path}: {error}")


def is_special(path: PathLike) -> bool:
    """Return True for a device or a pipe, which is written and not replaced."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def open_locked(path: PathLike, file: PathLike, shared: bool = False) -> BinaryIO:
    """Open a file that no other process may open in this way until it is closed.

    Its older content stays; a file that a killed process left is opened like any other.

    Args:
        path: name that messages give to the file.
        file: the file itself: ``path``, or a temporary file that becomes it.
        shared: keep out only those that do not share it.

    Raises:
        UsageError: another process holds the file, or it cannot be written.
    """
    while True:
        stream = create(path, file, "ab")
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.close()
            raise UsageError(
                f"cannot write {path}: another process is writing it; wait for its end, or give "
                "another path"
            ) from error
        except OSError:  # a file system without locks
            return stream
        if _is_open_file(stream, file):
            return stream
        # the process that held the lock has renamed or removed this file
        stream.close()


@contextmanager
def lock_file(path: PathLike, shard: Optional[Tuple[int, int]] = None) -> Iterator[None]:
    """Hold ``<path>.lock``, so that no second process works on ``path`` in the block.

    The operating system releases the lock of a process that dies. The lock's file is removed at
    the end, unless other shards may hold it.

    Args:
        path: what the process works on.
        shard: number of the shard that it works on, and of all shards; None for the whole. The
            whole is locked against shards, and each shard against the same one.

    Raises:
        UsageError: another process holds it, or it cannot be written.
    """
    file = f"{os.fspath(path)}.lock"
    with open_locked(file if os.path.isdir(path) else path, file, shared=shard is not None):
        if shard is not None:
            with lock_file(f"{os.fspath(path)}.shard-{shard[0]}-of-{shard[1]}"):
                yield
            return
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(file)


def _is_open_file(stream: BinaryIO, file: PathLike) -> bool:
    """Return True if the name still belongs to the open file."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(file))
    except FileNotFoundError:
        return False


def _is_standard_stream(path: PathLike) -> bool:
    """Return True for the file that standard output or error was redirected to."""
    for number in (1, 2):
        with suppress(OSError, ValueError):
            if os.path.isfile(path) and os.path.samestat(os.stat(path), os.fstat(number)):
                return True
    return False


@contextmanager
def replace_file(path: PathLike) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends.

    An error in the block deletes the temporary file and leaves an older file as it is. A symbolic
    link is followed; a device or a pipe is written directly.

    Raises:
        UsageError: the file cannot be written.
    """
    if is_special(path):
        try:
            with create(path, path) as stream:
                yield stream
        except OSError as error:
            raise cannot_write(path, error) from error
        return
    target = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(target), f".fairseq_pdd-{secrets.token_hex(8)}.tmp")
    try:
        with create(path, temporary) as stream:
            if os.path.exists(target):
                shutil.copymode(target, temporary)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # it has become the target, or was never made
            os.unlink(temporary)


def write_text(path: PathLike, text: str) -> None:
    """Write a file in UTF-8 with :func:`replace_file`.

    Raises:
        UsageError: the file cannot be written.
    """
    with replace_file(path) as stream:
        stream.write(text.encode("utf-8"))
