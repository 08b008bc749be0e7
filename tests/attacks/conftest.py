"""A finished run to attack, runs of other sizes and seeds, and a folder of the user's own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mores.experiments.results import atomic_files
from tests.attacks.folders import copy_run, numbers, run_small


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """No process is killed here, and no machine fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic_files, "_fsync", lambda path: None)
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small(tmp_path_factory.mktemp("template") / "run")


@pytest.fixture(scope="session")
def expected(template: Path) -> str:
    """The digest of its numbers."""
    return numbers(template)


@pytest.fixture(scope="session")
def other_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of the same arms with other numbers."""
    folder = tmp_path_factory.mktemp("others")
    return {
        "seed": run_small(folder / "seed", "seed=1"),
        "size": run_small(folder / "size", "env.num_people=4"),
        "replicates": run_small(folder / "replicates", only_replicates=[1]),
        "rounds": run_small(folder / "rounds", "record_every=3"),
    }


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Path:
    return copy_run(template, tmp_path / "small")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """The user's own files, with a cell among them."""
    folder = tmp_path / "outside"
    (folder / "mirror").mkdir(parents=True)
    (folder / "files").write_text("files")
    (folder / "mirror" / "cell.json").write_text("{}")
    (folder / "thesis.txt").write_text("years of work")
    return folder
