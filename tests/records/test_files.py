"""Files that are replaced in one step."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairseq_pdd.errors import UsageError
from fairseq_pdd.records.files import create, lock_file, open_locked, replace_file, write_text


def test_text_appears_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "text"
    write_text(path, "größe\n")
    assert path.read_bytes() == "größe\n".encode()
    assert os.listdir(path.parent) == ["text"]


def test_the_older_file_stays_until_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("older")
    with replace_file(path) as stream:
        stream.write(b"newer")
        stream.flush()
        assert path.read_text() == "older"
    assert path.read_text() == "newer"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_error_leaves_the_older_file_and_nothing_else(
    tmp_path: Path, error: "type[BaseException]"
) -> None:
    path = tmp_path / "file"
    path.write_text("older")

    def die() -> None:
        with replace_file(path) as stream:
            stream.write(b"newer")
            raise error("full")

    expected = UsageError if error is OSError else error
    with pytest.raises(expected, match="full"):
        die()
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["file"]


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.parent.mkdir()
    target.write_text("older")
    link.symlink_to(target)
    write_text(link, "newer")
    assert link.is_symlink()
    assert target.read_text() == "newer"
    assert os.listdir(target.parent) == ["target"]


def test_permissions_are_those_of_any_new_file_or_of_the_older_one(tmp_path: Path) -> None:
    plain, written = tmp_path / "plain", tmp_path / "written"
    plain.write_text("")
    write_text(written, "")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    written.chmod(0o640)
    write_text(written, "newer")
    assert stat.S_IMODE(written.stat().st_mode) == 0o640


def test_a_device_is_written_and_not_replaced() -> None:
    write_text("/dev/null", "text")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_pipe_is_written(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_text(path, "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_paths_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"cannot write {tmp_path}: it is a folder"):
        write_text(tmp_path, "text")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"cannot write {tmp_path}/file/text: "):
        write_text(tmp_path / "file" / "text", "text")
    with pytest.raises(UsageError, match="cannot write "):
        write_text(tmp_path / ("x" * 300), "text")
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"cannot write /dev/full: .*No space left"):
        write_text("/dev/full", "text")


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(UsageError, match="name is empty"):
        create("", "")


def test_a_read_only_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("older")
    # the superuser may write everything
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="it is read-only"):
        write_text(path, "newer")
    assert path.read_text() == "older"


def test_the_file_of_standard_output_is_refused(tmp_path: Path) -> None:
    code = "from fairseq_pdd.records.files import write_text; write_text('/dev/stdout', 'text')"
    path = tmp_path / "out"
    with open(path, "wb") as stream:
        ended = subprocess.run([sys.executable, "-c", code], stdout=stream, stderr=subprocess.PIPE)
    assert b"takes the command's own output" in ended.stderr
    assert path.read_bytes() == b""


def test_a_lock_keeps_others_out_until_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "set"
    with lock_file(path):
        refused = pytest.raises(UsageError, match=f"cannot write {path}: another process")
        with refused, lock_file(path):
            pass
        # neither the block's end nor that of the refused one has removed the file
        assert os.listdir(tmp_path) == ["set.lock"]
    assert os.listdir(tmp_path) == []
    with lock_file(path):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "set"
    code = (
        "import os, signal, sys; from fairseq_pdd.records.files import lock_file\n"
        "with lock_file(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)])
    assert ended.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["set.lock"]
    with lock_file(path):
        pass


def test_a_file_that_was_renamed_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first writer renames its file between the second one's opening and locking."""
    part, final = tmp_path / "part", tmp_path / "final"
    part.write_text("first")
    lock = fcntl.flock

    def rename_first(*args: Any) -> None:
        if part.exists() and not final.exists():
            os.replace(part, final)
        lock(*args)

    monkeypatch.setattr(fcntl, "flock", rename_first)
    with open_locked(final, part) as stream:
        stream.truncate(0)
        stream.write(b"second")
    assert final.read_text() == "first"
    assert part.read_text() == "second"
