"""Imports run one way. How light `import mores` is: tests/conformance."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
# What each part may import of mores, besides itself. The order is that of ARCHITECTURE: a part
# stands below those that may import it. `experiments` is ordered inside as well.
ANYTHING = {"*"}
DEFINITIONS = {"experiments.scenario", "experiments.results", "experiments.claims"}
TRAINING = {"experiments.training", "experiments.trained", "experiments.tensor_file"}
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": ANYTHING,  # the public names, imported when they are used
    "core": set(),
    "registry": {"core"},  # names modules, and imports none until asked
    "sim": {"core"},
    "envs": {"core", "registry"},
    # `per_agent` builds the policies that its agents name; offline learners read episode datasets.
    "agents": {"core", "registry", "sim.episode_dataset"},
    "clients": {"core", "registry", "sim"},
    "metrics": {"core"},
    "analysis": {"core"},
    "experiments.scenario": {"core", "registry", "sim"},
    "experiments.results": {"core", "sim", "experiments.scenario"},
    "experiments.claims": {
        *("core", "metrics", "analysis"),
        *("experiments.scenario", "experiments.results"),
    },
    "report": {"core", "analysis", *DEFINITIONS},
    "experiments.run": {"core", "registry", "sim", "analysis", "report", *DEFINITIONS},
    "experiments.calibration": {"core", "experiments.run", *DEFINITIONS},
    **dict.fromkeys(TRAINING, {"core", "registry", "sim", "experiments.results", *TRAINING}),
    "cli": ANYTHING,
}


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of mores by its name without `mores.`, links followed."""
    found = {}
    for top in [SOURCE / "mores", *(p for p in (SOURCE / "mores").iterdir() if p.is_symlink())]:
        for path in top.rglob("*.py"):
            parts = path.relative_to(SOURCE / "mores").with_suffix("").parts
            name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
            found[name] = path
    return found


def imported(name: str, tree: ast.Module, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and name of every module that a module imports, wherever in it the import stands."""
    here = ["mores", *name.split(".")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - is_package
            base = here[: len(here) - up] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                is_module = (
                    inner.removeprefix("mores.") in modules()
                    or (SOURCE / inner.replace(".", "/")).is_dir()
                )
                yield node.lineno, inner if is_module else module


def within(module: str, parts: set[str]) -> bool:
    return any(module == part or module.startswith(f"{part}.") for part in parts)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def written() -> list[Path]:
    """Every Python file that people wrote here, each once."""
    folders = ("src", "envs", "agents", "tests", "benchmarks", "docs", "scripts")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_imports_run_one_way(part: str) -> None:
    allowed = MAY_IMPORT[part] | {part}
    wrong = []
    for name, path in modules().items():
        if not within(name, {part}):
            continue
        for line, target in imported(name, run_part(path), path.name == "__init__.py"):
            if allowed & ANYTHING or target.split(".")[0] != "mores":
                continue
            if not within(target.removeprefix("mores").removeprefix("."), allowed):
                wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def part_of(module: str) -> str:
    """The part that a module belongs to: of `experiments` one level deeper."""
    names = module.split(".")
    return ".".join(names[: 2 if names[0] == "experiments" else 1])


def test_every_part_has_its_line() -> None:
    parts = {part_of(name) for name in modules()} - {"scenarios", "__main__", "experiments"}
    assert parts == set(MAY_IMPORT), "say in MAY_IMPORT what these may import"


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions count, and those for type checkers."""
    graph = networkx.DiGraph()
    for name, path in modules().items():
        if name == "__init__":
            continue
        for _, target in imported(name, parsed(path), path.name == "__init__.py"):
            graph.add_edge(f"mores.{name}", target)
    circles = [sorted(c) for c in networkx.strongly_connected_components(graph) if len(c) > 1]
    assert not circles
    assert not list(networkx.selfloop_edges(graph))


@functools.cache
def run_part(path: Path) -> ast.Module:
    """A module without what only type checkers see, and without its own demonstration."""

    class Guarded(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            test = ast.unparse(node.test)
            return None if test in ("TYPE_CHECKING", "__name__ == '__main__'") else node

    return Guarded().visit(ast.parse(path.read_text()))


def test_nothing_imports_the_folders_directly() -> None:
    """`import envs.x` would make a second copy of every class in `mores.envs.x`."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {target}"
        for path in written()
        for line, target in imported("", parsed(path), False)
        if within(target, {"envs", "agents", "scenarios"})
    ]
    assert not wrong, "\n".join(wrong)


def test_public_modules_say_what_they_are() -> None:
    silent = [
        name
        for name, path in modules().items()
        if not path.stem.startswith("_") and not ast.get_docstring(parsed(path))
    ]
    assert not silent
