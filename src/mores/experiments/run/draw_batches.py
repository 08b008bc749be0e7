"""Division of the draws of uncertain parameters into cells, each simulated in one batch.

The draws of an arm differ only in numbers. Fields annotated `PersonNumber` or `WorldNumber` accept
a number for each draw (`mores.registry.varying`), so draws that differ only in such fields can be
worlds of one cell. Each draw has the same people, learners and addresses of random numbers as in a
cell of its own, and therefore the same results: bit for bit, or to rounding where a network acts.

Draws remain separate cells if they differ in a field without this annotation, or in one whose
validator refuses a number for each draw; if their simulation in one batch fails, or has other
metrics in the first rounds than their separate simulation; or if a learner shares models between
draws (`Learner.separates_draws`).
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

MAX_COMPARED_ROUNDS = 16  # rounds simulated in a batch and separately, to compare them before a run
MAX_COMPARED_ELEMENTS = 2**17  # tensor elements times rounds of a world; larger worlds: one round
NUM_COMPARED_DRAWS = 2
SECTIONS = ("env", "population", "policies")


def batch_draws(cells: Sequence[Cell], scenario: Scenario) -> Iterator[Cell]:
    """Cells that hold as many draws as can be simulated in one batch.

    Args:
        cells: one cell for each draw, in order of purpose, arm and draw; all of them can be built.
        scenario: scenario of the cells.
    """
    ids: set[str] = set()
    for _, group in itertools.groupby(cells, lambda cell: (cell.purpose, cell.arm)):
        for cell in _batch_arm(list(group), scenario):
            if cell.draws and cell.id.lower() in ids:  # some file systems ignore case
                cell = dataclasses.replace(cell, id=cell_id(_name(cell.draws), {}, digest=True))
            ids.add(cell.id.lower())
            yield cell


def _batch_arm(cells: Sequence[Cell], scenario: Scenario) -> list[Cell]:
    """Cells for the draws of one arm, in order of their first draws."""
    roles = cells[0].policies.keys()  # a parameter of another role has no effect in this arm
    present = [path for path in cells[0].point if role_of_path(path) in (None, *roles)]
    paths = present
    if not _is_accepted(cells, paths):
        paths = [path for path in present if _is_accepted(cells, [path])]
        paths = paths if _is_accepted(cells, paths) else []
    groups: dict[str, list[Cell]] = {}  # draws that differ only at `paths`
    for cell in cells:
        separating = [cell.point[path] for path in present if path not in paths]
        groups.setdefault(json.dumps(separating), []).append(cell)
    batches: list[Cell] = []
    # None: not compared yet. One comparison suffices, since groups differ only in numbers.
    equal: bool | None = None
    for group in groups.values():
        built = _build(_make_batch(cells, group, paths)) if len(group) > 1 else None
        if built is not None and equal is None:
            equal = _equals_separate_draws(built, scenario)
        if built is None or not equal:
            batches += group
            continue
        num_cells = _num_cells(built, scenario)
        starts = [len(group) * n // num_cells for n in range(num_cells + 1)]
        for start, stop in itertools.pairwise(starts):
            draws = group[start:stop]
            batches.append(_make_batch(cells, draws, paths) if len(draws) > 1 else draws[0])
    return sorted(batches, key=lambda cell: cell.index)


def _num_cells(built: BuiltCell, scenario: Scenario) -> int:
    """Number of cells for these draws, so that the worlds of a cell fit into one chunk of memory.

    It does not depend on rounds or processes: a run that is extended by rounds, or resumed with
    more processes, has the same cells.
    """
    size = max(1, *(staged.environment.elements_per_world for staged in built.stages))
    num_chunks = -(-size * len(built.cell.worlds(scenario, ())) // MAX_CHUNK_ELEMENTS)
    return min(num_chunks, len(built.cell.draws))


def _make_batch(cells: Sequence[Cell], draws: Sequence[Cell], paths: Sequence[str]) -> Cell:
    """A cell of several draws.

    Args:
        cells: cells of all draws of the arm.
        draws: cells of the draws to simulate in one batch.
        paths: paths of fields that get a number for each draw of the arm.
    """
    first = draws[0]
    common = set.intersection(*(set(draw.point.items()) for draw in draws))
    point = {path: value for path, value in first.point.items() if (path, value) in common}
    return dataclasses.replace(
        first,
        id=cell_id(_name(draws), {}),
        point=point,
        draws=tuple(draws),
        **_with_numbers(first, _numbers_by_path(cells, paths)),
    )


def _name(draws: Sequence[Cell]) -> str:
    """Name of a cell of several draws, from its arm, first draw and last draw."""
    first, last = draws[0], draws[-1]
    return f"{first.arm}__{first.purpose}-{first.index:03d}-{last.index:03d}"


def _numbers_by_path(cells: Sequence[Cell], paths: Sequence[str]) -> dict[str, list[float]]:
    """The numbers of all draws of an arm by path; each list is indexed by number of the draw."""
    numbers: dict[str, list[float]] = {}
    for path in paths:
        numbers[path] = [cells[0].point[path]] * (cells[-1].index + 1)
        for cell in cells:
            numbers[path][cell.index] = cell.point[path]
    return numbers


def _with_numbers(cell: Cell, numbers: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Environment, population and policies of a cell, with a number for each draw at some paths."""
    overrides = [
        Override(path, per_draw(values), ("uncertainty", "parameters", path))
        for path, values in numbers.items()
    ]
    spec = {section: getattr(cell, section) for section in SECTIONS}
    return apply_overrides(spec, cell.source_map, overrides)[0]


def _is_accepted(cells: Sequence[Cell], paths: Sequence[str]) -> bool:
    """Whether the fields at all of the paths accept a number for each draw."""
    numbers = _numbers_by_path(cells, paths)
    cell = dataclasses.replace(cells[0], **_with_numbers(cells[0], numbers))
    with accept_draws() as accepted:
        built = _build(cell)
    # A field of another type may accept any mapping, so success of the build is not enough.
    found = {each.values for each in accepted}
    return built is not None and all(tuple(values) in found for values in numbers.values())


def _build(cell: Cell) -> BuiltCell | None:
    """The objects of a cell; None if they cannot be built, or a learner does not separate draws."""
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
    """Whether two draws have the same metrics in the first rounds in one batch as separately.

    Without learners they must be equal; with learners within 1e-3, absolute and relative, since the
    last bits of a matrix product depend on the batch.
    """
    draws = [built.cell.draws[n] for n in (0, -1)][:NUM_COMPARED_DRAWS]
    try:
        in_batch = _first_metrics(built, draws, scenario)
        separate = [_first_metrics(draw.build(), [draw], scenario) for draw in draws]
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
    return in_batch.keys() == separate[0].keys() == separate[1].keys() and all(
        np.allclose(
            values,
            np.concatenate([each[name] for each in separate]),
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
        )
        for name, values in in_batch.items()
    )


def _first_metrics(
    built: BuiltCell, draws: Sequence[Cell], scenario: Scenario
) -> dict[str, Num[np.ndarray, "draw *n"]]:
    """Metrics in the first rounds of every stage, and ranges of metrics, of one world of each draw.

    Returns:
        Arrays by `STAGE/METRIC`, the first dimension of length `len(draws)`.
    """
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
        metrics = resolve_metrics(
            environment, simulator.state, len(first), specs, simulator.policies
        )
        recorder = RoundRecorder(tuple(range(simulator.rounds + 1)))
        simulate_episode(simulator, metrics, recorder)
        found |= {f"{stage.name}/{name}": t.numpy() for name, t in recorder.tensors.items()}
        for name, bounds in metrics.bounds(environment).items():
            found[f"{stage.name}/bounds of {name}"] = np.tile(bounds, (len(first), 1))
    return found
