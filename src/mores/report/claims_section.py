"""Claims as a report shows them: the answer in a sentence, and each interval against its bound."""

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
    "exact": "a formula or a logical consequence: every replicate must lie in the bound",
    "statistical": "the 95 % interval must lie in the bound",
    "learned": "training must have brought it about: the 95 % interval must lie in the bound, and "
    "in the ablation, an arm from which what is learned from was taken, it must not; where it is "
    "undecided there, the two arms must differ. n counts independent trainings; those that stopped "
    "early count as they are",
    "reward_implied": "an exact solver of the payoffs predicts it; the interval must lie inside",
    "by_construction": "follows from what was put in by hand; the 95 % interval must lie in the "
    "bound all the same",
    "report": "a figure without a verdict",
}
INTERVAL_DESCRIPTIONS = {
    "monte_carlo": "chance between replicates",
    "people": "the choice of respondents",
    "parameters": "parameters drawn from their ranges",
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
AXIS_PADDING = 0.12  # of the width, left and right of all that is shown
MIN_LABEL_DISTANCE = 26.0  # percent of the width: labels nearer to each other turn away


class AxisLabel(NamedTuple):
    """A number under the axis, in percent of the width, and which end of it is there."""

    x: float
    text: str
    anchor: str


class IntervalPlot(NamedTuple):
    """An interval against its bound; all places in percent of the width.

    Attributes:
        bound_spans: from where to where the bound is kept.
        bound_edges: its ends.
        low, high, value: the interval and the estimate.
        open_low, open_high: whether the interval goes on beyond the picture.
        labels: of the edges.
        alt_text: the same in words.
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
    """What is told of each claim."""
    return [{"number": i, **_claim_row(verdict, scenario)} for i, verdict in enumerate(verdicts, 1)]


def summarize_claims(verdicts: Sequence[Verdict]) -> str:
    """What became of the claims, in a sentence or two, and whether it hangs on the unknown."""
    unknown = [v for v in verdicts if v.claim.interval == "parameters" and v.status != "report"]
    told = _count_sentence(verdicts)
    if unknown and len(unknown) < len(verdicts):
        holds = sum(v.status == "holds" for v in unknown)
        many = "the claim about them " + ("holds" if holds else "does not hold")
        if len(unknown) > 1:
            many = f"{holds} of {len(unknown)} hold"
        told += f" Over parameters that are not known, {many}."
    return told


def _count_sentence(verdicts: Sequence[Verdict]) -> str:
    by = {w: [(i, v) for i, v in enumerate(verdicts, 1) if v.status == w] for w in STATUS_LABELS}
    total, holds = len(verdicts) - len(by["report"]), len(by["holds"])
    if not total:
        many = (
            f"{len(verdicts)} figures are reported" if len(verdicts) > 1 else "a figure is reported"
        )
        return (
            f"No claim is put to the test; {many}." if verdicts else "No claim is put to the test."
        )
    if holds == total:
        return {1: "The claim holds.", 2: "Both claims hold."}.get(
            total, f"All {total} claims hold."
        )
    if total == 1:
        return "The claim fails." if by["fails"] else "The claim is undecided."
    parts = [f"{holds or 'None'} of {total} claims {'holds' if holds < 2 else 'hold'}"]
    if fails := len(by["fails"]):
        parts.append(f"{fails} {'fails' if fails == 1 else 'fail'}")
    if open_ := len(by["undecided"]):
        parts.append(f"{open_} {'is' if open_ == 1 else 'are'} undecided")
    told = f"{', '.join(parts)}."
    for word, said in (("fails", "Failed"), ("undecided", "Undecided")):
        if by[word]:
            told += f" {said}: {_quote_statements(by[word])}."
    return told


def _quote_statements(verdicts: Sequence[tuple[int, Verdict]], max_listed: int = 3) -> str:
    told = "; ".join(f"({i}) “{v.claim.statement.rstrip('.')}”" for i, v in verdicts[:max_listed])
    left = len(verdicts) - max_listed
    return f"{told} and {left} more" if left > 0 else told


def _claim_row(verdict: Verdict, scenario: Scenario) -> dict[str, Any]:
    claim, found = verdict.claim, verdict.estimate
    exact = claim.kind == "exact"
    value, ends = _format_estimate(found, exact)
    return {
        "says": claim.statement,
        "verdict": verdict.status,
        "word": STATUS_LABELS[verdict.status],
        "sign": STATUS_SYMBOLS[verdict.status],
        "estimate": value,
        "interval": ends,
        "n": found.n,
        "points": verdict.num_points,
        "bound": format_bound(claim),
        "plot": interval_plot(claim, found, verdict.ablation_estimate),
        "what": describe_estimand(claim, scenario),
        "reason": verdict.reason,
        "remark": verdict.remark,
        **_ablation_fields(verdict),
        "kind": claim.kind.replace("_", " "),
        "covers": "" if exact else INTERVAL_DESCRIPTIONS[claim.interval],
        "method": found.method,
        "source": claim.source or "",
    }


def _ablation_fields(verdict: Verdict) -> dict[str, Any]:
    """The figure in the ablation of a learned claim, and why it did not pass there."""
    found = verdict.ablation_estimate
    if found is None:
        return {"ablated": "", "ablated_interval": "", "ablated_plot": None, "why": ""}
    value, ends = _format_estimate(found, exact=False)
    return {
        "ablation": verdict.claim.ablation,
        "ablated": value,
        "ablated_interval": ends,
        "ablated_plot": interval_plot(verdict.claim, found, verdict.estimate),
        "why": "" if verdict.status == "holds" else verdict.reason,
    }


def _format_estimate(estimate: IntervalEstimate, exact: bool) -> tuple[str, str]:
    """The estimate, and its interval if it has one."""
    whole = format_interval(estimate, "{}|{} to {}")
    value, _, ends = whole.partition("|")
    return value, ends and f"{'replicates' if exact else '95 %:'} {ends}"


def describe_estimand(claim: Claim, scenario: Scenario) -> str:
    """What a claim looks at, in words."""
    text = claim.metric if claim.kind == "exact" else f"{claim.statistic} of {claim.metric}"
    if claim.interval == "parameters":
        text = f"median over draws of the {text}"
    if scenario.arms:
        text += f" in {claim_arm(scenario, claim)}"
    if claim.compare_to:
        text += f" less that in {claim.compare_to}"
    if claim.analytic:
        text += f" less the formula {claim.analytic}"
    if claim.relative:
        text += ", relative"
    stage = scenario.stage(claim.stage)
    at = scenario.rounds_per_episode(stage) if claim.at_round is None else claim.at_round
    where = f" of stage {stage.name}" if scenario.stages else ""
    return f"{text}, after {at} rounds{where}"


def format_bound(claim: Claim) -> str:
    """The bound in words."""
    bound = claim.bound
    if bound is None:
        return ""
    if bound.above is not None:
        return f"above {format_number(bound.above)}"
    if bound.below is not None:
        return f"below {format_number(bound.below)}"
    if bound.within is not None:
        low, high = bound.within
        return (
            format_number(low)
            if low == high
            else f"from {format_number(low)} to {format_number(high)}"
        )
    by = f" by more than {format_number(claim.smallest_effect)}" if claim.smallest_effect else ""
    return f"differs from {format_number(bound.differs_from)}{by}"


# --- the picture --------------------------------------------------------------------------------


def interval_plot(
    claim: Claim, estimate: IntervalEstimate, paired_estimate: IntervalEstimate | None = None
) -> IntervalPlot | None:
    """The interval against the bound; none where there is no figure.

    Args:
        claim: whose bound.
        estimate: what is drawn.
        paired_estimate: what has a plot of its own below or above, which is to have the same axis.
    """
    if not math.isfinite(estimate.value):
        return None
    edges = _bound_edges(claim)
    shown = [estimate] if paired_estimate is None else [estimate, paired_estimate]
    ends = [x for one in shown for x in (one.low, one.high, one.value)]
    finite = [x for x in (*ends, *edges) if math.isfinite(x)]
    least, most = min(finite), max(finite)
    span = most - least or abs(most) or 1.0
    least, most = least - AXIS_PADDING * span, most + AXIS_PADDING * span

    def place(x: float) -> float:
        return round(100.0 * min(max((x - least) / (most - least), 0.0), 1.0), 2)

    at = [place(edge) for edge in edges]
    alt = f"Estimate {format_number(estimate.value)}, from {format_number(estimate.low)} to {format_number(estimate.high)}"
    alt += f"; claimed: {format_bound(claim)}." if edges else "."
    return IntervalPlot(
        bound_spans=_bound_spans(claim, at),
        bound_edges=tuple(dict.fromkeys(at)),
        low=place(estimate.low),
        high=place(estimate.high),
        value=place(estimate.value),
        open_low=math.isinf(estimate.low),
        open_high=math.isinf(estimate.high),
        labels=_edge_labels(at, edges),
        alt_text=alt,
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
    """Where the bound is kept, as (left, width)."""
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
        anchors = ["end", "start"] if positions[0] > 15.0 and positions[1] < 85.0 else ["", ""]
        if not all(anchors):  # no room on one side: both in one label
            middle = min(max((positions[0] + positions[1]) / 2, 20.0), 80.0)
            return (
                AxisLabel(
                    middle, f"{format_number(edges[0])} to {format_number(edges[1])}", "middle"
                ),
            )
        return tuple(
            AxisLabel(x, format_number(e), a)
            for x, e, a in zip(positions, edges, anchors, strict=True)
        )
    unique = dict(zip(positions, edges, strict=True))
    return tuple(AxisLabel(x, format_number(edge), _text_anchor(x)) for x, edge in unique.items())


def _text_anchor(x: float) -> str:
    return "start" if x < 10.0 else "end" if x > 90.0 else "middle"
