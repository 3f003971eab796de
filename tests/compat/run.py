"""Build other environments, and run a part of the tests in each: ``make test-compat``.

Environments are kept between runs, in ``--folder``, so that only the first run installs them. Each
needs about 7 GB, as it has its own PyTorch.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from .environments import ENVIRONMENTS, QUICK, Environment

REPOSITORY = Path(__file__).parents[2]

RESULTS = REPOSITORY / "docs" / "versions.json"
TABLE = REPOSITORY / "docs" / "versions.md"
STAGES = (
    "install", "import", "train", "distil", "generate", "safe loading", "transfer set", "cache",
    "assess",
)  # fmt: skip
VERSIONS = ("fairseq", "fairseq-fixed", "torch", "torchaudio", "numpy", "hydra-core", "omegaconf")
MARK = "<!-- table: written by tests/compat/run.py -->"


def find_python(version: str) -> Optional[str]:
    """Return an interpreter of a version, on the path or of pyenv; None if there is none."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}")]
    candidates += sorted(map(str, root.glob(f"versions/{version}.*/bin/python")))
    # pyenv's own python3.x on the path can be one that only prints an error
    return next((path for path in candidates if path and _version(path) == version), None)


def _version(python: str) -> Optional[str]:
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    try:
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


class Run:
    """The run of one environment.

    Args:
        environment: the environment.
        folder: where environments are kept.
        wheel: our wheel.
        checkout: a checkout of fairseq's repository.
        quick: run a few of the tests only.
    """

    def __init__(
        self, environment: Environment, folder: Path, wheel: Path, checkout: str, quick: bool
    ) -> None:
        self.environment, self.wheel, self.checkout, self.quick = (
            environment, wheel, checkout, quick,
        )  # fmt: skip
        # an environment that is installed in another way is another one
        key = hashlib.sha256(repr(environment.install).encode()).hexdigest()[:8]
        self.prefix = folder / f"{environment.name}-{key}"
        self.logs = folder / "logs" / environment.name
        self.logs.mkdir(parents=True, exist_ok=True)

    def result(self) -> Dict[str, Any]:
        """Build the environment and run its stages.

        Returns:
            The row of the table.
        """
        python = find_python(self.environment.python)
        row: Dict[str, Any] = {"date": datetime.date.today().isoformat()}
        if python is None:
            return {**row, "missing": f"Python {self.environment.python}"}
        if self.environment.needs_checkout and not self.checkout:
            return {**row, "missing": "a checkout of fairseq's repository (--fairseq)"}
        try:
            self._install(python)
        except subprocess.CalledProcessError:
            return {**row, "stages": {"install": f"failed: see {self.logs / 'install.log'}"}}
        row["versions"] = self._versions()
        row["stages"] = {"install": "passed", **self._miniature()}
        if self.environment.tests:
            row["tests"] = self._tests(QUICK if self.quick else self.environment.tests)
        return row

    def _install(self, python: str) -> None:
        """Install with pip what is not there yet, and our wheel."""
        complete = self.prefix / "complete"
        with open(self.logs / "install.log", "w") as log:
            if not complete.exists():
                shutil.rmtree(self.prefix, ignore_errors=True)
                self._call(log, python, "-m", "venv", self.prefix)
                for args in self.environment.install:
                    names = (arg.format(wheel=self.wheel, fairseq=self.checkout) for arg in args)
                    self._pip(log, *names)
                complete.touch()
            self._pip(log, f"{self.wheel}[dev]")
            self._pip(log, "--no-deps", "--force-reinstall", str(self.wheel))

    def _pip(self, log: Any, *args: str) -> None:
        print(f"  pip install {' '.join(args)}", flush=True)
        self._call(log, self.prefix / "bin/python", "-m", "pip", "install", *args)

    def _call(self, log: Any, *command: Any) -> None:
        subprocess.run(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, check=True)

    def _versions(self) -> Dict[str, str]:
        """Return the versions of Python and of the packages that matter."""
        code = (
            "import importlib.metadata as m, json, platform; "
            "print(json.dumps({'python': platform.python_version(), "
            "**{d.metadata['Name']: d.version for d in m.distributions()}}))"
        )
        output = subprocess.check_output([self.prefix / "bin/python", "-c", code], text=True)
        found = json.loads(output)
        return {name: found[name] for name in ("python", *VERSIONS) if name in found}

    def _miniature(self) -> Dict[str, str]:
        """Run the jobs of the product with the installed wheel, from an empty folder."""
        script = Path(__file__).with_name("miniature.py")
        with tempfile.TemporaryDirectory(prefix="miniature-") as work:
            process = subprocess.Popen(
                [str(self.prefix / "bin/python"), str(script), work],
                cwd=work, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert process.stdout is not None
            with open(self.logs / "miniature.log", "w") as log:
                for line in process.stdout:
                    log.write(line)
                    print(f"  {line[:200].rstrip()}", flush=True)
            process.wait()
            stages: Dict[str, str] = json.loads((Path(work) / "stages.json").read_text())
        return {name: result.partition(":")[0] for name, result in stages.items()}

    def _tests(self, tests: Sequence[str]) -> Dict[str, int]:
        """Run tests of the suite."""
        report = self.logs / "tests.xml"
        report.unlink(missing_ok=True)
        # a copy, since the tests of several environments may run at once
        with tempfile.TemporaryDirectory(prefix="tests-") as copy:
            for name in ("benchmarks", "docs", "examples", "fairseq_pdd", "tests"):
                ignore = shutil.ignore_patterns("runs", "__pycache__")
                shutil.copytree(REPOSITORY / name, Path(copy) / name, ignore=ignore)
            for path in REPOSITORY.iterdir():
                if path.is_file():
                    shutil.copy2(path, copy)
            command = [
                str(self.prefix / "bin/python"), "-m", "pytest", "-n", "2", "--dist", "loadscope",
                "-p", "no:cacheprovider", "--junitxml", str(report), *tests,
            ]  # fmt: skip
            print(f"  {' '.join(command[1:])}", flush=True)
            with open(self.logs / "tests.log", "w") as log:
                subprocess.run(command, cwd=copy, stdout=log, stderr=subprocess.STDOUT)
        suite = ElementTree.parse(report).getroot().find("testsuite")
        assert suite is not None
        count = {
            name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
        }
        failed = count["failures"] + count["errors"]
        passed = count["tests"] - failed - count["skipped"]
        return {"passed": passed, "failed": failed, "skipped": count["skipped"]}


def build_wheel(folder: Path) -> Path:
    """Build our wheel from a copy of the files, as setuptools leaves a folder behind."""
    copy = folder / "source"
    shutil.copytree(REPOSITORY / "fairseq_pdd", copy / "fairseq_pdd")
    for name in ("setup.py", "README.md", "pyproject.toml", "LICENSE"):
        shutil.copy2(REPOSITORY / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, copy]
    subprocess.run(list(map(str, command)), check=True)
    return next(folder.glob("*.whl"))


def has_failed(row: Dict[str, Any]) -> bool:
    """Return True if a stage or a test of a row failed."""
    stages = row.get("stages", {})
    return any(stages.get(name) != "passed" for name in STAGES) or bool(
        row.get("tests", {}).get("failed")
    )


def table(rows: Dict[str, Dict[str, Any]]) -> str:
    """Return the table of the results in Markdown."""
    head = ["environment", "Python", "fairseq", "torch", "numpy", *STAGES, "tests", "date"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for environment in ENVIRONMENTS:
        row = rows.get(environment.name)
        if row is None or "missing" in row:
            continue
        versions, tests = row["versions"], row.get("tests")
        cells = [environment.name, versions["python"], environment.fairseq]
        cells += [versions["torch"].partition("+")[0], versions["numpy"]]
        cells += ["yes" if row["stages"].get(name) == "passed" else "**no**" for name in STAGES]
        cells.append("–" if tests is None else _describe(tests))
        lines.append("| " + " | ".join([*cells, row["date"]]) + " |")
    return "\n".join(lines) + "\n"


def record(name: str, row: Dict[str, Any]) -> None:
    """Write a row into ``docs/versions.json``, and the table behind its mark in ``versions.md``."""
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows[name] = row
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    text = TABLE.read_text(encoding="utf-8").partition(MARK)[0]
    TABLE.write_text(f"{text}{MARK}\n\n{table(rows)}", encoding="utf-8")


def _describe(tests: Dict[str, int]) -> str:
    return ", ".join(f"{tests[name]} {name}" for name in ("passed", "failed", "skipped"))


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the options."""
    names = [environment.name for environment in ENVIRONMENTS]
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"environments: {', '.join(names)}"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(cache) / "fairseq_pdd-compat",
        help="where environments and logs are kept (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--fairseq", default="", metavar="FOLDER", help="checkout of fairseq's repository"
    )
    parser.add_argument("--quick", action="store_true", help="run the jobs, and few of the tests")
    parser.add_argument(
        "--record", action="store_true", help="write the results to docs/versions.{json,md}"
    )
    args = parser.parse_args(argv)
    unknown = sorted(set(args.names) - set(names))
    if unknown:
        parser.error(f"no environment {', '.join(unknown)}: give some of {', '.join(names)}")
    if args.record and args.quick:
        parser.error("--record is for whole runs: remove --quick")
    return args


def main() -> None:
    """Run the environments that are named, or all; end with status 1 if something failed."""
    args = parse_args()
    failed = []
    with tempfile.TemporaryDirectory(prefix="wheel-") as folder:
        wheel = build_wheel(Path(folder))
        for environment in ENVIRONMENTS:
            if args.names and environment.name not in args.names:
                continue
            print(f"{environment.name}: Python {environment.python}, {environment.fairseq}")
            start = time.monotonic()
            run = Run(environment, args.folder, wheel, args.fairseq, args.quick)
            row = run.result()
            minutes = (time.monotonic() - start) / 60
            if "missing" in row:
                print(f"  skipped: there is no {row['missing']}", flush=True)
                if environment.name in args.names:  # asked for by name
                    failed.append(environment.name)
                continue
            verdict = "failed" if has_failed(row) else "passed"
            tests = f" ({_describe(row['tests'])})" if "tests" in row else ""
            print(f"  {verdict}{tests} in {minutes:.0f} min; logs: {run.logs}", flush=True)
            if has_failed(row):
                failed.append(environment.name)
            if args.record:
                record(environment.name, row)
    print("machine:", platform.platform())
    if failed:
        sys.exit(f"error: failed in {', '.join(failed)}")


if __name__ == "__main__":
    main()
