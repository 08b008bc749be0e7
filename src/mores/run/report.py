"""The report of a run: one HTML file with everything in it, for a reader in a hurry."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mores.analysis.verdicts import Verdict
from mores.run import store
from mores.run.cells import Record
from mores.run.figures import figures
from mores.scenario.cell import Cell
from mores.scenario.model import Claim, Scenario
from mores.scenario.verify import arm_of

KINDS = {
    "exact": "a formula or a logical consequence; every replicate must agree",
    "statistical": "the 95 % interval must lie inside the bound",
    "by_construction": "follows from what was put in by hand; the interval must lie inside, too",
    "report": "a figure without a verdict",
}


def write_report(
    folder: Path,
    scenario: Scenario,
    cells: Sequence[Cell],
    records: Mapping[str, Record],
    judged: Sequence[Verdict],
    origin: Mapping[str, Any],
) -> None:
    """Write `report.html`, and its pictures as PNG under `figures/`."""
    from jinja2 import Environment, StrictUndefined

    pictures = figures(scenario, cells, records, judged)
    (folder / "figures").mkdir(exist_ok=True)
    for picture in pictures:
        store.write_bytes(folder / "figures" / picture.name, picture.png)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = (resources.files("mores.run") / "report.html.j2").read_text(encoding="utf-8")
    counts = dict.fromkeys(("holds", "fails", "undecided", "report"), 0)
    for verdict in judged:
        counts[verdict.verdict] += 1
    text = environment.from_string(template).render(
        scenario=scenario,
        counts=counts,
        rows=[_row(verdict, scenario) for verdict in judged],
        kinds=KINDS,
        pictures=[
            {
                "name": picture.name,
                "caption": picture.caption,
                "data": base64.b64encode(picture.png).decode(),
            }
            for picture in pictures
        ],
        arms=_arms(scenario, cells),
        sweep={path: ", ".join(map(str, values)) for path, values in scenario.sweep.items()},
        replicates=len(set(next(iter(records.values())).replicate.tolist())),
        origin=json.dumps(origin, indent=2, ensure_ascii=False),
        finished=origin.get("finished", ""),
    )
    store.write_text(folder / "report.html", text)


def _row(verdict: Verdict, scenario: Scenario) -> dict[str, Any]:
    claim, estimate = verdict.claim, verdict.estimate
    return {
        "says": claim.says,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "kind": claim.kind,
        "what": _what(claim, scenario),
        "bound": bound_text(claim),
        "estimate": number(estimate.value),
        "interval": f"{number(estimate.low)} to {number(estimate.high)}",
        "n": estimate.n,
        "method": estimate.method,
        "points": verdict.n_points,
        "source": claim.source or "",
    }


def _what(claim: Claim, scenario: Scenario) -> str:
    text = claim.measure if claim.kind == "exact" else f"{claim.statistic} of {claim.measure}"
    if scenario.arms:
        text += f" in {arm_of(scenario, claim)}"
    if claim.against:
        text += f" against {claim.against}"
    if claim.prediction:
        text += f" against the formula {claim.prediction}"
    if claim.relative:
        text += ", relative"
    at = scenario.rounds if claim.at is None else claim.at
    return f"{text}, after {at} rounds"


def bound_text(claim: Claim) -> str:
    """The bound in words."""
    bound = claim.bound
    if bound is None:
        return ""
    if bound.above is not None:
        return f"above {number(bound.above)}"
    if bound.below is not None:
        return f"below {number(bound.below)}"
    if bound.within is not None:
        return f"from {number(bound.within[0])} to {number(bound.within[1])}"
    by = f" by more than {number(claim.smallest_effect)}" if claim.smallest_effect else ""
    return f"differs from {number(bound.differs_from)}{by}"


def number(x: float | None) -> str:
    """A number as a reader wants it: four digits."""
    if x is None or math.isnan(x):
        return "not a number"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    return f"{x:.4g}".replace("-", "−")


def _arms(scenario: Scenario, cells: Sequence[Cell]) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "differs": ", ".join(f"{path} = {value}" for path, value in changes.items())
            or "as the scenario says",
            "control": "control" if name == scenario.control else "",
        }
        for name, changes in scenario.arms.items()
    ]
