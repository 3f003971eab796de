"""Translation of a subset by ``fairseq-generate``, in parts that survive an interruption.

Each part is a folder. A process writes into a new folder in it, and when it has ended well, a
note names its output. Processes that outlive a killed command write into folders that nobody
reads.
"""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from tqdm import tqdm

from ..errors import UsageError
from ..records.files import write_text
from ..teacher.cache.content import file_sha256
from .corpus import GENERATED, Corpus
from .options import own_args
from .settings import TransferSettings

_POLL_SECONDS = 0.5
_OUTPUT = f"generate-{GENERATED}.txt"
_NOTE = "complete.json"


def translate(
    settings: TransferSettings,
    corpus: Corpus,
    data: Path,
    work: Path,
    number: int,
    own: Sequence[int],
) -> Dict[int, str]:
    """Find the best hypothesis of each sentence in some parts.

    Args:
        settings: checkpoints, options and number of processes.
        corpus: sentences to translate.
        data: folder with the subset to translate, from ``corpus.stage``.
        work: folder for the parts; complete parts in it are not translated again.
        number: number of parts that the corpus is divided into.
        own: numbers of the parts to translate.

    Returns:
        Hypotheses by sentence number, in the form that ``corpus.hypothesis_lines`` names: symbols
        joined with spaces and without end-of-sequence, or text. Sentences that are too long for
        the models are absent.

    Raises:
        UsageError: fairseq-generate failed.
    """
    parts = _parts(settings, work, number, own)
    pending = [(i, part) for i, part in parts.items() if _finished(part) is None]
    _require_division(settings, work, pending)
    attempts = [_Attempt(part, (i, number), gpu) for gpu, (i, part) in enumerate(pending)]
    waiting = attempts[:]
    running: List[_Attempt] = []
    try:
        with tqdm(
            total=len(corpus) * len(parts) // number,
            desc="translating",
            unit=" sentences",
            mininterval=0.5 if sys.stderr.isatty() else 15,
        ) as bar:
            finished = filter(None, map(_finished, parts.values()))
            bar.update(sum(_Counter(output).new() for output in finished))
            while waiting or running:
                while waiting and len(running) < settings.workers:
                    waiting[0].start(settings, corpus, data)
                    running.append(waiting.pop(0))
                time.sleep(_POLL_SECONDS)
                bar.update(sum(attempt.counter.new() for attempt in attempts))
                running = [attempt for attempt in running if not attempt.ended()]
    finally:
        for attempt in running:
            attempt.stop()
    hypotheses: Dict[int, str] = {}
    for part in parts.values():
        output = _finished(part)
        if output is None:
            raise UsageError(f"{part} has been changed by another program: start again")
        hypotheses.update(_read(output, corpus.hypothesis_lines))
    return hypotheses


def has_finished_part(work: Path) -> bool:
    """Return True if a run has translated a part to its end."""
    return any(work.glob(f"part-*/{_NOTE}"))


def _parts(
    settings: TransferSettings, work: Path, number: int, own: Sequence[int]
) -> Dict[int, Path]:
    """Return the folders of the parts; each division of the sentences has its own."""
    division = [number, settings.max_tokens, *settings.generate_args]
    name = hashlib.sha256(json.dumps(division).encode()).hexdigest()[:8]
    return {i: work / f"part-{i}-of-{number}-{name}" for i in own}


def _require_division(
    settings: TransferSettings, work: Path, pending: Sequence[Tuple[int, Path]]
) -> None:
    """Refuse to join shards that were made by another division, whose work would be lost."""
    joins = settings.num_shards > 1 and settings.shard_id is None
    divisions = {path.name.partition("-of-")[2] for _, path in pending}
    others = [
        note.parent.name
        for note in work.glob(f"part-*/{_NOTE}")
        if note.parent.name.partition("-of-")[2] not in divisions
    ]
    if joins and pending and others:
        raise UsageError(
            f"{work} holds {others[0]}, a part by another division: join with the --num-shards, "
            "--workers, --max-tokens and options after ' -- ' of the shards"
        )


class _Attempt:
    """A process of fairseq-generate that translates a part.

    Args:
        part: folder of the part.
        division: number of the part, and of all parts.
        gpu: number of the GPU, where there is one; beyond the last, the first follows.
    """

    def __init__(self, part: Path, division: Tuple[int, int], gpu: int) -> None:
        self.part, self._division, self._gpu = part, division, gpu
        # what a killed command left
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=part))
        self.counter = _Counter(self._folder / _OUTPUT)
        self._process: Optional[subprocess.Popen[bytes]] = None

    def start(self, settings: TransferSettings, corpus: Corpus, data: Path) -> None:
        """Start the process."""
        self._process = _start(settings, corpus, data, self._division, self._gpu, self._folder)

    def ended(self) -> bool:
        """Return True if the process has ended, and note its output.

        Raises:
            UsageError: the process failed.
        """
        assert self._process is not None
        if self._process.poll() is None:
            return False
        output = self._folder / _OUTPUT
        if self._process.returncode != 0 and not self._has_no_sentence():
            raise self._failure()
        if not output.is_file():
            raise self._failure()
        note = {"file": f"{self._folder.name}/{_OUTPUT}", "sha256": file_sha256(output)}
        write_text(self.part / _NOTE, json.dumps(note) + "\n")
        return True

    def stop(self) -> None:
        """End the process."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _has_no_sentence(self) -> bool:
        """Return True if all sentences of the part are too long, which fairseq fails for."""
        # it divides by the time of the sentences
        return self._last_line().startswith("ZeroDivisionError") and self.counter.total() == 0

    def _last_line(self) -> str:
        lines = (self._folder / "stderr.log").read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "no message").strip()

    def _failure(self) -> UsageError:
        assert self._process is not None
        line = self._last_line()
        if self._process.returncode < 0:
            line = f"signal {-self._process.returncode} ended it (out of memory?); {line}"
        line = line.replace("fairseq_pdd: error: ", "")
        return UsageError(
            f"fairseq-generate failed: {line} (its full output is in {self._folder}/stderr.log)"
        )


def _start(
    settings: TransferSettings,
    corpus: Corpus,
    data: Path,
    division: Tuple[int, int],
    gpu: int,
    folder: Path,
) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable, "-m", "fairseq_cli.generate", *own_args(settings, corpus, data),
        # the plugin allows the types in fairseq's checkpoints, which PyTorch would refuse to load
        "--user-dir", str(Path(__file__).parents[1]),
        "--distributed-world-size", str(division[1]), "--distributed-rank", str(division[0]),
        "--results-path", str(folder), *settings.generate_args,
    ]  # fmt: skip
    environment = {**os.environ, **_own_gpu(gpu)}
    if settings.workers > 1:
        # processes that all use all cores slow each other down
        threads = max(1, (os.cpu_count() or 1) // settings.workers)
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    with open(folder / "stderr.log", "wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def _own_gpu(index: int) -> Dict[str, str]:
    """Return variables that show a process one GPU only, as fairseq-generate takes the first."""
    number = torch.cuda.device_count()
    if number < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else list(map(str, range(number)))
    return {"CUDA_VISIBLE_DEVICES": names[index % number]}


def _end_with_parent() -> None:
    """Have Linux kill this process when the command that started it dies."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


class _Counter:
    """Counter of the hypotheses in a growing file, which reads each part of the file once."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._found = path, 0, 0

    def new(self) -> int:
        """Return the number of hypotheses since the last call."""
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
        found = data[:end].count(b"\nH-")
        self._found += found
        return found

    def total(self) -> int:
        """Return the number of hypotheses."""
        self.new()
        return self._found


def _finished(part: Path) -> Optional[Path]:
    """Return the output of a part that is complete and intact."""
    try:
        note = json.loads((part / _NOTE).read_text(encoding="utf-8"))
        output = part / note["file"]
        return output if file_sha256(output) == note["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _read(path: Path, kind: str) -> Dict[int, str]:
    hypotheses = {}
    # newline="\n", since symbols may hold characters that Python takes for line breaks
    with open(path, encoding="utf-8", newline="\n") as stream:
        for line in stream:
            if line.startswith(f"{kind}-"):
                name, _, hypothesis = line.rstrip("\n").split("\t", 2)
                hypotheses[int(name[2:])] = hypothesis
    return hypotheses
