"""Files that appear under their name only when they are complete."""

import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Iterator, Union

from ..errors import UsageError

PathLike = Union[str, Path]


def create(path: PathLike, file: PathLike) -> BinaryIO:
    """Open ``file`` for writing, and make its folder.

    Args:
        path: name that messages give to the file.
        file: the file itself: ``path``, or a temporary file that becomes it.

    Raises:
        UsageError: the file cannot be written.
    """
    if os.path.isdir(path):
        raise UsageError(f"cannot write {path}: it is a folder; give a file in it")
    try:
        os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
        return open(file, "wb")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error}") from error


@contextmanager
def replace_file(path: PathLike) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends.

    An error in the block deletes the temporary file and leaves an older file as it is. A symbolic
    link is followed; a device or a pipe is written directly.

    Raises:
        UsageError: the file cannot be written.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with create(path, path) as stream:
            yield stream
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
        raise UsageError(f"cannot write {path}: {error}") from error
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
