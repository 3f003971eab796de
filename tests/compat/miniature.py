"""The product's jobs on tiny data, by the commands that are installed beside this Python.

Run it from any folder with the Python of an environment: it uses the installed package, not the
files of the repository. It prints a line for each stage, writes ``stages.json`` and ends with
status 1 if a stage failed.
"""

import json
import math
import pickle
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

sys.path.append(str(Path(__file__).parents[2]))

from tests.plugin import commands, synthetic

USER_DIR = ("--user-dir", "fairseq_pdd")
DISTILLATION = ("--task", "distill_translation", "--criterion", "pd_send2")


class Miniature:
    """A translation data set, two members, students, and what is made with them.

    Args:
        work: empty folder.
    """

    def __init__(self, work: Path) -> None:
        self.work, self.data = work, work / "data"
        self.members = [work / f"member{seed}" / "checkpoint_best.pt" for seed in (1, 2)]
        self.ensemble = ":".join(map(str, self.members))
        self.student = work / "student" / "checkpoint_best.pt"
        self.transfer, self.cache = work / "transfer", work / "cache"
        self.records = work / "records"

    def stages(self) -> List[Tuple[str, Callable[[], None]]]:
        """Return the jobs in their order, by name."""
        return [
            ("import", self.import_package),
            ("train", self.train_members),
            ("distil", self.distil),
            ("generate", self.generate),
            ("safe loading", self.refuse_code),
            ("transfer set", self.make_transfer_set),
            ("cache", self.make_cache),
            ("assess", self.assess),
        ]

    def import_package(self) -> None:
        """Import what is installed, from a folder that does not hold the repository."""
        code = "import fairseq_pdd.tasks; print(fairseq_pdd.__file__)"
        found = subprocess.run(
            [sys.executable, "-c", code], cwd=self.work, text=True, capture_output=True, check=True
        )
        assert "site-packages" in found.stdout, found.stdout

    def train_members(self) -> None:
        """Train two members in stock fairseq."""
        synthetic.write_corpus(self.work / "text")
        commands.preprocess(self.work / "text", self.data)
        for seed, path in enumerate(self.members):
            args = commands.train_args(self.data, path.parent, "--seed", seed, updates=200)
            commands.run("fairseq-train", *args)

    def distil(self) -> None:
        """Train a student from the online ensemble."""
        log = self._distil(self.student, self.data, "--teacher-paths", self.ensemble)
        losses = [float(row["valid_loss"]) for row in log if "valid_loss" in row]
        assert len(losses) > 1, "no validation"
        assert losses[-1] < losses[0], losses

    def generate(self) -> None:
        """Translate with scores: student, ensemble, single model; from a file and interactively."""
        for system, path in self._systems():
            for name, more in {"test": (), "nll": ("--score-reference",)}.items():
                records = self.records / system / f"{name}.jsonl"
                options = ("--uncertainty-path", records, *more)
                args = commands.generate_args(self.data, path, *USER_DIR, *options)
                commands.run("fairseq-generate", *args)
                _check_records(records, knows=system != "single")
        random.Random(0).shuffle(words := synthetic.WORDS[:])
        shuffled = self.work / "shuffled.xx"
        shuffled.write_text("".join(f"{a} {b}\n" for a, b in zip(words, words[1:])))
        for system, path in self._systems():
            records = self.records / system / "ood_shuffled.jsonl"
            options = (*USER_DIR, "--input", shuffled, "--uncertainty-path", records)
            args = commands.generate_args(self.data, path, *options)
            commands.run("fairseq-interactive", *args)
            _check_records(records, knows=system != "single")

    def refuse_code(self) -> None:
        """Refuse a checkpoint with code in it, and do not run it."""
        trap, harmful = self.work / "trap", self.work / "harmful.pt"
        harmful.write_bytes(pickle.dumps(_Touch(str(trap))))
        args = commands.generate_args(self.data, harmful, *USER_DIR)
        result = commands.run("fairseq-generate", *args, check=False)
        assert result.returncode == 1, result.stderr
        assert result.stderr.strip().rpartition("\n")[2].startswith("fairseq_pdd: error: ")
        assert not trap.exists(), "the code in a checkpoint was run"

    def make_transfer_set(self) -> None:
        """Replace the references by the ensemble's translations."""
        args = (self.data, "--path", self.ensemble, "--destdir", self.transfer)
        commands.run("fairseq-pdd", "transfer-set", *args, "--cpu", "--max-tokens", 2000)
        assert (self.transfer / "train.xx-yy.yy.bin").exists()

    def make_cache(self) -> None:
        """Keep the ensemble's statistics on disk, and train with them."""
        args = (self.transfer, "--path", self.ensemble, "--destdir", self.cache)
        commands.run("fairseq-pdd", "teacher-cache", *args, "--cpu")
        cached = self.work / "cached" / "checkpoint_best.pt"
        log = self._distil(cached, self.transfer, "--teacher-cache", self.cache)
        assert any("valid_loss" in row for row in log)

    def assess(self) -> None:
        """Make the tables and the page from the records."""
        systems = [self.records / system for system, _ in self._systems()]
        for folder in systems:
            files = (folder / "test.jsonl", folder / "ood_shuffled.jsonl")
            commands.run("fairseq-pdd", "assess", "ood", *files)
            commands.run("fairseq-pdd", "assess", "errors", folder / "test.jsonl")
        table, page = self.work / "table.json", self.work / "report.html"
        commands.run("fairseq-pdd", "assess", "table", self.records, "--json", table)
        assert set(json.loads(table.read_text())["systems"]) == {folder.name for folder in systems}
        commands.run("fairseq-pdd", "report", self.records, "--out", page)
        page_text = page.read_text(encoding="utf-8")
        assert all(folder.name in page_text for folder in systems)

    def _systems(self) -> List[Tuple[str, Any]]:
        return [
            ("single", self.members[0]),
            ("ensemble", self.ensemble),
            ("pd_send2", self.student),
        ]

    def _distil(self, student: Path, data: Path, *args: Any) -> List[Dict[str, Any]]:
        options = (*USER_DIR, *DISTILLATION, *args)
        result = commands.run(
            "fairseq-train", *commands.train_args(data, student.parent, *options, updates=60)
        )
        assert student.exists()
        lines = (result.stdout + result.stderr).splitlines()
        return [json.loads(line[line.index("{") :]) for line in lines if '{"epoch"' in line]


class _Touch:
    """An object whose unpickling makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def _check_records(path: Path, knows: bool) -> None:
    """Check that all measures are there and finite; knowledge uncertainty where there can be."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) > 30, path
    for row in rows:
        measures = row["sequence"]
        assert (measures["rmi"] is not None) == knows, path
        assert all(value is None or math.isfinite(value) for value in measures.values()), row
        assert measures["total"] > 0, row


def main() -> None:
    """Run the stages; a failed one does not stop the others."""
    work = Path(sys.argv[1]).resolve()
    miniature, results = Miniature(work), {}
    for name, stage in miniature.stages():
        start = time.monotonic()
        try:
            stage()
            results[name] = "passed"
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            line = error.__traceback__ and traceback.extract_tb(error.__traceback__)[-1]
            results[name] = f"failed: {line and line.line}: {error}"
        print(f"{name}: {results[name]} ({time.monotonic() - start:.0f} s)", flush=True)
    (work / "stages.json").write_text(json.dumps(results, indent=1))
    sys.exit(any(result != "passed" for result in results.values()))


if __name__ == "__main__":
    main()
