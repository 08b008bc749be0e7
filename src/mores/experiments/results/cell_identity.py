"""What a cell on disk belongs to: a digest of what determines its numbers, and what it holds.

Claims, wording and sources are not in the digest: they may change, and the numbers stay. Replicates
and recorded rounds are beside it, because a cell of more of them has the same numbers. Of a cell of
several draws of uncertain parameters the digest covers the whole table of draws.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mores.core.errors import UserError, printable
from mores.core.policy import Policy
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.recorded_rounds import recorded_rounds
from mores.experiments.scenario.specification import Scenario
from mores.registry import class_of
from mores.registry.specs import policies_from_specs
from mores.registry.varying import accept_draws

Ranges = list[list[int]]  # [first, last, step] of each arithmetic sequence


@dataclasses.dataclass(frozen=True)
class CellIdentity:
    """The identity of a cell, in `cells.json` of its run and in its own `cell.json`.

    Attributes:
        inputs: digest of environment, population, policies, stages, rounds, seed, worlds, metrics
            and draws.
        draws: numbers of the draws of uncertain parameters that it holds, as ranges; 0 in an arm.
        replicates: replicates that it holds, as ranges.
        rounds: recorded rounds by stage, as ranges.
    """

    inputs: str
    draws: Ranges
    replicates: Ranges
    rounds: Mapping[str, Ranges]

    @classmethod
    def of(cls, cell: Cell, scenario: Scenario, replicates: Sequence[int]) -> CellIdentity:
        """The identity of a cell of a run with these replicates."""
        return cls(
            inputs_digest(cell, scenario),
            to_ranges(draw.index for draw in cell.separate_draws),
            to_ranges(cell.own_replicates(scenario, replicates)),
            {
                stage.name: to_ranges(recorded_rounds(scenario, stage, cell.purpose))
                for stage in cell.stages
                if stage.loop != "fit_offline"
            },
        )

    @classmethod
    def from_json(cls, entry: Any) -> CellIdentity:
        """The identity that JSON holds.

        Raises:
            ValueError: it holds none.
        """
        match entry:
            case {
                "inputs": str(inputs),
                "draws": list(draws),
                "replicates": list(replicates),
                "rounds": dict(rounds),
            }:
                if all(map(_is_ranges, (draws, replicates, *rounds.values()))):
                    return cls(inputs, draws, replicates, rounds)
        raise ValueError("it does not say what the cell belongs to")

    def to_json(self) -> dict[str, Any]:
        """The identity as JSON."""
        return dataclasses.asdict(self)


def inputs_digest(cell: Cell, scenario: Scenario) -> str:
    """Digest of what determines the numbers of a cell, besides the code."""
    fields = {
        "env": cell.env,
        "population": cell.population,
        "policies": cell.policies,
        "stages": [stage.model_dump(mode="json") for stage in cell.stages],
        "rounds": cell.rounds,
        "seed": scenario.seed,
        "worlds": scenario.worlds,
        "metrics": scenario.metric_specs,
        "draws": [[draw.index, draw.point] for draw in cell.draws],
    }
    if identities := _policy_identities(cell):
        fields["files"] = identities
    text = json.dumps(fields, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _policy_identities(cell: Cell) -> dict[str, Mapping[str, str]]:
    """`Policy.identity` of the policies of all stages that have one."""
    found: dict[str, Mapping[str, str]] = {}
    for index, stage in enumerate(cell.stages):
        for role, spec in cell.stage_spec(index).policies.items():
            policy_class = class_of("policy", spec["kind"])
            if policy_class.identity is Policy.identity:
                continue
            with accept_draws():
                policy = policies_from_specs({role: spec})[role]
            if identity := policy.identity():
                found[f"{stage.name}/{role}"] = identity
    return found


def check_identity(folder: Path, cell: str, found: CellIdentity, expected: CellIdentity) -> None:
    """Refuse a cell of another run.

    Args:
        folder: folder of the cell.
        cell: its name in its own `cell.json`.
        found: its identity there.
        expected: the identity that its run lists.

    Raises:
        UserError: they differ.
    """
    difference = ""
    if cell != folder.name:
        difference = f"it was simulated as {printable(cell, 60)}"
    elif found.inputs != expected.inputs:
        difference = "its environment, policies, stages, seed or sizes are others"
    elif found.draws != expected.draws:
        texts = [_describe(each) for each in (found.draws, expected.draws)]
        difference = f"it holds the draws {texts[0]}, not {texts[1]}"
    elif found.replicates != expected.replicates:
        texts = [_describe(each) for each in (found.replicates, expected.replicates)]
        difference = f"it holds the replicates {texts[0]}, not {texts[1]}"
    elif found.rounds != expected.rounds:
        difference = "it holds other stages or rounds"
    if difference:
        message = f"{folder}: the cell belongs to another run: {difference}"
        raise UserError(message, code="incompatible", path=str(folder))


def to_ranges(numbers: Iterable[int]) -> Ranges:
    """Ascending numbers as arithmetic sequences."""
    ranges: Ranges = []
    for number in map(int, numbers):
        last = ranges[-1] if ranges else None
        if last is not None and number - last[1] == last[2]:
            last[1] = number
        elif last is not None and last[0] == last[1] and number > last[1]:
            last[1:] = [number, number - last[0]]
        else:
            ranges.append([number, number, 1])
    return ranges


def is_first_part(ranges: Ranges, whole: Ranges) -> bool:
    """Whether the numbers of some ranges are the first ones of others."""
    rest = from_ranges(whole)
    return all(number == next(rest, None) for number in from_ranges(ranges))


def from_ranges(ranges: Ranges) -> Iterator[int]:
    """The numbers in arithmetic sequences."""
    for first, last, step in ranges:
        yield from range(first, last + 1, max(1, step))


def _is_ranges(value: Any) -> bool:
    """Whether JSON holds ranges."""
    return isinstance(value, list) and all(
        isinstance(part, list) and len(part) == 3 and all(type(number) is int for number in part)
        for part in value
    )


def _describe(ranges: Ranges) -> str:
    parts = [f"{first}-{last}" if first != last else str(first) for first, last, _ in ranges]
    return printable(", ".join(parts), 60)
