"""Claims section of the report: summary sentences, and one row per claim with an interval plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mores.analysis.intervals import IntervalEstimate
from mores.experiments.claims.verdicts import Verdict, VerdictStatus
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.specification import Claim, Scenario
from mores.report.figures.plot_data import format_interval, format_number

KIND_DESCRIPTIONS = {
    "exact": "implied by the model's equations: every replicate must lie in the bound",
    "statistical": "the 95 % interval must lie in the bound",
    "learned": "an effect of training: the 95 % interval must lie in the bound, and not in the "
    "ablation, an arm without the training signal; if the ablation is undecided, the two arms must "
    "differ. n is the number of independent trainings, including those that stopped early",
    "reward_implied": "predicted by an exact solver of the payoffs; the 95 % interval must lie in "
    "the bound",
    "by_construction": "follows from parameters set by hand; the 95 % interval must still lie in "
    "the bound",
    "report": "a metric without a verdict",
}
INTERVAL_DESCRIPTIONS = {
    "monte_carlo": "replicates (Monte Carlo error)",
    "people": "resampled respondents",
    "parameters": "the stated ranges of uncertain parameters",
}
STATUS_LABELS: dict[VerdictStatus, str] = {
    "holds": "holds",
    "fails": "fails",
    "undecided": "undecided",
    "report": "reported",
}
STATUS_SYMBOLS: dict[VerdictStatus, str] = {
    "holds": "✓",
    "fails": "✗",
    "undecided": "?",
    "report": "•",
}
MAX_QUOTED_CLAIMS = 3  # per status in the summary
AXIS_PADDING = 0.12  # of the data range, on both sides
MIN_LABEL_DISTANCE = 26.0  # percent of the width; closer labels are placed outward


class AxisLabel(NamedTuple):
    """Label of the axis: position in percent of the width, text and SVG text-anchor."""

    x: float
    text: str
    anchor: str


class IntervalPlot(NamedTuple):
    """Plot of an interval and its bound; all positions in percent of the width.

    Attributes:
        bound_spans: start and width of the regions inside the bound.
        bound_edges: ends of these regions.
        low, high, value: interval and estimate.
        open_low, open_high: whether the interval is unbounded on that side.
        labels: labels of the edges.
        alt_text: alternative text.
    """

    bound_spans: tuple[tuple[float, float], ...]
    bound_edges: tuple[float, ...]
    low: float
    high: float
    value: float
    open_low: bool
    open_high: bool
    labels: tuple[AxisLabel, ...]
    alt_text: str


def claim_rows(scenario: Scenario, verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Template row of each claim."""
    return [{"number": i, **_claim_row(verdict, scenario)} for i, verdict in enumerate(verdicts, 1)]


def summarize_claims(verdicts: Sequence[Verdict]) -> str:
    """Numbers of claims by status; failed and undecided claims; claims on uncertain parameters."""
    uncertain = [v for v in verdicts if v.claim.interval == "parameters" and v.status != "report"]
    summary = _count_sentence(verdicts)
    if uncertain and len(uncertain) < len(verdicts):
        holds = sum(v.status == "holds" for v in uncertain)
        text = "the claim holds" if holds else "the claim does not hold"
        if len(uncertain) > 1:
            text = f"{holds} of {len(uncertain)} claims {'holds' if holds == 1 else 'hold'}"
        summary += f" Over the ranges of the uncertain parameters, {text}."
    return summary


def _count_sentence(verdicts: Sequence[Verdict]) -> str:
    by = {s: [(i, v) for i, v in enumerate(verdicts, 1) if v.status == s] for s in STATUS_LABELS}
    total, holds = len(verdicts) - len(by["report"]), len(by["holds"])
    if not total:
        reported = {0: "", 1: " 1 metric is reported."}
        text = reported.get(len(verdicts), f" {len(verdicts)} metrics are reported.")
        return f"No claim is tested.{text}"
    if holds == total:
        all_hold = {1: "The claim holds.", 2: "Both claims hold."}
        return all_hold.get(total, f"All {total} claims hold.")
    sentences = []
    if total > 1:
        parts = [f"{holds or 'None'} of {total} claims {'holds' if holds < 2 else 'hold'}"]
        if num_failed := len(by["fails"]):
            parts.append(f"{num_failed} {'fails' if num_failed == 1 else 'fail'}")
        if num_undecided := len(by["undecided"]):
            parts.append(f"{num_undecided} {'is' if num_undecided == 1 else 'are'} undecided")
        sentences.append(f"{', '.join(parts)}.")
    for status, heading in (("fails", "Not supported"), ("undecided", "Undecided")):
        if by[status]:
            sentences.append(f"{heading}: {_quote_claims(by[status], total > 1)}.")
    return " ".join(sentences)


def _quote_claims(verdicts: Sequence[tuple[int, Verdict]], numbered: bool) -> str:
    """Statements of claims with estimate and bound."""
    texts = []
    for number, verdict in verdicts[:MAX_QUOTED_CLAIMS]:
        statement = f"“{verdict.claim.statement.rstrip('.')}”"
        text = f"{statement}, estimate {format_interval(verdict.estimate)}"
        text += f", claimed: {format_bound(verdict.claim)}"
        texts.append(f"({number}) {text}" if numbered else text)
    omitted = len(verdicts) - MAX_QUOTED_CLAIMS
    return "; ".join(texts) + (f"; and {omitted} more" if omitted > 0 else "")


def _claim_row(verdict: Verdict, scenario: Scenario) -> dict[str, Any]:
    claim, estimate = verdict.claim, verdict.estimate
    is_exact = claim.kind == "exact"
    value, interval = _format_estimate(estimate, is_exact)
    return {
        "statement": claim.statement,
        "status": verdict.status,
        "status_label": STATUS_LABELS[verdict.status],
        "status_symbol": STATUS_SYMBOLS[verdict.status],
        "estimate": value,
        "interval": interval,
        "n": estimate.n,
        "num_points": verdict.num_points,
        "bound": format_bound(claim),
        "plot": interval_plot(claim, estimate, verdict.ablation_estimate),
        "estimand": describe_estimand(claim, scenario),
        "reason": verdict.reason,
        "remark": verdict.remark,
        **_ablation_fields(verdict),
        "kind": claim.kind.replace("_", " "),
        "interval_covers": "" if is_exact else INTERVAL_DESCRIPTIONS[claim.interval],
        "method": estimate.method,
        "source": claim.source or "",
    }


def _ablation_fields(verdict: Verdict) -> dict[str, Any]:
    """Template fields on the ablation of a learned claim."""
    estimate = verdict.ablation_estimate
    if estimate is None:
        fields = ("ablation_estimate", "ablation_interval", "ablation_plot", "ablation_reason")
        return dict.fromkeys(fields)
    value, interval = _format_estimate(estimate, exact=False)
    return {
        "ablation": verdict.claim.ablation,
        "ablation_estimate": value,
        "ablation_interval": interval,
        "ablation_plot": interval_plot(verdict.claim, estimate, verdict.estimate),
        "ablation_reason": "" if verdict.status == "holds" else verdict.reason,
    }


def _format_estimate(estimate: IntervalEstimate, exact: bool) -> tuple[str, str]:
    """Texts of an estimate and of its interval, which may be empty."""
    text = format_interval(estimate, "{}|{} to {}")
    value, _, interval = text.partition("|")
    return value, interval and f"{'replicates' if exact else '95 %:'} {interval}"


def describe_estimand(claim: Claim, scenario: Scenario) -> str:
    """Description of a claim's estimand: statistic, metric, arm, reference, round."""
    text = claim.metric if claim.kind == "exact" else f"{claim.statistic} of {claim.metric}"
    if claim.interval == "parameters":
        text = f"median over parameter draws of the {text}"
    if scenario.arms:
        text += f" in {claim_arm(scenario, claim)}"
    if claim.compare_to:
        text += f" minus {claim.compare_to}"
    if claim.analytic:
        text += f" minus the analytic value {claim.analytic}"
    if claim.relative:
        text += ", relative difference"
    stage = scenario.stage(claim.stage)
    rounds = scenario.rounds_per_episode(stage) if claim.at_round is None else claim.at_round
    stage_text = f" of stage {stage.name}" if scenario.stages else ""
    return f"{text}, after {rounds} rounds{stage_text}"


def format_bound(claim: Claim) -> str:
    """Text of a claim's bound."""
    bound = claim.bound
    if bound is None:
        return ""
    if bound.above is not None:
        return f"above {format_number(bound.above)}"
    if bound.below is not None:
        return f"below {format_number(bound.below)}"
    if bound.within is not None:
        low, high = map(format_number, bound.within)
        return f"exactly {low}" if bound.within[0] == bound.within[1] else f"from {low} to {high}"
    text = f"differs from {format_number(bound.differs_from)}"
    effect = claim.smallest_effect
    return f"{text} by more than {format_number(effect)}" if effect else text


# --- interval plots -----------------------------------------------------------------------------


def interval_plot(
    claim: Claim, estimate: IntervalEstimate, paired_estimate: IntervalEstimate | None = None
) -> IntervalPlot | None:
    """Plot of an interval and the claim's bound; None for an estimate that is not finite.

    Args:
        claim: claim with the bound.
        estimate: plotted estimate.
        paired_estimate: estimate of another plot that must have the same axis.
    """
    if not math.isfinite(estimate.value):
        return None
    edges = _bound_edges(claim)
    estimates = [estimate] if paired_estimate is None else [estimate, paired_estimate]
    values = [x for e in estimates for x in (e.low, e.high, e.value)]
    finite = [x for x in (*values, *edges) if math.isfinite(x)]
    low, high = min(finite), max(finite)
    span = high - low or abs(high) or 1.0
    low, high = low - AXIS_PADDING * span, high + AXIS_PADDING * span

    def position(x: float) -> float:
        return round(100.0 * min(max((x - low) / (high - low), 0.0), 1.0), 2)

    positions = [position(edge) for edge in edges]
    texts = (format_number(x) for x in (estimate.value, estimate.low, estimate.high))
    alt_text = "Estimate {}, interval from {} to {}".format(*texts)
    alt_text += f"; claimed: {format_bound(claim)}." if edges else "."
    return IntervalPlot(
        bound_spans=_bound_spans(claim, positions),
        bound_edges=tuple(dict.fromkeys(positions)),
        low=position(estimate.low),
        high=position(estimate.high),
        value=position(estimate.value),
        open_low=math.isinf(estimate.low),
        open_high=math.isinf(estimate.high),
        labels=_edge_labels(positions, edges),
        alt_text=alt_text,
    )


def _bound_edges(claim: Claim) -> list[float]:
    bound = claim.bound
    if bound is None:
        return []
    if bound.within is not None:
        return list(bound.within)
    if bound.differs_from is not None:
        return [
            bound.differs_from - claim.smallest_effect,
            bound.differs_from + claim.smallest_effect,
        ]
    edge = bound.above if bound.above is not None else bound.below
    assert edge is not None, "a bound is one of four kinds"
    return [edge]


def _bound_spans(claim: Claim, positions: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Regions inside the bound as (start, width)."""
    bound = claim.bound
    if bound is None:
        return ()
    if bound.above is not None:
        spans = [(positions[0], 100.0)]
    elif bound.below is not None:
        spans = [(0.0, positions[0])]
    elif bound.within is not None:
        spans = [(positions[0], positions[1])]
    else:
        spans = [(0.0, positions[0]), (positions[1], 100.0)]
    return tuple((low, round(high - low, 2)) for low, high in spans)


def _edge_labels(positions: Sequence[float], edges: Sequence[float]) -> tuple[AxisLabel, ...]:
    if (
        len(positions) == 2
        and positions[0] != positions[1]
        and positions[1] - positions[0] < MIN_LABEL_DISTANCE
    ):
        low, high = map(format_number, edges)
        if positions[0] > 15.0 and positions[1] < 85.0:
            return AxisLabel(positions[0], low, "end"), AxisLabel(positions[1], high, "start")
        middle = min(max((positions[0] + positions[1]) / 2, 20.0), 80.0)
        return (AxisLabel(middle, f"{low} to {high}", "middle"),)  # no space on one side
    unique = dict(zip(positions, edges, strict=True))
    return tuple(AxisLabel(x, format_number(edge), _text_anchor(x)) for x, edge in unique.items())


def _text_anchor(x: float) -> str:
    return "start" if x < 10.0 else "end" if x > 90.0 else "middle"
