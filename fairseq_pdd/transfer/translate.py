"""Runs ``fairseq-generate`` over a subset, in parts that survive an interruption."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Dict

from tqdm import tqdm

from ..errors import UsageError
from .corpus import Corpus

if TYPE_CHECKING:
    from .build import TransferSettings

_POLL_SECONDS = 0.5
# last line of a complete output file
_END = b"Generate "


def translate(settings: "TransferSettings", corpus: Corpus, work: Path) -> Dict[int, str]:
    """Best hypothesis of each sentence.

    Args:
        settings: how to translate.
        corpus: what to translate.
        work: folder for the parts; complete parts found there are not translated again.

    Returns:
        Hypotheses by sentence number, as the corpus wants them: symbols joined with spaces and
        without end-of-sequence, or text. Sentences too long for the models are absent.

    Raises:
        UsageError: fairseq-generate failed.
    """
    parts = [work / f"part-{i}-of-{settings.workers}" for i in range(settings.workers)]
    pending = [i for i, part in enumerate(parts) if not _is_complete(_output(part, settings))]
    processes = {i: _start(settings, corpus, i, parts[i]) for i in pending}
    counters = [_Counter(_output(part, settings)) for part in parts]
    try:
        with tqdm(
            total=len(corpus),
            desc="translating",
            unit=" sentences",
            mininterval=0.5 if sys.stderr.isatty() else 15,
        ) as bar:
            while True:
                running = [i for i, process in processes.items() if process.poll() is None]
                for i, process in processes.items():
                    if process.returncode not in (None, 0):
                        raise _failure(parts[i])
                bar.update(sum(counter.new() for counter in counters))
                if not running:
                    break
                time.sleep(_POLL_SECONDS)
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.terminate()
    hypotheses: Dict[int, str] = {}
    for part in parts:
        if not _is_complete(_output(part, settings)):
            raise _failure(part)
        hypotheses.update(_read(_output(part, settings), corpus.hypothesis_lines))
    return hypotheses


def _start(
    settings: "TransferSettings", corpus: Corpus, index: int, part: Path
) -> "subprocess.Popen[bytes]":
    part.mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "fairseq_cli.generate", str(settings.data),
        # the plugin lets checkpoints be loaded safely; scores are not wanted here
        "--user-dir", str(Path(__file__).parents[1]), *corpus.generate_args,
        "--path", ":".join(settings.checkpoints), "--gen-subset", settings.subset,
        "--beam", str(settings.beam), "--nbest", "1", "--max-tokens", str(settings.max_tokens),
        "--skip-invalid-size-inputs-valid-test", "--no-progress-bar",
        # some builds of fairseq drop the sentences that do not fill a multiple
        "--required-batch-size-multiple", "1",
        "--distributed-world-size", str(settings.workers), "--distributed-rank", str(index),
        "--results-path", str(part), *settings.generate_args,
    ]  # fmt: skip
    environment = dict(os.environ)
    if settings.workers > 1:
        # processes that each take all cores slow one another down
        threads = max(1, (os.cpu_count() or 1) // settings.workers)
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    with open(part / "stderr.log", "wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def _output(part: Path, settings: "TransferSettings") -> Path:
    return part / f"generate-{settings.subset}.txt"


class _Counter:
    """Counts hypotheses in a file that grows, without reading it from the start each time."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> int:
        if not self._path.is_file():
            return 0
        with open(self._path, "rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        # a marker cut in two by the end of what is there now is counted next time
        end = data.rfind(b"\n")
        if end < 0:
            return 0
        self._offset += end
        return data[:end].count(b"\nH-")


def _is_complete(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - 4096))
        return any(line.startswith(_END) for line in stream.read().split(b"\n"))


def _read(path: Path, kind: str) -> Dict[int, str]:
    hypotheses = {}
    # newline="\n": symbols may hold characters that Python counts as line breaks
    with open(path, encoding="utf-8", newline="\n") as stream:
        for line in stream:
            if line.startswith(f"{kind}-"):
                name, _, hypothesis = line.rstrip("\n").split("\t", 2)
                hypotheses[int(name[2:])] = hypothesis
    return hypotheses


def _failure(part: Path) -> UsageError:
    lines = (part / "stderr.log").read_text(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "no message")
    return UsageError(f"fairseq-generate failed: {last.strip()} (all of it in {part}/stderr.log)")
