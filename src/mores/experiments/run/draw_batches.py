"""Cells of several draws of uncertain parameters: what is simulated in one batch.

The draws of an arm differ in numbers only. Fields annotated `PersonNumber` or `WorldNumber` accept
a number for each draw (`mores.registry.varying`), so draws that differ in such fields are worlds of
one cell. Each draw keeps its people, learners and random addresses, hence its numbers: bit for bit,
or to rounding where a network acts.

Draws that differ in any other parameter remain separate cells: a plain number, one whose validity
depends on other fields, one of a class that fails with a number for each draw, or gives other
numbers in the first rounds. So do draws with a learner that does not separate them.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Num

from mores.core.errors import is_out_of_memory
from mores.core.learner import Learner
from mores.core.random_streams import Worlds
from mores.experiments.run.cell_execution import MAX_CHUNK_ELEMENTS
from mores.experiments.scenario.cell import BuiltCell, Cell, Components, cell_id
from mores.experiments.scenario.overrides import Override, apply_overrides, role_of_path
from mores.experiments.scenario.specification import Scenario
from mores.registry.varying import accept_draws, per_draw
from mores.sim.metric_tracker import resolve_metrics
from mores.sim.round_recorder import RoundRecorder
from mores.sim.simulation import simulate_episode
from mores.sim.simulator import Simulator

MAX_COMPARED_ROUNDS = 16  # simulated in a batch and alone, before the run
MAX_COMPARED_ELEMENTS = 2**17  # tensor elements times rounds of a world; larger worlds: one round
COMPARED_DRAWS = 2
SECTIONS = ("env", "population", "policies")


def batch_draws(cells: Sequence[Cell], scenario: Scenario) -> Iterator[Cell]:
    """Cells with as many draws as can be simulated in one batch.

    Args:
        cells: a cell for each draw, in order of purpose, arm and draw; all of them can be built.
        scenario: their scenario.
    """
    ids: set[str] = set()
    for _, group in itertools.groupby(cells, lambda cell: (cell.purpose, cell.arm)):
        for cell in _batch_arm(list(group), scenario):
            if cell.draws and cell.id.lower() in ids:  # some file systems ignore case
                cell = dataclasses.replace(cell, id=cell_id(_name(cell.draws), {}, digest=True))
            ids.add(cell.id.lower())
            yield cell


def _batch_arm(cells: Sequence[Cell], scenario: Scenario) -> list[Cell]:
    """The cells of the draws of one arm, in order of their first draws."""
    roles = cells[0].policies.keys()  # a parameter of another role has no effect in this arm
    present = [path for path in cells[0].point if role_of_path(path) in (None, *roles)]
    paths = present
    if not _is_accepted(cells, paths):
        paths = [path for path in present if _is_accepted(cells, [path])]
        paths = paths if _is_accepted(cells, paths) else []
    groups: dict[str, list[Cell]] = {}  # by values of the other parameters
    for cell in cells:
        others = [cell.point[path] for path in present if path not in paths]
        groups.setdefault(json.dumps(others), []).append(cell)
    batches: list[Cell] = []
    equal: bool | None = None  # not compared yet; once suffices: the groups differ in numbers only
    for group in groups.values():
        built = _build(_make_batch(cells, group, paths)) if len(group) > 1 else None
        if built is not None and equal is None:
            equal = _equals_separate_draws(built, scenario)
        if built is None or not equal:
            batches += group
            continue
        num_parts = _num_parts(built, scenario)
        bounds = [len(group) * n // num_parts for n in range(num_parts + 1)]
        parts = [group[start:stop] for start, stop in itertools.pairwise(bounds)]
        batches += [_make_batch(cells, part, paths) if len(part) > 1 else part[0] for part in parts]
    return sorted(batches, key=lambda cell: cell.index)


def _num_parts(built: BuiltCell, scenario: Scenario) -> int:
    """Number of cells for the draws of a cell: the worlds of each are one chunk.

    It depends on sizes alone, not on rounds or processes: a run that is extended by rounds, or
    resumed with more processes, has the same cells.
    """
    size = max(1, *(staged.environment.elements_per_world for staged in built.stages))
    num_chunks = -(-size * len(built.cell.worlds(scenario, ())) // MAX_CHUNK_ELEMENTS)
    return min(num_chunks, len(built.cell.draws))


def _make_batch(cells: Sequence[Cell], draws: Sequence[Cell], paths: Sequence[str]) -> Cell:
    """The cell of some draws of an arm, with a number for each draw of the arm at the paths."""
    first = draws[0]
    common = set.intersection(*(set(draw.point.items()) for draw in draws))
    point = {path: value for path, value in first.point.items() if (path, value) in common}
    return dataclasses.replace(
        first,
        id=cell_id(_name(draws), {}),
        point=point,
        draws=tuple(draws),
        **_with_tables(first, _tables(cells, paths)),
    )


def _name(draws: Sequence[Cell]) -> str:
    """Name of a cell of several draws: its arm, and the first and the last of them."""
    first, last = draws[0], draws[-1]
    return f"{first.arm}__{first.purpose}-{first.index:03d}-{last.index:03d}"


def _tables(cells: Sequence[Cell], paths: Sequence[str]) -> dict[str, list[float]]:
    """The numbers of all draws of an arm, by path; the list is indexed by number of the draw."""
    tables: dict[str, list[float]] = {}
    for path in paths:
        tables[path] = [cells[0].point[path]] * (cells[-1].index + 1)
        for cell in cells:
            tables[path][cell.index] = cell.point[path]
    return tables


def _with_tables(cell: Cell, tables: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The specification of a cell, with a number for each draw at the paths of the tables."""
    overrides = [
        Override(path, per_draw(values), ("uncertainty", "parameters", path))
        for path, values in tables.items()
    ]
    spec = {section: getattr(cell, section) for section in SECTIONS}
    return apply_overrides(spec, cell.source_map, overrides)[0]


def _is_accepted(cells: Sequence[Cell], paths: Sequence[str]) -> bool:
    """Whether the fields at all of the paths accept a number for each draw."""
    tables = _tables(cells, paths)
    cell = dataclasses.replace(cells[0], **_with_tables(cells[0], tables))
    with accept_draws() as accepted:
        built = _build(cell)
    found = {each.values for each in accepted}  # a field of another type may take any mapping
    return built is not None and all(tuple(values) in found for values in tables.values())


def _build(cell: Cell) -> BuiltCell | None:
    """The objects of a cell; None if they cannot be built, or a learner mixes the draws."""
    try:
        built = cell.build(Components(several_draws=bool(cell.draws)))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return None
    policies = [policy for staged in built.stages for policy in staged.policies.values()]
    if any(isinstance(policy, Learner) and not policy.separates_draws for policy in policies):
        return None
    return built


def _equals_separate_draws(built: BuiltCell, scenario: Scenario) -> bool:
    """Whether two draws have the same metrics in the first rounds, in a batch and alone."""
    draws = [built.cell.draws[n] for n in (0, -1)][:COMPARED_DRAWS]
    try:
        together = _first_metrics(built, draws, scenario)
        alone = [_first_metrics(draw.build(), [draw], scenario) for draw in draws]
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return False
    learns = any(
        isinstance(policy, Learner)
        for staged in built.stages
        for policy in staged.policies.values()
    )
    tolerance = 1e-3 if learns else 0.0
    return together.keys() == alone[0].keys() == alone[1].keys() and all(
        np.allclose(
            values,
            np.concatenate([each[name] for each in alone]),
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
        )
        for name, values in together.items()
    )


def _first_metrics(
    built: BuiltCell, draws: Sequence[Cell], scenario: Scenario
) -> dict[str, Num[np.ndarray, "draw *n"]]:
    """Metrics of one world of each draw in the first rounds of every stage, and their bounds."""
    worlds = [draw.worlds(scenario, ()).take(slice(0, 1)) for draw in draws]
    numbers = torch.tensor([draw.index for draw in draws])
    first = Worlds(
        torch.cat([each.replicate for each in worlds]),
        torch.cat([each.world for each in worlds]),
        numbers,
    )
    found: dict[str, np.ndarray] = {}
    for index, (stage, rounds, environment, policies, _) in enumerate(built.stages):
        if stage.loop == "fit_offline":
            continue
        size = max(1, environment.elements_per_world)
        simulator = Simulator(
            environment,
            policies,
            {},
            first,
            min(rounds, MAX_COMPARED_ROUNDS, max(1, MAX_COMPARED_ELEMENTS // size)),
            population=built.population,
            stage=index,
            search=stage.loop == "search",
        )
        simulator.reset(scenario.seed)
        specs = scenario.metric_specs
        metrics = resolve_metrics(environment, simulator.state, len(first), specs)
        recorder = RoundRecorder(tuple(range(simulator.rounds + 1)))
        simulate_episode(simulator, metrics, recorder)
        found |= {f"{stage.name}/{name}": t.numpy() for name, t in recorder.tensors.items()}
        for name, bounds in metrics.bounds(environment).items():
            found[f"{stage.name}/bounds of {name}"] = np.tile(bounds, (len(first), 1))
    return found
