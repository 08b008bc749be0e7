"""Imports run one way. How light `import mores` is: tests/conformance."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
CORE = {
    "arguments",
    "draws",
    "errors",
    "game",
    "measured",
    "mistakes",
    "people",
    "philox",
    "spaces",
    "sums",
    "tree",
}

# What each part may import of mores, besides itself. Everything has its line here; what may import
# anything says so.
ANYTHING = {"*"}
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": ANYTHING,  # the public names, fetched when they are used
    **dict.fromkeys(CORE, CORE),
    "registry": {"errors", "mistakes"},  # names modules, and imports none until asked
    "own_code": {"errors"},
    "repair": CORE,
    "masks": CORE,
    "seating": CORE,
    "diary": CORE,
    "books": CORE | {"diary"},
    "saving": CORE,
    "table": CORE | {"repair", "masks", "seating", "diary", "books", "saving"},
    "play": CORE | {"table"},
    "memories": CORE,
    "taught": CORE,
    "sealed": {"errors", "run.files"},
    "trained": CORE | {"table", "play", "memories", "registry", "sealed", "run.packing"},
    "train": CORE | {"table", "trained", "taught"},
    "demo": CORE | {"table", "play"},  # what `python -m mores.envs.lock_in` shows
    "envs": CORE | {"demo"},
    # A cast makes the players that its seats name; an `Experience` is what `Player.fit` is given.
    "agents": CORE | {"demo", "diary", "registry"},
    "views": CORE | {"table", "masks", "diary", "registry"},
    "zoo": {"errors", "registry", "views"},
    "analysis": {"errors", "sums", "scenario.model"},  # arrays, and what a claim says
    "scenario": CORE | {"table", "registry", "memories"},
    "run": CORE
    | {"table", "play", "memories", "taught", "diary", "registry", "own_code"}
    | {"scenario", "analysis"},
    "calibrate": CORE | {"scenario", "analysis", "run"},
    "terminal": {"run", "scenario"},
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
        for line, target in imported(name, parsed(path), path.name == "__init__.py"):
            if allowed & ANYTHING or target.split(".")[0] != "mores":
                continue
            if not within(target.removeprefix("mores").removeprefix("."), allowed):
                wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_every_part_has_its_line() -> None:
    parts = {name.split(".")[0] for name in modules()} - {"scenarios", "__main__"}
    assert parts <= set(MAY_IMPORT), "say in MAY_IMPORT what these may import"


def test_the_one_way_is_no_circle() -> None:
    """The table above orders the parts: nothing reaches itself through others, but for the core."""
    reached: dict[str, set[str]] = {}

    def beyond(part: str, way: tuple[str, ...] = ()) -> set[str]:
        assert part not in way, " -> ".join([*way, part])
        if part not in reached:
            further = {p.split(".")[0] for p in MAY_IMPORT.get(part, set()) - ANYTHING - CORE}
            reached[part] = further.union(*(beyond(p, (*way, part)) for p in further - {part}))
        return reached[part]

    for part in MAY_IMPORT:
        assert part in CORE or part not in beyond(part)


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
