"""Costs and directions of imports: light parts stay light, and arrows point one way."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fairseq_pdd"

# runs a statement in a fresh interpreter, and writes its effects to a file
PROBE = """
import json, logging, sys
effects, statement = sys.argv[1:]
root = logging.getLogger()
level, handlers = root.level, list(root.handlers)
try:
    exec(statement)
except SystemExit as end:
    assert not end.code, end
logs = {"level": root.level == level, "handlers": root.handlers == handlers}
with open(effects, "w") as stream:
    json.dump({"modules": list(sys.modules), "logs": logs}, stream)
"""

SLOW = {"torch", "fairseq", "matplotlib", "scipy", "sklearn", "sacrebleu", "jiwer"}
# statement, modules that it needs, modules that it must not load
IMPORTS: List[Tuple[str, Set[str], Set[str]]] = [
    ("import fairseq_pdd", {"fairseq_pdd.version"}, SLOW | {"numpy"}),
    ("import fairseq_pdd.errors", set(), SLOW | {"numpy"}),
    ("import fairseq_pdd.core", {"torch"}, SLOW - {"torch"}),
    ("import fairseq_pdd.records", {"numpy"}, SLOW),
    ("import fairseq_pdd.assess", {"fairseq_pdd.records"}, SLOW),
    ("import fairseq_pdd.assess.plots", {"matplotlib"}, {"torch", "fairseq"}),
    ("import fairseq_pdd.report.assemble", {"fairseq_pdd.assess"}, {"torch", "fairseq"}),
    ("import fairseq_pdd.cli.main", {"typer"}, SLOW),
]
COMMANDS = [
    "",
    "transfer-set",
    "teacher-cache",
    "average-checkpoints",
    "plain-checkpoint",
    "join-records",
    "report",
    "assess",
    "assess ood",
    "assess errors",
    "assess token-errors",
    "assess calibration",
    "assess faithfulness",
    "assess table",
]

# packages by layer: each may import those of the layers before its own
LAYERS = [
    {"version", "errors", "_compat"},
    {"_requirements"},
    {"_fairseq"},
    {"core", "records", "speech"},
    {"assess", "models", "checkpoints"},
    {"report", "teacher", "generation"},
    {"criterions"},
    {"tasks"},
    {"transfer", "hub"},
    {"cli"},
]
# the only packages of ours that these import
ALLOWED: Dict[str, Set[str]] = {
    "version": set(),
    "errors": set(),
    "core": set(),
    "records": {"errors"},
    "assess": {"records", "errors", "version", "_requirements"},
    "report": {"assess", "records", "errors", "version", "_requirements"},
}


def probe(statement: str, folder: Path) -> Tuple[Dict[str, Any], str]:
    """Run a statement in a fresh interpreter; returns its effects and its standard output."""
    effects = folder / "effects.json"
    finished = subprocess.run(
        [sys.executable, "-c", PROBE, str(effects), statement],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    found = json.loads(effects.read_text())
    assert found["logs"] == {"level": True, "handlers": True}
    return found, finished.stdout


@pytest.mark.parametrize(("statement", "needed", "forbidden"), IMPORTS)
def test_an_import_costs_what_it_needs(
    statement: str, needed: Set[str], forbidden: Set[str], tmp_path: Path
) -> None:
    found, printed = probe(statement, tmp_path)
    assert printed == ""
    assert needed <= set(found["modules"])
    assert forbidden.isdisjoint(found["modules"])


def test_the_package_itself_loads_nothing_but_its_version(tmp_path: Path) -> None:
    found, _ = probe("import fairseq_pdd", tmp_path)
    ours = {name for name in found["modules"] if name.startswith("fairseq_pdd")}
    assert ours == {"fairseq_pdd", "fairseq_pdd.version"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_light_and_prints_nothing_else(command: str, tmp_path: Path) -> None:
    words = [*command.split(), "--help"]
    statement = (
        f"import sys; sys.argv = ['fairseq-pdd', *{words}]; "
        "from fairseq_pdd.cli.main import app; app()"
    )
    found, printed = probe(statement, tmp_path)
    assert printed.split()[:2] == ["Usage:", "fairseq-pdd"]
    assert SLOW.isdisjoint(found["modules"])


def test_the_table_has_every_command() -> None:
    from typer.main import get_command

    from fairseq_pdd.cli.main import app

    def walk(command: Any, name: str) -> Iterator[str]:
        yield name
        for child, found in getattr(command, "commands", {}).items():
            yield from walk(found, f"{name} {child}".strip())

    assert sorted(walk(get_command(app), "")) == sorted(COMMANDS)


def modules() -> Dict[str, Path]:
    """Return the files of all modules by name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, functions: bool) -> Iterator[Tuple[int, str, List[str]]]:
    """Yield level, module and names of each import of a file.

    Args:
        path: file.
        functions: include the imports inside functions. Those for type checkers are never
            included.
    """
    stack: List[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            stack += node.orelse
        elif functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            stack += ast.iter_child_nodes(node)


def targets(module: str, functions: bool) -> Set[str]:
    """Return the modules that a module imports: ours in full, others by their first name."""
    known = modules()
    package = module if known[module].name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for level, name, members in imports(known[module], functions):
        if level:
            parts = package.split(".")
            name = ".".join([*parts[: len(parts) - level + 1], *([name] if name else [])])
        if name.split(".")[0] != PACKAGE.name:
            found.add(name.split(".")[0])
            continue
        members = [f"{name}.{member}" for member in members]
        found |= {member if member in known else name for member in members} or {name}
    return found


def package_of(module: str) -> str:
    """Return the first name below fairseq_pdd."""
    return f"{module}.".split(".")[1]


def package_imports() -> Dict[str, Set[str]]:
    """Return the packages of ours that each package imports, inside functions too."""
    found: Dict[str, Set[str]] = {}
    for module in modules():
        own = package_of(module)
        ours = {package_of(name) for name in targets(module, True) if name.startswith(PACKAGE.name)}
        found.setdefault(own, set()).update(ours - {own})
    found.pop("")  # fairseq_pdd itself, which loads its parts on demand
    return found


def test_there_is_no_import_circle() -> None:
    import graphlib

    graph = {module: targets(module, False) - {module} for module in modules()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_packages_import_those_of_lower_layers_only() -> None:
    layer_of = {package: layer for layer, names in enumerate(LAYERS) for package in names}
    found = package_imports()
    assert layer_of.keys() >= found.keys(), "give each package a place in LAYERS"
    for package, imported in found.items():
        upwards = {name for name in imported if layer_of[name] >= layer_of[package]}
        assert not upwards, f"{package} imports {upwards}"


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_the_foundations_import_nothing_else_of_ours(package: str) -> None:
    assert package_imports()[package] <= ALLOWED[package]


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("core", {"fairseq"}),
        ("records", {"torch", "fairseq"}),
        ("assess", {"torch", "fairseq"}),
        ("report", {"torch", "fairseq"}),
    ],
)
def test_no_function_imports_what_its_package_must_not(package: str, forbidden: Set[str]) -> None:
    for module in modules():
        if package_of(module) == package:
            assert targets(module, True).isdisjoint(forbidden), module
