"""Translation of a subset by ``fairseq-generate``, in parts that survive an interruption."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict

from tqdm import tqdm

from ..errors import UsageError
from .corpus import Corpus
from .settings import TransferSettings

_POLL_SECONDS = 0.5
# start of the last line of a complete output file
_END = b"Generate "


def translate(settings: TransferSettings, corpus: Corpus, work: Path) -> Dict[int, str]:
    """Find the best hypothesis of each sentence.

    Args:
        settings: checkpoints, options and number of parts.
        corpus: sentences to translate.
        work: folder for the parts; complete parts in it are not translated again.

    Returns:
        Hypotheses by sentence number, in the form that ``corpus.hypothesis_lines`` names: symbols
        joined with spaces and without end-of-sequence, or text. Sentences that are too long for
        the models are absent.

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
    settings: TransferSettings, corpus: Corpus, index: int, part: Path
) -> "subprocess.Popen[bytes]":
    part.mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "fairseq_cli.generate", str(settings.data),
        # the plugin allows the types in fairseq's checkpoints, which PyTorch would refuse to load
        "--user-dir", str(Path(__file__).parents[1]), *corpus.generate_args,
        "--path", ":".join(settings.checkpoints), "--gen-subset", settings.subset,
        "--beam", str(settings.beam), "--nbest", "1", "--max-tokens", str(settings.max_tokens),
        "--skip-invalid-size-inputs-valid-test", "--no-progress-bar",
        # some versions of fairseq drop a last batch of another size
        "--required-batch-size-multiple", "1",
        "--distributed-world-size", str(settings.workers), "--distributed-rank", str(index),
        "--results-path", str(part), *settings.generate_args,
    ]  # fmt: skip
    environment = dict(os.environ)
    if settings.workers > 1:
        # processes that all use all cores slow each other down
        threads = max(1, (os.cpu_count() or 1) // settings.workers)
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    with open(part / "stderr.log", "wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def _output(part: Path, settings: TransferSettings) -> Path:
    return part / f"generate-{settings.subset}.txt"


class _Counter:
    """Counter of the hypotheses in a growing file, which reads each part of the file once."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> int:
        if not self._path.is_file():
            return 0
        with open(self._path, "rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        # an incomplete last line is counted next time
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
    # newline="\n", since symbols may hold characters that Python takes for line breaks
    with open(path, encoding="utf-8", newline="\n") as stream:
        for line in stream:
            if line.startswith(f"{kind}-"):
                name, _, hypothesis = line.rstrip("\n").split("\t", 2)
                hypotheses[int(name[2:])] = hypothesis
    return hypotheses


def _failure(part: Path) -> UsageError:
    lines = (part / "stderr.log").read_text(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "no message")
    return UsageError(
        f"fairseq-generate failed: {last.strip()} (its full output is in {part}/stderr.log)"
    )
