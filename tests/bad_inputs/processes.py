"""Commands in processes of their own, forked from one that has imported everything.

Their exit status, output and uncaught exceptions are those of the console script, without the
seconds of its imports.
"""

import contextlib
import multiprocessing
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Sequence

FUNCTIONS = {
    "fairseq-train": "fairseq_cli.train:cli_main",
    "fairseq-generate": "fairseq_cli.generate:cli_main",
    "fairseq-interactive": "fairseq_cli.interactive:cli_main",
    "fairseq-validate": "fairseq_cli.validate:cli_main",
    "fairseq-pdd": "fairseq_pdd.cli.main:app",
}
"""Functions of the console scripts."""

_context = multiprocessing.get_context("forkserver")
# Not our own modules: fairseq imports those of --user-dir only if the package is not there yet.
_context.set_forkserver_preload(
    [
        "fairseq.tasks",
        "fairseq.models",
        "fairseq.criterions",
        *(f.partition(":")[0] for f in FUNCTIONS.values() if f.startswith("fairseq_cli")),
    ]
)


class Ended(NamedTuple):
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str


def start(command: Sequence[Any], folder: Path, stdin: str = "", before: str = "") -> Any:
    """Start a command of :data:`FUNCTIONS`; return its ``multiprocessing.Process``.

    Args:
        command: name and arguments.
        folder: existing folder for the files of its output.
        stdin: text on standard input.
        before: statements that the process runs first.
    """
    (folder / "stdin").write_text(stdin, encoding="utf-8")
    words = [str(word) for word in command]
    process = _context.Process(target=_main, args=(words, str(folder), before))
    process.start()
    return process


def run(
    command: Sequence[Any],
    folder: Path,
    stdin: str = "",
    timeout: float = 300,
    before: str = "",
) -> Ended:
    """Run a command like :func:`start` to its end; kill it after ``timeout`` seconds."""
    process = start(command, folder, stdin, before)
    process.join(timeout)
    if process.is_alive():
        process.kill()
        raise AssertionError(f"{command} runs for more than {timeout} s")
    assert process.exitcode is not None
    out, err = ((folder / name).read_text("utf-8", "replace") for name in ("stdout", "stderr"))
    return Ended(process.exitcode, out, err)


def _main(command: Sequence[str], folder: str, before: str) -> None:
    """Do what the console script does, with the standard streams in files."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(os.path.join(folder, name), flags), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = list(command)
    os.environ["OMP_NUM_THREADS"] = "1"
    module, _, function = FUNCTIONS[command[0]].partition(":")
    status = 0
    try:
        exec(before, {})
        getattr(import_module(module), function)()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)
