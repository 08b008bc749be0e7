"""Claims that no result could decide at the scenario's number of replicates.

Each claim is judged, by the code of verdicts, on made-up data that are as clear as data can be: all
values at an end of the metric's bounds or in the bound, or, without bounds, values of small spread.
A claim that is undecided on all of them is undecided on any data. One exception is not known before
the run: replicates that draw no random number are equal for certain, which is decided.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from mores.analysis.sampling_intervals import interval_over_draws
from mores.core.component_names import split_component
from mores.core.errors import UserError
from mores.experiments.claims.bounds import bound_range
from mores.experiments.claims.claim_estimates import CONFIDENCE_LEVEL, ClaimData
from mores.experiments.claims.verdicts import evaluate_claim_data
from mores.experiments.scenario.cell import BuiltCell, Components
from mores.experiments.scenario.claim_inputs import claim_arm, metric_compared_with_control
from mores.experiments.scenario.specification import Claim, Scenario

MAX_REPLICATES = 64  # largest number that is tried
Bounds = tuple[float, float] | None


def undecidable_claims(scenario: Scenario, cells: Sequence[BuiltCell]) -> Iterator[str]:
    """A sentence for each claim that is undecided whatever the replicates show."""
    for index, claim in enumerate(scenario.claims):
        if claim.bound is None or claim.checks_every_replicate or claim.interval == "components":
            continue  # the number of components is known when they are recorded
        if claim.interval == "parameters":
            draws = scenario.uncertainty.draws if scenario.uncertainty else 0
            estimate = interval_over_draws(np.arange(float(draws)), CONFIDENCE_LEVEL)
            if draws and math.isinf(estimate.low):
                yield f"claims.{index} will be undecided: {estimate.method}"
            continue
        arm = claim_arm(scenario, claim)
        built = next((each for each in cells if each.cell.arm == arm), None)
        bounds = _metric_bounds(scenario, claim, built)
        reason = undecided_reason(claim, scenario.replicates, bounds)
        if not reason:
            continue
        larger = range(scenario.replicates + 1, MAX_REPLICATES + 1)
        enough = next((n for n in larger if not undecided_reason(claim, n, bounds)), None)
        needed = f"; {enough} could decide it" if enough and "needed" not in reason else ""
        yield (
            f"claims.{index} will be undecided, unless no random number is drawn: {reason}{needed}"
        )


def undecided_reason(claim: Claim, replicates: int, bounds: Bounds) -> str:
    """Why a claim is undecided on any data of so many replicates; empty if it may be decided.

    Args:
        claim: the claim, with a bound and an interval over replicates.
        replicates: their number.
        bounds: smallest and largest possible value of its metric, if both exist.
    """
    reason = ""
    for data in _clear_data(claim, replicates, bounds):
        verdict = evaluate_claim_data(claim, data, None)
        if verdict.status != "undecided":
            return ""
        estimate = verdict.estimate
        few = f"{replicates} replicates are too few: " if replicates > 1 else ""
        reason = reason or estimate.undecided or few + estimate.method
    return reason


def _clear_data(claim: Claim, n: int, bounds: Bounds) -> Iterator[ClaimData]:
    """Made-up data of `n` replicates that are as clear as data can be."""
    first, last, _ = bound_range(claim)
    ends = [end for end in (first, last) if math.isfinite(end)]
    middle, size = sum(ends) / len(ends), 1.0 + max(map(abs, ends))
    effects = [middle, middle - 9.0 * size, middle + 9.0 * size]  # inside and far outside the bound
    noise = 1e-6 * np.linspace(-1.0, 1.0, n) ** 3
    subtracts = claim.compare_to is not None or claim.analytic is not None
    if bounds is None:
        base = 1.0 if subtracts else 0.0
        for effect in effects:
            values = base + effect + size * noise
            reference = base + size * noise**2 if claim.compare_to is not None else base
            yield ClaimData(values, reference if subtracts else None)
        return
    levels = [*bounds, *np.clip(effects, *bounds)]
    references = [*bounds, sum(bounds) / 2] if subtracts else [None]
    for level, base in itertools.product(levels, references):
        if claim.relative and base == 0.0:
            continue
        for wiggle in (0.0, (bounds[1] - bounds[0]) * noise):
            values = np.clip(np.full(n, level) + wiggle, *bounds)
            reference = np.full(n, base) if claim.compare_to is not None else base
            yield ClaimData(values, reference, bounds)


def _metric_bounds(scenario: Scenario, claim: Claim, built: BuiltCell | None) -> Bounds:
    """Smallest and largest value of a claim's metric in its arm; None for derived quantities."""
    derived = (claim.slope_in, claim.monotone_in, claim.references)
    compared = metric_compared_with_control(claim.metric)
    if built is None or compared is not None or any(each is not None for each in derived):
        return None
    name = split_component(claim.metric)[0]
    environment = next(
        each.environment
        for each in built.stages
        if each.stage.name == scenario.stage(claim.stage).name
    )
    spec = scenario.metric_specs.get(name, name)
    if spec == name and name in environment.metric_bounds:
        return environment.metric_bounds[name]
    spec = {"kind": spec} if isinstance(spec, str) else spec
    try:
        return Components().make("metric", spec, ("metrics",), built.cell.source_map).bounds
    except UserError:  # the environment's own without bounds, a return, a policy's
        return None
