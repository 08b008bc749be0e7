"""What an extension may add to a scenario: replicates, rounds, arms, and claims about new arms.

Figures may change too. Nothing else may: other metrics or another `record_every` would need the
simulated states, which are not stored, and another environment, population or policy is another
experiment. A claim about arms whose data are already known is not a test, and is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mores.core.errors import UserError, printable
from mores.experiments.scenario.claim_inputs import required_arms
from mores.experiments.scenario.specification import Scenario

ALLOWED = "a run is extended by replicates, rounds and arms, with claims about them"
GROWING = ("replicates", "rounds")
ABSENT = object()


def check_additions(before: Scenario, after: Scenario) -> None:
    """Check that a scenario only adds to an earlier one.

    Raises:
        UserError: something else differs; with the path of the first difference.
    """
    old, new = (each.model_dump(mode="json", by_alias=True) for each in (before, after))
    for name in GROWING:
        _check_growth(name, old, new)
    old_stages, new_stages = old.get("stages") or [], new.get("stages") or []
    for index, (stage, other) in enumerate(zip(old_stages, new_stages, strict=False)):
        if None not in (stage["rounds"], other["rounds"]):
            _check_growth("rounds", stage, other, f"stages.{index}.")
    _check_arms(before, after)
    new["figures"] = old["figures"]  # they may change: no recorded number depends on them
    new["arms"] = {name: arm for name, arm in new["arms"].items() if name in before.arms}
    num_claims = len(old["claims"])
    new["claims"] = new["claims"][:num_claims]
    if difference := _first_difference(old, new, ""):
        path, was, is_now = difference
        message = f"{path}: {_text(was)} is now {_text(is_now)}: {ALLOWED}; start a new run"
        raise UserError(message, code="conflict", path=path)
    for index, claim in enumerate(after.claims[num_claims:], num_claims):
        if set(required_arms(after, [claim])) <= set(before.arm_names):
            message = (
                f"claims.{index}: {printable(claim.statement, 60)!r} has no new arm: the data of "
                "its arms were seen before it was stated; test it with another seed in a new run"
            )
            raise UserError(message, code="conflict", path=f"claims.{index}")


def added_arms(before: Scenario, after: Scenario) -> list[str]:
    """Names of the arms that an extended scenario adds."""
    return [name for name in after.arm_names if name not in before.arm_names]


def adds_rounds(before: Scenario, after: Scenario) -> bool:
    """Whether any stage of an extended scenario has more rounds."""
    pairs = zip(before.stages_or_default, after.stages_or_default, strict=True)
    return any(before.rounds_per_episode(a) != after.rounds_per_episode(b) for a, b in pairs)


def _check_growth(name: str, old: Mapping[str, Any], new: dict[str, Any], prefix: str = "") -> None:
    """Refuse a number that became smaller; a larger one becomes equal, for the comparison."""
    if new[name] < old[name]:
        path = f"{prefix}{name}"
        message = f"{path}: the run has {old[name]}; it can be extended to more, not to {new[name]}"
        raise UserError(message, code="out_of_range", path=path)
    new[name] = old[name]


def _check_arms(before: Scenario, after: Scenario) -> None:
    for name in before.arm_names:
        if name not in after.arm_names:
            message = f"arms.{name}: the run has this arm, and the scenario no longer: {ALLOWED}"
            raise UserError(message, code="conflict", path=f"arms.{name}")


def _first_difference(old: Any, new: Any, path: str) -> tuple[str, Any, Any] | None:
    """Path of the first difference of plain data, and the two values there."""
    pairs: list[tuple[str, Any, Any]] = []
    if isinstance(old, dict) and isinstance(new, dict):
        names = list(dict.fromkeys([*old, *new]))
        pairs = [(name, old.get(name, ABSENT), new.get(name, ABSENT)) for name in names]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(str(i), *both) for i, both in enumerate(zip(old, new, strict=True))]
    elif old != new:
        return path, old, new
    for name, was, is_now in pairs:
        if found := _first_difference(was, is_now, f"{path}.{name}" if path else name):
            return found
    return None


def _text(value: Any) -> str:
    return "nothing" if value is ABSENT or value is None else printable(value, 60)
