"""Imports run one way. Import time of `import mores`: tests/conformance/test_import.py."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
# Parts of mores that each part may import besides itself. `experiments` is ordered inside as well.
ANYTHING = {"*"}
DEFINITIONS = {"experiments.scenario", "experiments.results", "experiments.claims"}
TRAINING = {
    f"experiments.{name}"
    for name in ("training", "trained", "training_episodes", "training_setup", "learning_curve",
                 "trained_file", "trained_policy")
}  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": ANYTHING,  # public names, imported at their first use
    "core": set(),
    "registry": {"core"},  # names modules, and imports them at their first use
    "sim": {"core", "registry"},  # makes metrics by name
    "envs": {"core", "registry"},
    "agents": {"core", "registry"},  # `per_agent` builds its policies by name
    "clients": {"core", "registry", "sim"},
    "metrics": {"core"},
    "analysis": {"core"},
    "experiments.scenario": {"core", "registry", "sim"},
    "experiments.results": {"core", "registry", "sim", "experiments.scenario"},
    "experiments.claims": {
        *("core", "metrics", "analysis"),
        *("experiments.scenario", "experiments.results"),
    },
    "report": {"core", "registry", "analysis", *DEFINITIONS},  # draws figures by name
    "experiments.inspect_tasks": {"core", "sim", "experiments.scenario"},
    "experiments.progress": {"core"},
    "experiments.tracking": {"core", "registry"},
    "experiments.run": {
        *("core", "registry", "sim", "analysis", "report", "experiments.progress"),
        *("experiments.learning_curve", "experiments.tracking", *DEFINITIONS),
    },
    "experiments.launchers": {"core", "registry", "experiments.run", *DEFINITIONS},
    "experiments.calibration": {"core", "experiments.progress", "experiments.run", *DEFINITIONS},
    **{
        part: {
            *("core", "registry", "sim", "analysis"),
            *("experiments.progress", "experiments.results", "experiments.tracking"),
            *TRAINING,
        }
        for part in TRAINING
    },
    "cli": ANYTHING,
}


# What may hold statements.
STATEMENTS = ast.stmt, ast.Module, ast.ExceptHandler, ast.match_case


@functools.cache
def modules() -> dict[str, Path]:
    """Path of every module of mores, by its name without `mores.`; links are followed."""
    paths = {}
    for top in [SOURCE / "mores", *(p for p in (SOURCE / "mores").iterdir() if p.is_symlink())]:
        for path in top.rglob("*.py"):
            parts = path.relative_to(SOURCE / "mores").with_suffix("").parts
            name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
            paths[name] = path
    return paths


@functools.cache
def is_package(name: str) -> bool:
    return (SOURCE / name.replace(".", "/")).is_dir()


def imported(name: str, path: Path, at_run_time: bool = False) -> Iterator[tuple[int, str]]:
    """Line and name of every module that a module imports, at any level."""
    package = ["mores", *name.split(".")]
    for node in imports(path, at_run_time):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - (path.name == "__init__.py")
            base = package[: len(package) - up] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                is_module = inner.removeprefix("mores.") in modules()
                yield node.lineno, inner if is_module or is_package(inner) else module


def within(module: str, parts: set[str]) -> bool:
    return any(module == part or module.startswith(f"{part}.") for part in parts)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@functools.cache
def imports(path: Path, at_run_time: bool) -> list[ast.Import | ast.ImportFrom]:
    """Import statements of a file; at run time: not those for type checkers and of `__main__`."""
    found, nodes = [], list[ast.AST]([parsed(path)])
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif isinstance(node, STATEMENTS) and not (at_run_time and is_guarded(node)):
            nodes += ast.iter_child_nodes(node)
    return found


def is_guarded(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:` or `if __name__ == "__main__":`."""
    if not isinstance(node, ast.If):
        return False
    return ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")


def python_files() -> list[Path]:
    """Every Python file of the repository, each once."""
    folders = ("src", "envs", "agents", "tests", "benchmarks", "docs", "scripts")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_imports_run_one_way(part: str) -> None:
    allowed = MAY_IMPORT[part] | {part}
    wrong = []
    for name, path in modules().items():
        if not within(name, {part}):
            continue
        for line, target in imported(name, path, at_run_time=True):
            if allowed & ANYTHING or target.split(".")[0] != "mores":
                continue
            if not within(target.removeprefix("mores").removeprefix("."), allowed):
                wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def part_of(module: str) -> str:
    """The part of a module: its package, of `experiments` one level deeper."""
    names = module.split(".")
    return ".".join(names[: 2 if names[0] == "experiments" else 1])


def test_every_part_is_listed() -> None:
    parts = {part_of(name) for name in modules()} - {"scenarios", "__main__", "experiments"}
    assert parts == set(MAY_IMPORT), "MAY_IMPORT must have an entry for every part"


def test_there_are_no_import_cycles() -> None:
    """Imports inside functions and for type checkers count."""
    graph = networkx.DiGraph()
    for name, path in modules().items():
        if name == "__init__":
            continue
        for _, target in imported(name, path):
            graph.add_edge(f"mores.{name}", target)
    cycles = [sorted(c) for c in networkx.strongly_connected_components(graph) if len(c) > 1]
    assert not cycles
    assert not list(networkx.selfloop_edges(graph))


def test_top_level_folders_are_not_imported() -> None:
    """`import envs.x` would create a second copy of every class in `mores.envs.x`."""
    statement = re.compile(r"^ *(?:import|from) +(?:envs|agents|scenarios)\b", re.MULTILINE)
    wrong = [
        f"{path.relative_to(ROOT)} has {found[0]}"
        for path in python_files()
        if (found := statement.findall(path.read_text()))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.full
def test_names_that_benchmarks_import_exist() -> None:
    """Most benchmarks run in no test; an import of a name that moved would stop them."""
    missing = []
    for path in (ROOT / "benchmarks").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.ImportFrom) or not within(node.module or "", {"mores"}):
                continue
            module = importlib.import_module(node.module or "")
            missing += [
                f"{path.relative_to(ROOT)}:{node.lineno} {node.module}.{alias.name}"
                for alias in node.names
                if not hasattr(module, alias.name)
                and f"{node.module}.{alias.name}".removeprefix("mores.") not in modules()
            ]
    assert not missing, "\n".join(missing)


def test_public_modules_have_a_docstring() -> None:
    undocumented = [
        name
        for name, path in modules().items()
        if not path.stem.startswith("_") and not ast.get_docstring(parsed(path))
    ]
    assert not undocumented
