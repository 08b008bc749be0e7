"""A small run made by hand: arms with known effects, and hostile names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from mores.core.errors import UserError
from mores.core.random_streams import Worlds
from mores.experiments.results.atomic_files import write_sealed_json
from mores.experiments.results.cell_result import CellResult, StageResult
from mores.experiments.results.trajectory import Trajectory
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.source_locations import ScenarioError, format_path
from mores.experiments.scenario.specification import Claim, Scenario
from mores.report.figures import ReportData
from mores.sim.round_recorder import metric_dataset
from tests.cells import expand
from tests.refusals import check_message

HOSTILE_TEXT = "<script>alert('x')</script>\"' & $a_b$"
HOSTILE_LABEL = f"left {HOSTILE_TEXT}".replace("_", " ")  # of the first value, in figures
ROUNDS = (0, 1, 2, 3, 4)


def make_scenario(**fields: Any) -> Scenario:
    defaults = {
        "name": "small",
        "about": "A small community.",
        "env": {"kind": "coevolution", "num_people": 12},
        "rounds": 4,
        "replicates": 8,
        "metrics": ["mean_value", "rms_distance"],
    }
    return Scenario.model_validate({**defaults, **fields})


ARMS = {
    "control": "twin",
    "arms": {
        "twin": {"env.num_assistants": 0},
        "ai": {"policies.assistant": {"kind": "mirror"}},
        "friends": {"env.num_assistants": 0, "env.initial_std": 0.5},
        "both": {"policies.assistant": {"kind": "mirror"}, "env.initial_std": 0.5},
    },
}
EFFECTS = {"twin": 0.0, "ai": 0.3, "friends": -0.1, "both": 0.25}  # an interaction of 0.05


def make_cell_result(
    cell: Cell,
    effect: float,
    stages: tuple[str, ...] = ("rollout",),
    episodes: int = 1,
    num_people: int = 12,
) -> CellResult:
    """People whose first value moves by an effect until the end; the second is constant."""
    rng = np.random.default_rng(7)
    start = rng.normal(size=(8, 1, 1))
    path = np.linspace(0.0, 1.0, len(ROUNDS)) * (effect + 0.01 * rng.normal(size=(8, 1, 1)))
    path = (start + path * (effect != 0)) * np.ones((8, episodes, 1))
    metrics = {"mean_value": np.stack([path, 0 * path], -1), "rms_distance": np.abs(path)}
    values = rng.normal(size=(1, 1, num_people, 2)) + np.zeros((1, len(ROUNDS), 1, 1))
    values[..., 0] += np.linspace(0.0, effect, len(ROUNDS))[None, :, None]
    return CellResult(
        cell=cell.id,
        stages=tuple(
            StageResult(s, make_metrics(metrics, Worlds.of(8), ROUNDS), {"rms_distance": 1.0})
            for s in stages
        ),
        trajectory=Trajectory(ROUNDS, {"values": values.astype(np.float32)}),
        value_names=(f"left {HOSTILE_TEXT}", "up"),
    )


def make_metrics(
    arrays: Mapping[str, np.ndarray], worlds: Worlds, rounds: Sequence[int]
) -> xr.Dataset:
    """Recorded metrics, `[world, episode, round]` or `[world, episode, round, component]`."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    num_episodes = next(iter(arrays.values())).shape[1]
    return metric_dataset(tensors, worlds, num_episodes, rounds)


def make_results(scenario: Scenario, **options: Any) -> tuple[Any, dict[str, CellResult]]:
    cells = expand(scenario)
    return cells, {c.id: make_cell_result(c, EFFECTS.get(c.arm, 0.2), **options) for c in cells}


def make_report_data(scenario: Scenario, **options: Any) -> ReportData:
    return ReportData.from_run(scenario, *make_results(scenario, **options))


def make_claim(**fields: Any) -> Claim:
    defaults = {"statement": "x", "kind": "statistical", "metric": "rms_distance"}
    return Claim.model_validate({**defaults, "bound": {"above": 0.0}, **fields})


CLAIMS = [
    {"statement": f"moved {HOSTILE_TEXT}", "kind": "statistical", "metric": "effect_vs_control",
     "arm": "ai", "bound": {"above": 0.1}, "source": HOSTILE_TEXT},
    {"statement": "hardly", "kind": "statistical", "metric": "rms_distance",
     "bound": {"within": [5, 6]}},
    {"statement": "how far", "kind": "report", "metric": "rms_distance", "arm": "both"},
]  # fmt: skip


def problem_paths(error: Exception) -> list[str]:
    """Paths of all problems of a scenario, in order."""
    assert isinstance(error, ScenarioError)
    return [format_path(problem.path) for problem in error.problems]


@contextmanager
def refused_as_unreadable(path: Path) -> Iterator[None]:
    """Expect an error about a file; the reason is in the words of the library that reads it."""
    with pytest.raises(UserError) as caught:
        yield
    assert (caught.value.code, caught.value.path) == ("unreadable", str(path))
    check_message(str(caught.value).split(": ")[0])


def change_sealed(path: Path, **changes: Any) -> None:
    """Change keys of a sealed JSON object, and its checksum; None removes a key."""
    content = {**json.loads(path.read_text()), **changes}
    content = {key: value for key, value in content.items() if value is not None}
    write_sealed_json(path, content)


def log_lines(folder: Path, cell: str) -> list[str]:
    """Lines of the log about a cell, without times and durations."""
    lines = [line.partition(" ")[2] for line in (folder / "log.txt").read_text().splitlines()]
    lines = [line for line in lines if line.startswith((f"{cell}: ", f"cell {cell}: "))]
    return [line for line in lines if not re.fullmatch(r".*: [0-9.]+ s", line)]
