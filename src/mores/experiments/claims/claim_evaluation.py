"""Evaluate a scenario's claims on recorded results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import IntervalEstimate
from mores.core.component_names import split_component
from mores.core.environment import ENVIRONMENT
from mores.core.errors import UserError
from mores.experiments.claims import verdicts
from mores.experiments.claims.claim_estimates import (
    ClaimData,
    estimate_claim,
    without_rounding_differences,
)
from mores.experiments.claims.looks import current_look, data_digest
from mores.experiments.claims.persona_audit import PersonaAudit, audit, belief_metric
from mores.experiments.claims.several_claims import holm_adjusted, is_statistical
from mores.experiments.claims.trends import PointData, trend_points
from mores.experiments.claims.verdicts import Verdict
from mores.experiments.results.cell_result import CellResult, mean_by_label
from mores.experiments.results.run_manifest import EarlierLook
from mores.experiments.results.separate_draws import separate_draws
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.claim_inputs import (
    arms_of,
    claim_arm,
    metric_compared_with_control,
)
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Sensitivity, Stage, Target
from mores.experiments.scenario.verify_controls import lists_options
from mores.metrics.drift import distance_from_control

CellResults = Mapping[str, CellResult]  # by cell id


@np.errstate(invalid="ignore")  # of values that are not finite there is no estimate
def evaluate_claims(
    scenario: Scenario,
    cells: Sequence[Cell],
    cell_results: CellResults,
    earlier_looks: Sequence[EarlierLook] = (),
) -> list[Verdict]:
    """The verdict on each claim; over a sweep a claim must hold at every point.

    Args:
        scenario: the scenario.
        cells: the cells of its run.
        cell_results: their results.
        earlier_looks: verdicts before the run was extended.
    """
    cells, cell_results = separate_draws(cells, cell_results)
    points = cells_by_point(cells)
    found = [
        _evaluate_claim(claim, index, scenario, points, cell_results, earlier_looks)
        for index, claim in enumerate(scenario.claims)
    ]
    statistical = [n for n, verdict in enumerate(found) if is_statistical(verdict.claim)]
    for n, alpha in zip(
        statistical, holm_adjusted([found[n].alpha for n in statistical]), strict=True
    ):
        found[n] = dataclasses.replace(found[n], adjusted_alpha=alpha)
    return found


def cells_by_point(cells: Sequence[Cell]) -> list[dict[str, Cell]]:
    """The cells at each point of the sweep or of the uncertain parameters, by arm.

    The points are in the order of their first cells.
    """
    points: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        point = dict(cell.point) if cell.purpose == "arm" else None  # arms may fix some parameters
        key = json.dumps([cell.purpose, cell.index, point], sort_keys=True)
        points.setdefault(key, {})[cell.arm] = cell
    return list(points.values())


def _evaluate_claim(
    claim: Claim,
    index: int,
    scenario: Scenario,
    cells_at_points: Sequence[dict[str, Cell]],
    cell_results: CellResults,
    earlier_looks: Sequence[EarlierLook],
) -> Verdict:
    arm = claim_arm(scenario, claim) or ""
    over_draws = claim.interval == "parameters"
    points: list[PointData] = []
    for cells in cells_at_points:
        if arm not in cells or cells[arm].purpose != ("draw" if over_draws else "arm"):
            continue
        needed = {*arms_of(scenario, claim), scenario.control or ""} & cells.keys()
        by_arm = {name: cell_results[cells[name].id] for name in needed}
        ablation = claim.ablation and make_claim_data(claim, scenario, claim.ablation, by_arm)
        points.append(
            PointData(
                cells[arm].point,
                make_claim_data(claim, scenario, arm, by_arm),
                ablation or None,
                "; ".join(
                    filter(
                        None,
                        (
                            _describe_stopped_trainings(claim, scenario, arm, by_arm),
                            _describe_uncoupled_roles(claim, scenario, by_arm),
                        ),
                    )
                ),
                claim.kind == "learned" and no_updates_made(claim, scenario, by_arm[arm]),
                _audit(claim, scenario, cells, by_arm) if claim.kind == "persona" else None,
            )
        )
    remark = next((each.remark for each in points if each.remark), "")
    digest = data_digest([(each.data, each.ablation) for each in points])
    look = current_look(claim, index, digest, earlier_looks)
    if over_draws:
        draws = [each.data for each in points]
        ablations = [each.ablation for each in points if each.ablation is not None]
        overall = verdicts.evaluate_claim_over_draws(claim, draws, ablations, look.number)
        if num_untrained := sum(each.untrained for each in points):
            overall = _fail_untrained(overall, f"{arm} at {num_untrained} of {len(points)} draws")
        overall = _with_remark(overall, remark, "at one or more draws, ")
        return dataclasses.replace(overall, arm=arm, look=look)
    points = trend_points(claim, points)
    at_points = []
    for each in points:
        verdict = verdicts.evaluate_claim_data(claim, each.data, each.ablation, look.number)
        verdict = _fail_untrained(verdict, arm) if each.untrained else verdict
        verdict = verdicts.audited(verdict, each.audit)
        at_points.append(dataclasses.replace(verdict, arm=arm, point=each.point, look=look))
    with_remarks = [
        _with_remark(verdict, each.remark) for verdict, each in zip(at_points, points, strict=True)
    ]
    if len(with_remarks) == 1:
        return with_remarks[0]
    overall = verdicts.combine_verdicts(claim, at_points)
    overall = _with_remark(overall, remark, "at one or more points, ")
    return dataclasses.replace(overall, arm=arm, at_points=with_remarks)


def _audit(
    claim: Claim, scenario: Scenario, cells: Mapping[str, Cell], results_by_arm: CellResults
) -> PersonaAudit:
    """The audit of a persona claim at a point. `cells`: those at the point, by arm."""
    stage, at_round = stage_and_round(scenario, claim)
    arm, metric = claim_arm(scenario, claim) or "", belief_metric(claim)
    beliefs, used = {}, [arm, *([claim.compare_to] if claim.compare_to else [])]
    for wording, control in () if claim.stated_belief is None else claim.stated_belief:
        used.append(control)
        recorded = split_component(metric)[0] in results_by_arm[control].stage(stage.name).metrics
        effect = IntervalEstimate.undefined(0, "not recorded")
        if recorded:
            interval = "monte_carlo" if split_component(metric)[1] else claim.interval
            update = {"metric": metric, "arm": control, "interval": interval}
            update |= {"kind": "report", "bound": None, "compare_to": None, "references": None}
            about = claim.model_copy(update={**update, "relative": False, "smallest_effect": 0.0})
            effect = estimate_claim(
                about, make_claim_data(about, scenario, control, results_by_arm)
            )
        beliefs[wording] = effect
    results = {name: results_by_arm[name] for name in used}
    return audit(claim, results, stage.name, at_round, beliefs, lists_options(cells[arm]))


def _describe_stopped_trainings(
    claim: Claim, scenario: Scenario, arm: str, results_by_arm: CellResults
) -> str:
    """Text on how many of a claim's training runs stopped early; empty if none did.

    They are included in the estimate: excluding them would bias it by selection.
    """
    names = [stage.name for stage in scenario.stages_through(claim.stage)]
    parts = []
    for name in dict.fromkeys(arms_of(scenario, claim)):
        result = results_by_arm[name]
        stopped = [training for training in result.stopped if training.stage in names]
        if stopped:
            num_stopped = len({s.replicate if s.replicate >= 0 else s.message for s in stopped})
            n = len(np.unique(result.replicate))
            parts.append(f"{num_stopped} of {n} training runs in {name} stopped early")
    return ", ".join(parts)


def _describe_uncoupled_roles(claim: Claim, scenario: Scenario, results_by_arm: CellResults) -> str:
    """Text on roles whose draws the arms of a claim do not share; empty if there are none.

    The interval of a difference of such arms is valid, and wider than that of coupled arms.
    """
    arms = dict.fromkeys(arms_of(scenario, claim))
    if metric_compared_with_control(claim.metric) is not None and scenario.control is not None:
        arms[scenario.control] = None
    if len(arms) < 2:
        return ""
    roles = {role for arm in arms for role in results_by_arm[arm].uncoupled_roles}
    policies = sorted(roles - {ENVIRONMENT})
    texts = []
    if ENVIRONMENT in roles:
        texts.append("same seed, not coupled: the environment draws its own random numbers")
    if policies:
        texts.append(f"not coupled: the arms share no draws of {', '.join(policies)}")
    return ", ".join(texts)


def no_updates_made(claim: Claim, scenario: Scenario, cell_result: CellResult) -> bool:
    """Whether no model of an arm was updated in the training stages up to the claim's stage."""
    names = [stage.name for stage in scenario.stages_through(claim.stage)]
    statuses = [status for status in cell_result.training_statuses if status.stage in names]
    return bool(statuses) and all(status.none_updated for status in statuses)


def _fail_untrained(verdict: Verdict, where: str) -> Verdict:
    reason = f"no model in {where} was updated"
    return dataclasses.replace(verdict, status="fails", reason=reason, alpha=1.0)


def _with_remark(verdict: Verdict, remark: str, prefix: str = "") -> Verdict:
    """A verdict with a remark, also in its reason."""
    if not remark:
        return verdict
    remark = prefix + remark
    return dataclasses.replace(verdict, reason=f"{verdict.reason}; {remark}", remark=remark)


def stage_and_round(
    scenario: Scenario, estimand: Claim | Target | Sensitivity
) -> tuple[Stage, int]:
    """Stage of an estimand, and the number of rounds after which it is taken."""
    stage = scenario.stage(getattr(estimand, "stage", None))
    at_round = estimand.at_round
    return stage, scenario.rounds_per_episode(stage) if at_round is None else at_round


def make_claim_data(
    claim: Claim, scenario: Scenario, arm: str, results_by_arm: CellResults
) -> ClaimData:
    """The data of a claim at one point, one value per replicate.

    Args:
        claim: the claim, or another object with its metric, stage and round.
        scenario: its scenario.
        arm: the arm.
        results_by_arm: results of the arms at that point.
    """
    stage, at_round = stage_and_round(scenario, claim)
    result, control = results_by_arm[arm], results_by_arm.get(scenario.control or "")
    if getattr(claim, "interval", "") == "components":
        values = metric_by_component(result, claim.metric, stage.name, at_round)
        if claim.compare_to is None:
            return ClaimData(values)
        other = results_by_arm[claim.compare_to]
        return ClaimData(values, metric_by_component(other, claim.metric, stage.name, at_round))
    values = metric_at_round(result, claim.metric, stage.name, at_round, control)
    used = [result, *([control] if control is not None else [])]
    bounds = None
    if metric_compared_with_control(claim.metric) is None:
        bounds = result.stage(stage.name).bounds(claim.metric)
        used = [result]
    deterministic = not any(each.drew_random_numbers for each in used)
    if claim.analytic is not None:
        analytic = np.asarray(result.stage(stage.name).analytic_values[claim.analytic])
        law = float(analytic[at_round] if analytic.ndim else analytic)
        return ClaimData(values, law, bounds, deterministic)
    if claim.compare_to is None:
        return ClaimData(values, None, bounds, deterministic)
    other = results_by_arm[claim.compare_to]
    reference = metric_at_round(other, claim.metric, stage.name, at_round, control)
    if not claim.checks_every_replicate:
        reference = without_rounding_differences(reference, values)
    deterministic &= not other.drew_random_numbers
    if claim.references is None:
        return ClaimData(values, reference, bounds, deterministic)
    starts = [results_by_arm[name] for name in claim.references]
    first, second = (
        metric_at_round(start, claim.metric, stage.name, at_round, control) for start in starts
    )
    if not claim.checks_every_replicate:
        first = without_rounding_differences(first, values)
        second = without_rounding_differences(second, reference)
    deterministic &= not any(start.drew_random_numbers for start in starts)
    if bounds is not None:
        bounds = (bounds[0] - bounds[1], bounds[1] - bounds[0])
    changes = values - first, reference - second
    return ClaimData(*changes, bounds, deterministic, is_difference=True)


def metric_at_round(
    cell_result: CellResult, metric: str, stage: str, at_round: int, control: CellResult | None
) -> Float[np.ndarray, " replicate"]:
    """A metric after a number of rounds, averaged over worlds and episodes.

    Derived metrics need the control's result.
    """
    column = cell_result.stage(stage).rounds.index(at_round)
    compared = metric_compared_with_control(metric)
    if compared is not None:
        assert control is not None  # checked with the scenario
        return effect_by_replicate(cell_result, control, stage, compared)[:, column]
    return cell_result.by_replicate(metric, stage)[:, column]


def metric_by_component(
    cell_result: CellResult, metric: str, stage: str, at_round: int
) -> Float[np.ndarray, " component"]:
    """Components of a vector metric after a number of rounds, averaged over all worlds."""
    results = cell_result.stage(stage)
    column = results.rounds.index(at_round)
    names = results.components(metric)
    return np.array([results.array(n).astype(np.float64)[..., column].mean() for n in names])


def effect_by_replicate(
    cell_result: CellResult,
    control: CellResult,
    stage: str | None = None,
    metric: str = "mean_value",
) -> Float[np.ndarray, "replicate round"]:
    """Distance of an arm's metric from the control's, world by world on shared random numbers.

    Averaged over the worlds and episodes of each replicate.
    """
    values, baseline = (
        np.stack([at.array(name) for name in at.components(metric)], -1)
        for at in (cell_result.stage(stage), control.stage(stage))
    )
    if values.shape[-1] != baseline.shape[-1]:
        raise UserError(
            f"a distance of {metric} from the control needs as many values in {cell_result.cell} "
            f"as in {control.cell}: {values.shape[-1]} and {baseline.shape[-1]}",
            code="wrong_shape",
            path=metric,
        )
    effect = distance_from_control(values, baseline)
    return mean_by_label(cell_result.replicate, effect.mean(1))
