"""The base install and its extras, and the line about what is not installed or too old."""

import ast
import json
import os
import shutil
import subprocess
import sys
import traceback
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest
from packaging.requirements import Requirement
from torch.multiprocessing import ProcessRaisedException

from fairseq_pdd._requirements import EXTRAS, describe_missing
from fairseq_pdd.errors import MissingRequirement, UsageError, show_usage_errors_in_one_line

from .bad_inputs.processes import Ended, run
from .test_imports import PACKAGE, ROOT, modules, package_of, targets

# modules by the requirement that brings them
BASE = {
    "numpy": {"numpy"},
    "orjson": {"orjson"},
    "rich": {"rich"},
    "sacrebleu": {"sacrebleu"},
    "scipy": {"scipy"},
    "sentencepiece": {"sentencepiece"},
    "torch": {"torch"},
    "tqdm": {"tqdm"},
    "typer": {"typer"},
    "fairseq-fixed": {"fairseq", "hydra", "omegaconf"},
}
EXTRA_OF = {"assess": "assess", "report": "report", "speech": "speech"}
"""Extras of our packages; the others need none."""
BY_OTHERS = {"sklearn", "tabulate"}
"""Modules of extras that versions of fairseq and sacreBLEU import themselves."""
ERROR = "fairseq_pdd: error: "


def without(*names: str) -> str:
    """Return statements after which modules cannot be imported."""
    return f"import sys; sys.modules.update(dict.fromkeys({names!r}))\n"


def interpret(script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def error_line(ended: Ended) -> str:
    """Return the line of an error, the only thing that a command has printed about it."""
    assert ended.status == 1
    assert "Traceback" not in ended.stdout + ended.stderr, ended.stderr
    *_, line = ended.stderr.splitlines()
    assert (ended.stdout + ended.stderr).count(ERROR) == 1
    assert line.startswith(ERROR)
    return line[len(ERROR) :]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> PathDistribution:
    """Metadata of a wheel, built by setuptools without the network."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta as b; b.prepare_metadata_for_build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=folder, check=True, capture_output=True)
    (found,) = folder.glob("*.dist-info")
    return PathDistribution(found)


def required(metadata: PathDistribution, extra: str = "", python: str = "3.11") -> Dict[str, str]:
    """Return the requirements of the base install, or those that an extra adds, by name."""

    def holds(requirement: Requirement, extra: str) -> bool:
        marker = requirement.marker
        return marker is None or marker.evaluate({"extra": extra, "python_version": python})

    parsed = [Requirement(line) for line in metadata.requires or []]
    return {
        r.name: str(r.specifier) for r in parsed if holds(r, extra) and not (extra and holds(r, ""))
    }


def test_the_base_install_has_what_training_and_generation_need(metadata: Any) -> None:
    assert required(metadata).keys() == BASE.keys()
    assert required(metadata)["torch"] == ">=2.6"
    assert metadata.metadata["Requires-Python"] == ">=3.9"
    for python in ("3.9", "3.10"):
        names = required(metadata, python=python)
        assert Requirement(f"fairseq{names['fairseq']}").specifier.contains("0.12.2")
        assert not Requirement(f"fairseq{names['fairseq']}").specifier.contains("0.13")
        assert "fairseq-fixed" not in names
    for python in ("3.11", "3.13"):
        assert required(metadata, python=python)["fairseq-fixed"] == ">=0.12.3.1"
        assert "fairseq" not in required(metadata, python=python)


def test_the_wheel_has_the_extras_of_the_table(metadata: Any) -> None:
    assert set(metadata.metadata.get_all("Provides-Extra")) == {*EXTRAS, "dev"}
    for extra, packages in EXTRAS.items():
        listed = map(Requirement, packages.values())
        assert required(metadata, extra) == {r.name: str(r.specifier) for r in listed}
    everything = [required(metadata, extra) for extra in EXTRAS if extra != "all"]
    assert required(metadata, "all").keys() == set().union(*everything)


def test_each_package_imports_its_extra_only() -> None:
    base = set().union(*BASE.values())
    used: Dict[str, Set[str]] = {}
    for module in modules():
        package = package_of(module)
        imported = {name for name in targets(module, True) if not name.startswith(PACKAGE.name)}
        used.setdefault(package, set()).update(imported - set(sys.stdlib_module_names) - base)
    for package, imported in used.items():
        extra = EXTRA_OF.get(package)
        assert imported <= (EXTRAS[extra] if extra else {}).keys(), package
    assert used["assess"] == EXTRAS["assess"].keys()
    assert used["speech"] | {"editdistance"} == EXTRAS["speech"].keys()  # fairseq's WER


def test_all_but_assessment_and_recordings_works_without_extras(tmp_path: Path) -> None:
    file = tmp_path / "failed.json"
    import_all = f"""
import fairseq_pdd, importlib, json, pkgutil
failed = {{}}
for found in pkgutil.walk_packages(fairseq_pdd.__path__, "fairseq_pdd.", lambda name: None):
    try:
        importlib.import_module(found.name)
    except ImportError as error:
        failed[found.name] = type(error).__name__
with open({str(file)!r}, "w") as stream:
    json.dump(failed, stream)
"""
    blocked = without(*EXTRAS["all"].keys() - BY_OTHERS)
    ended = run(["fairseq-pdd", "--version"], tmp_path, before=blocked + import_all)
    assert ended.status == 0, ended.stderr
    assert json.loads(file.read_text()) == dict.fromkeys(
        [
            "fairseq_pdd.assess",
            "fairseq_pdd.cli.assess",
            "fairseq_pdd.cli.report",
            "fairseq_pdd.report",
            "fairseq_pdd.speech.decoded",
            "fairseq_pdd.tasks._speech_recognition",
        ],
        "MissingRequirement",
    )


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("assess", "assess"),
        ("assess --help", "assess"),
        ("assess ood test.jsonl ood_a.jsonl --plots figures", "assess"),
        ("report records --out page.html", "report"),
    ],
)
def test_a_command_without_its_extra(words: str, extra: str, tmp_path: Path) -> None:
    ended = run(["fairseq-pdd", *words.split()], tmp_path, before=without("sklearn", "jiwer"))
    assert error_line(ended) == (
        f"jiwer and scikit-learn are not installed; fairseq-pdd {extra} needs them: "
        f'pip install "{ROOT}[{extra}]"'
    )


@pytest.mark.parametrize(
    "words",
    ["--help", "--version", *(f"{name} --help" for name in ("transfer-set", "teacher-cache"))],
)
def test_a_command_that_needs_no_extra(words: str, tmp_path: Path) -> None:
    ended = run(["fairseq-pdd", *words.split()], tmp_path, before=without(*EXTRAS["all"]))
    assert ended.status == 0, ended.stderr
    if words == "--help":
        assert ended.stdout.count("Not installed: needs the extra") == 2


@pytest.mark.parametrize("package", ["assess", "report"])
def test_a_package_without_its_extra(package: str) -> None:
    ended = interpret(without("sklearn") + f"import fairseq_pdd.{package}")
    *_, line = ended.stderr.splitlines()
    assert line == (
        "fairseq_pdd.errors.MissingRequirement: scikit-learn is not installed; "
        f'fairseq_pdd.{package} needs it: pip install "{ROOT}[{package}]"'
    )
    assert issubclass(MissingRequirement, UsageError)
    assert issubclass(MissingRequirement, ImportError)


def test_an_installed_package_names_itself(tmp_path: Path) -> None:
    """Without the folder of setup.py, pip takes the extra of the installed package."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    path = f"sys.path.insert(0, {str(tmp_path)!r})\n"
    ended = interpret(without("sklearn") + path + "import fairseq_pdd.assess")
    assert ended.stderr.endswith('needs it: pip install "fairseq_pdd[assess]"\n')


def train(*args: str) -> List[str]:
    """Return a command whose data need not exist."""
    return ["fairseq-train", "data", "--user-dir", str(PACKAGE), *args]


TEXT = train("--task", "distill_translation", "--arch", "transformer", "--criterion", "pd_send2")
SPEECH = train("--task", "distill_speech_recognition", "--arch", "vggtransformer_1")


@pytest.mark.parametrize(
    ("before", "command", "expected"),
    [
        (
            without("soundfile", "torchaudio"),
            SPEECH,
            "soundfile and torchaudio are not installed; examples/speech_recognition of fairseq "
            f'needs them: pip install "{ROOT}[speech]"',
        ),
        (
            without("orjson"),
            TEXT,
            f'orjson is not installed; fairseq_pdd needs it: pip install "{ROOT}"',
        ),
        (
            "import torch; torch.__version__ = '2.4.1+cu121'",
            TEXT,
            "PyTorch 2.4.1+cu121 is installed; fairseq_pdd needs 2.6 or later: "
            'pip install "torch>=2.6"',
        ),
        (
            "import torch; torch.__version__ = '2.5.0a0'",
            ["fairseq-pdd", "teacher-cache", "data", "--path", "a.pt:b.pt", "--destdir", "cache"],
            "PyTorch 2.5.0a0 is installed; fairseq_pdd needs 2.6 or later: "
            'pip install "torch>=2.6"',
        ),
        (
            "import sys; sys.version_info = (3, 8, 18, 'final', 0)",
            TEXT,
            f"this is Python 3.8 ({sys.executable}); fairseq_pdd needs 3.9 or later: install "
            "fairseq and fairseq_pdd there",
        ),
    ],
    ids=["speech", "base", "torch", "torch of a command of ours", "python"],
)
def test_what_is_missing_or_old_ends_a_command_in_one_line(
    before: str, command: List[str], expected: str, tmp_path: Path
) -> None:
    assert error_line(run(command, tmp_path, before=before)) == expected


def test_the_oldest_pytorch_passes(tmp_path: Path) -> None:
    before = "import torch; torch.__version__ = '2.6.0a0+git'"
    ended = run(
        ["fairseq-generate", "data", *TEXT[2:6], "--path", "no.pt"], tmp_path, before=before
    )
    assert "no.pt" in error_line(ended)


def test_old_versions_of_python_reach_the_check() -> None:
    """The modules up to the check have no newer syntax."""
    for name in ("__init__", "version", "_requirements", "errors"):
        source = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
        ast.parse(source, feature_version=(3, 7))


def test_losses_need_no_fairseq_and_models_name_it(tmp_path: Path) -> None:
    blocked = without("fairseq", "orjson", "scipy", "tqdm", *EXTRAS["all"])
    use = "import fairseq_pdd.core; print('imported'); fairseq_pdd.load"
    ended = run(["fairseq-pdd", "--version"], tmp_path, before=blocked + use)
    assert ended.stdout == "imported\n"
    assert error_line(ended) == (
        "fairseq, orjson, scipy and tqdm are not installed; fairseq_pdd needs them: pip install "
        f'"{ROOT}"'
    )


def test_a_package_that_is_missing_in_a_worker_is_shown_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch.multiprocessing raises an exception whose message is the worker's traceback."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    show_usage_errors_in_one_line()
    try:
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise MissingRequirement("tabulate is not installed") from error
    except MissingRequirement:
        text = f"-- Process 0 terminated with the following error:\n{traceback.format_exc()}"
    error = ProcessRaisedException(text, 0, 1)
    sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == f"{ERROR}tabulate is not installed\n"


def test_errors_of_fairseq_about_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from fairseq.scoring.wer import WerScorer, WerScorerConfig

    monkeypatch.setitem(sys.modules, "editdistance", None)
    with pytest.raises(ImportError) as raised:
        WerScorer(WerScorerConfig())
    assert describe_missing(raised.value) == (
        f'editdistance is not installed; this command needs it: pip install "{ROOT}[speech]"'
    )
    assert describe_missing(ModuleNotFoundError(name="sacremoses")) is None
    assert describe_missing(ModuleNotFoundError(name="soundfile.missing")) is None  # is installed
    assert describe_missing(ValueError("soundfile")) is None
