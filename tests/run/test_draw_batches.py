"""Draws of uncertain parameters in one batch have the numbers that they have alone."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import model_validator

from benchmarks.killed.histories import file_digests
from mores.agents.learning.recipes.ppo import PPO
from mores.core.person_parameters import world_number
from mores.core.random_streams import RandomStreams
from mores.envs.opinion.coevolution import Coevolution
from mores.experiments.results.cell_identity import CellIdentity
from mores.experiments.results.cell_result import CellResult
from mores.experiments.results.run_reader import open_run
from mores.experiments.results.separate_draws import separate_draws
from mores.experiments.run import (
    checkpoint,
    draw_batches,
    engine,
    resume_run,
    run_scenario,
)
from mores.experiments.run.cell_execution import run_cell
from mores.experiments.run.cell_runner import CellRunner
from mores.experiments.run.parameter_uncertainty import plan_cells
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.loading import LoadedScenario, load_scenario
from mores.registry import REGISTRIES
from mores.registry.varying import WorldNumber
from tests.attacks.folders import reseal_cell
from tests.cases import scaled
from tests.refusals import refused

ACCEPTED = {  # ranges of parameters that are simulated in one batch
    "env.ai_influence": [0.05, 0.4],
    "env.noise_std": [0.0, 0.2],
    "env.confidence_bound": [0.5, 3.0],
    "env.history.drift": [-0.1, 0.1],
    "env.history.drift_share": [0.0, 1.0],
    "env.trust.learning_rate": [0.0, 0.5],
    "env.cohorts.turnover": [0.05, 0.2],
    "env.peers.graph.peer_weight": [0.0, 0.5],
    "policies.person.noise_std": [0.0, 0.3],
}
SEPARATE = {"env.initial_std": [0.5, 1.5], "policies.assistant.goal_weight": [0.2, 0.9]}
TEXT = """\
name: draws
about: Values under a persuader, with uncertain parameters.
env:
  kind: coevolution
  num_people: 12
  peers: {rule: degroot, graph: {kind: homophily, degree: 3, num_candidates: 4}}
policies:
  assistant: {kind: persuader, goal: [1.0, 0.0], goal_weight: 0.5}
  person: {kind: survey_respondent, noise_std: 0.1}
rounds: 3
replicates: 2
worlds: 2
seed: 3
metrics: [mean_value, drift, rms_distance, trust]
control: twin
arms: {twin: {env.num_assistants: 0}, persuaded: {}}
uncertainty:
  parameters: PARAMETERS
  replicates: 2
  sensitivity: {metric: effect_vs_control, arm: persuaded, num_samples: 2}
claims:
  - {statement: Values move, kind: statistical, metric: drift, arm: persuaded, compare_to: twin,
     interval: parameters, bound: {above: 0}}
"""
TRAINING = """\
name: trained
about: An assistant learns from approval, with uncertain influence on people.
env: {kind: coevolution, num_people: 5}
policies: {assistant: {kind: ppo, num_steps: 4, network: {kind: mlp, hidden_sizes: [8]}}}
rounds: 4
replicates: 2
worlds: 2
seed: 3
metrics: [mean_value, drift]
stages:
  - {name: train, loop: train, roles_to_train: assistant, episodes: 3}
  - {name: test}
uncertainty:
  parameters: {env.ai_influence: [0.1, 0.9], env.history.drift: [0.0, 0.2]}
  replicates: 2
  sensitivity: {metric: drift, num_samples: 2}
claims:
  - {statement: Values move, kind: statistical, metric: drift, interval: parameters,
     bound: {above: 0}}
"""


OFFLINE = """\
name: offline
about: An assistant is fitted to preferences of uncertain rationality.
env:
  kind: token_feedback
  task_seed: 11
  choice: {kind: bradley_terry, rationality: 50, annotator_error_rates: [0.1]}
policies: {assistant: {kind: dpo, learning_rate: 0.03, network: {kind: mlp, hidden_sizes: [8]}}}
rounds: 6
replicates: 2
worlds: 2
seed: 11
metrics: [score]
stages:
  - {name: collect, episodes: 2}
  - {name: fit, loop: fit_offline, roles_to_train: assistant, episodes: 3}
  - {name: test}
uncertainty:
  parameters: {env.choice.rationality: [1.0, 50.0]}
  replicates: 2
  sensitivity: {metric: score, num_samples: 2}
claims:
  - {statement: Answers are good, kind: statistical, metric: score, stage: test,
     interval: parameters, bound: {above: -1}}
"""


def load(folder: Path, text: str) -> LoadedScenario:
    file = folder / "draws.yaml"
    file.write_text(text)
    return load_scenario(str(file))


def with_parameters(parameters: Mapping[str, Sequence[float]]) -> str:
    pairs = [f"{path}: [{low}, {high}]" for path, (low, high) in parameters.items()]
    return TEXT.replace("PARAMETERS", f"{{{', '.join(pairs)}}}")


def plan(loaded: LoadedScenario, batches: bool = True) -> list[Cell]:
    cells = plan_cells(loaded, with_dry_run=False, batches=batches).cells
    return [cell for cell in cells if cell.purpose != "arm"]


def simulate(cells: Sequence[Cell], loaded: LoadedScenario) -> dict[str, CellResult]:
    return {cell.id: run_cell(cell, loaded.scenario, (), lambda _: None) for cell in cells}


def both_ways(
    loaded: LoadedScenario,
    cells: Sequence[Cell],
    separate_cells: Sequence[Cell],
    num_draws: int = 3,
    num_cells: int | None = None,
) -> list[tuple[Cell, CellResult, CellResult]]:
    """Some draws: their cell, and their results from a batch and alone."""
    batches = [
        dataclasses.replace(cell, draws=cell.draws[:num_draws]) for cell in cells if cell.draws
    ][:num_cells]
    together = separate_draws(batches, simulate(batches, loaded))
    by_id = {cell.id: cell for cell in separate_cells}
    alone = [by_id[cell.id] for cell in together.cells]
    assert [(cell.index, cell.point) for cell in alone] == [
        (cell.index, cell.point) for cell in together.cells
    ]
    return [(c, together.cell_results[c.id], simulate([c], loaded)[c.id]) for c in alone]


def check_equal(found: CellResult, expected: CellResult, tolerance: float = 0.0) -> None:
    assert (found.draw == expected.draw).all()
    for stage, other in zip(found.stages, expected.stages, strict=True):
        assert stage.names == other.names
        for name in ("replicate", "world"):
            assert (stage.metrics[name].values == other.metrics[name].values).all()
        for name in stage.names:
            if tolerance:
                np.testing.assert_allclose(stage.array(name), other.array(name), atol=tolerance)
            else:
                assert stage.array(name).tobytes() == other.array(name).tobytes()


def test_all_draws_of_an_arm_are_one_cell(tmp_path: Path) -> None:
    loaded = load(tmp_path, with_parameters(ACCEPTED))
    assert [cell.id for cell in plan(loaded)] == [
        *("persuaded__draw-000-038", "twin__draw-000-038"),
        *("persuaded__design-000-019", "twin__design-000-019"),
    ]
    for cell, found, expected in both_ways(loaded, plan(loaded), plan(loaded, False)):
        check_equal(found, expected)
        assert found.replicate.tolist() == (
            [2 * cell.index] * 2 + [2 * cell.index + 1] * 2
            if cell.purpose == "draw"
            else [0, 0, 1, 1]
        )


@pytest.mark.full
@settings(max_examples=scaled(24), deadline=None)
@given(
    st.lists(st.sampled_from([*ACCEPTED]), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from([*SEPARATE]), max_size=2, unique=True),
)
def test_any_parameters(tmp_path_factory: Any, batched: list[str], others: list[str]) -> None:
    ranges = ACCEPTED | SEPARATE
    text = with_parameters({path: ranges[path] for path in (*batched, *others)})
    loaded = load(tmp_path_factory.mktemp("draws"), text)
    cells, separate_cells = plan(loaded), plan(loaded, False)
    draws = [(draw.arm, draw.purpose, draw.index) for c in cells for draw in c.separate_draws]
    assert sorted(draws) == sorted((c.arm, c.purpose, c.index) for c in separate_cells)
    for cell in cells:
        points = [[draw.point.get(path) for path in others] for draw in cell.draws]
        # without a persuader its parameter has no effect, and does not separate draws
        free = {*SEPARATE} - {"policies.assistant.goal_weight"} if cell.arm == "twin" else SEPARATE
        kept = [n for n, path in enumerate(others) if path in free]
        assert len({tuple(point[n] for n in kept) for point in points}) <= 1
    for _, found, expected in both_ways(loaded, cells, separate_cells, 2, 4):
        check_equal(found, expected)


@pytest.mark.full
@pytest.mark.parametrize("text", [TRAINING, OFFLINE])
def test_draws_have_learners_of_their_own(tmp_path: Path, text: str) -> None:
    loaded = load(tmp_path, text)
    compared = both_ways(loaded, plan(loaded), plan(loaded, False), 2)
    assert {cell.purpose for cell, *_ in compared} == {"draw", "design"}
    for cell, found, expected in compared:
        check_equal(found, expected, 1e-4)
        assert found.training_statuses == expected.training_statuses
        assert found.training_statuses[0].draw == cell.index
    name = loaded.scenario.metric_names[-1]
    design = [
        found.stages[-1].values(name) for cell, found, _ in compared if cell.purpose == "design"
    ]
    assert not np.allclose(design[0], design[1])  # of the same replicates


def test_checkpoints_name_replicate_and_draw(tmp_path: Path) -> None:
    loaded = load(tmp_path, TRAINING)
    (cell,) = [cell for cell in plan(loaded) if cell.purpose == "design"]
    cell = dataclasses.replace(cell, draws=cell.draws[1:3])
    logged: dict[str, float] = {}
    result = run_cell(
        cell, loaded.scenario, (), lambda _: None, log=lambda step, values: logged.update(values)
    )
    assert any("loss" in name for name in logged)
    (saved,) = result.checkpoints
    assert saved.tensors["draw"].tolist() == [1, 1, 2, 2]
    assert saved.tensors["replicate"].tolist() == [0, 1, 0, 1]
    weights = next(t for n, t in saved.tensors.items() if "weight" in n).double()
    assert not torch.equal(weights[0], weights[1])  # other replicate
    assert not torch.equal(weights[0], weights[2])  # other draw


def no_report(run_plan: Any, *_: Any) -> None:
    (run_plan.folder / "report.html").write_text("a report")


@pytest.mark.full
@pytest.mark.parametrize("text", [with_parameters(ACCEPTED), TRAINING])
def test_a_killed_run_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(engine, "_write_report", no_report)
    monkeypatch.setattr(checkpoint, "EPISODE_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "STAGE_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "MAX_WRITE_FRACTION", 1e9)
    monkeypatch.setattr(draw_batches, "MAX_CHUNK_ELEMENTS", 2**13)  # several cells of each arm
    loaded = load(tmp_path, text)
    whole = run_scenario(loaded, tmp_path / "whole", progress=False).folder
    simulated = 0
    end_episode = CellRunner._end_episode

    def stop(self: CellRunner, *args: Any) -> None:
        nonlocal simulated
        end_episode(self, *args)
        simulated += bool(self.built_cell.cell.draws)
        if simulated == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CellRunner, "_end_episode", stop)
        run_scenario(loaded, tmp_path / "killed", progress=False)
    resume_run(tmp_path / "killed", progress=False)
    digests = file_digests(whole)
    assert digests == file_digests(tmp_path / "killed")
    assert sum(name.endswith("cell.json") for name in digests) > 3


# --- draws that remain separate ---------------------------------------------------------------


class Shift(Coevolution):
    """Coevolution with numbers of each kind that a user's class may have."""

    accepted: Annotated[float, WorldNumber(ge=0, le=1)] = 0.5
    plain: float = 0.5
    anything: Any = 0.5
    low: Annotated[float, WorldNumber(ge=0, le=1)] = 0.25
    high: Annotated[float, WorldNumber(ge=0, le=1)] = 0.5
    unread: Annotated[float, WorldNumber()] = 0.5
    as_number: Annotated[float, WorldNumber()] = 0.5

    @model_validator(mode="after")
    def _check(self) -> Shift:
        if self.low > self.high:
            raise ValueError("low must not exceed high")
        return self

    def reset(self, streams: RandomStreams, people: Any = None) -> Any:
        state = super().reset(streams, people)
        factor = world_number(self.accepted, streams)
        if isinstance(self.unread, float):  # a number for each draw is ignored
            factor = factor + self.unread
        values = state.people.values * factor
        return dataclasses.replace(
            state, people=dataclasses.replace(state.people, values=values.to(torch.float32))
        )

    def metrics(self, state: Any) -> Mapping[str, Any]:
        known = super().metrics(state)
        return {**known, "scaled": known["drift"] * self.as_number}


class Unaware(PPO):
    """A learner whose models are shared by the draws of a replicate."""

    separates_draws: ClassVar[bool] = False


@pytest.fixture
def user_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRIES["environment"], "shift", Shift)
    monkeypatch.setitem(REGISTRIES["policy"], "unaware", Unaware)


@pytest.mark.parametrize(
    ("parameters", "num_batched"),
    [
        ({"env.accepted": [0.3, 0.9]}, 39),
        ({"env.plain": [0.3, 0.9]}, 0),
        ({"env.anything": [0.3, 0.9]}, 0),
        ({"env.low": [0.1, 0.5]}, 0),
        ({"env.unread": [0.3, 0.9]}, 0),
        ({"env.as_number": [0.3, 0.9]}, 0),
        ({"env.accepted": [0.3, 0.9], "env.plain": [0.3, 0.9]}, 0),
    ],
)
def test_other_parameters(
    tmp_path: Path, user_kinds: None, parameters: Mapping[str, Sequence[float]], num_batched: int
) -> None:
    text = with_parameters(parameters).replace("kind: coevolution", "kind: shift")
    text = text.replace("trust]", "trust, scaled]")
    loaded = load(tmp_path, text)
    cells = [cell for cell in plan(loaded) if (cell.arm, cell.purpose) == ("persuaded", "draw")]
    assert sum(len(cell.draws) for cell in cells) == num_batched
    assert sum(len(cell.separate_draws) for cell in cells) == 39


def test_learners_that_mix_draws(tmp_path: Path, user_kinds: None) -> None:
    cells = plan(load(tmp_path, TRAINING.replace("kind: ppo", "kind: unaware")))
    assert not any(cell.draws for cell in cells)


def test_mixed_parameters_group_draws(tmp_path: Path) -> None:
    """Morris's design changes one parameter at a time: points with equal others are one cell."""
    ranges = {**ACCEPTED, "env.initial_std": [0.5, 1.5]}
    loaded = load(tmp_path, with_parameters(ranges))
    cells = [cell for cell in plan(loaded) if cell.purpose == "design"]
    assert 1 < len(cells) < sum(len(cell.separate_draws) for cell in cells) // 2
    assert all("env.initial_std" in cell.point for cell in cells)


def test_a_scenario_cannot_state_a_number_for_each_draw(tmp_path: Path) -> None:
    text = with_parameters(ACCEPTED).replace(
        "num_people: 12", "num_people: 12\n  noise_std: {kind: per_draw, values: [0.1]}"
    )
    with refused("unknown_name", "env.noise_std.kind"):
        plan(load(tmp_path, text))


# --- on disk ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    text = with_parameters({**ACCEPTED, "env.initial_std": [0.5, 1.5]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_write_report", no_report)
        return run_scenario(load(folder, text), folder / "run", progress=False).folder


@pytest.mark.full
def test_the_reader_has_draws(run: Path) -> None:
    reader = open_run(run)
    cell = next(c for c in reader.cells_of("design") if len(reader.cell_info[c]["points"]) > 2)
    points = reader.cell_info[cell]["points"]
    data = reader.metrics(cell)
    assert data["drift"].dims == ("draw", "world", "round")
    assert data["env.noise_std"].values.tolist() == [point["env.noise_std"] for point in points]
    frame = reader.dataframe(cell)
    assert frame.columns[:5].tolist() == ["cell", "arm", "replicate", "draw", "world"]
    for number, point in zip(data["draw"].values, points, strict=True):
        rows = frame[(frame.draw == number) & (frame.metric == "drift")]
        assert rows.value.tolist() == data["drift"].sel(draw=number).values.flatten().tolist()
        assert set(rows["env.ai_influence"]) == {point["env.ai_influence"]}
    assert "draw" not in reader.metrics("twin").coords
    assert set(reader.dataframe("twin").draw) == {0}
    alone = reader.cells_of("draw")[0]  # another initial_std in each
    assert reader.metrics(alone).sizes["draw"] == 1
    frames = reader.dataframe(purpose="draw")
    assert len(frames[["arm", "draw"]].drop_duplicates()) == 2 * 39


@pytest.mark.full
@pytest.mark.parametrize("change", [1, -1, 0])
def test_a_damaged_column_is_refused(run: Path, tmp_path: Path, change: int) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    reader = open_run(copy)
    name = next(c for c in reader.cells_of("design") if len(reader.cell_info[c]["points"]) > 2)
    path = copy / "cells" / name / "metrics.parquet"
    table = pq.read_table(path)
    draws = table["draw"].to_numpy() + change
    draws = draws if change else draws[::-1]
    index = table.column_names.index("draw")
    pq.write_table(table.set_column(index, "draw", pa.array(draws, pa.int32())), path)
    with refused("unreadable", str(path)):
        open_run(copy).metrics(name)  # another checksum
    reseal_cell(copy / "cells" / name)
    with refused("unreadable", str(path)):
        open_run(copy).metrics(name)  # other draws than its run lists


@pytest.mark.full
def test_a_cell_of_another_table_of_draws_is_refused(run: Path, tmp_path: Path) -> None:
    """The digest of a cell covers the values of all its draws."""
    loaded = load(tmp_path, with_parameters({**ACCEPTED, "env.ai_influence": [0.05, 0.39]}))
    cells = [cell for cell in plan(loaded) if cell.draws]
    other = [cell for cell in plan(load(tmp_path, with_parameters(ACCEPTED))) if cell.draws]
    for cell, changed in zip(cells, other, strict=True):
        one, two = (CellIdentity.of(each, loaded.scenario, ()) for each in (cell, changed))
        assert one.inputs != two.inputs
        assert (one.draws, one.replicates) == (two.draws, two.replicates)
