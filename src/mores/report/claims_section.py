"""Claims section of the report: summary sentences, descriptions and plots of each claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mores.analysis.intervals import IntervalEstimate
from mores.experiments.claims.bounds import bound_range
from mores.experiments.claims.claim_evaluation import stage_and_round
from mores.experiments.claims.looks import describe_look
from mores.experiments.claims.several_claims import describe_several
from mores.experiments.claims.verdicts import Verdict, VerdictStatus
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.specification import Claim, Scenario
from mores.report.figures.plot_data import format_interval, format_number

KIND_DESCRIPTIONS = {
    "exact": "implied by the model's equations: every replicate must lie in the bound",
    "statistical": "the 95 % interval must lie in the bound",
    "learned": "an effect of training: the 95 % interval must lie in the bound, and not in the "
    "ablation, an arm whose training signal has no information on the effect; if the ablation is "
    "undecided, the two arms must differ. n is the number of independent trainings, including "
    "those that stopped early",
    "persona": "an effect of personas on a language model: the 95 % interval must lie in the "
    "bound, and the audit must be passed: both orders of the options, two wordings or more, and "
    "answers that follow a stated belief, verbatim and paraphrased. Else it is undecided",
    "reward_implied": "predicted by an exact solver of the payoffs; the 95 % interval must lie in "
    "the bound",
    "by_construction": "follows from parameters set by hand; the 95 % interval must still lie in "
    "the bound",
    "report": "a metric without a verdict",
}
INTERVAL_DESCRIPTIONS = {
    "monte_carlo": "replicates (Monte Carlo error)",
    "components": "components of the metric, such as questions, each averaged over replicates",
    "people": "resampled respondents, whose mean is taken as normal",
    "parameters": "the stated ranges of uncertain parameters",
}
STATUS_LABELS: dict[VerdictStatus, tuple[str, str]] = {  # symbol and word
    "holds": ("✓", "holds"),
    "fails": ("✗", "fails"),
    "undecided": ("?", "undecided"),
    "report": ("•", "reported"),
}
MAX_QUOTED_CLAIMS = 3  # per status in the summary
AXIS_PADDING = 0.12  # of the data range, on both sides
MIN_LABEL_DISTANCE = 26.0  # percent of the width; closer labels are placed outward


def format_result(estimate: IntervalEstimate, label: str) -> tuple[str, str]:
    """Texts of an estimate and of its interval, which may be empty."""
    value, _, interval = format_interval(estimate, "{}|{} to {}").partition("|")
    return value, interval and f"{label} {interval}"


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


def summarize_several(verdicts: Sequence[Verdict]) -> str:
    """Sentence on the number of statistical claims; empty for less than two."""
    return describe_several([(v.claim, v.adjusted_status, v.look.number) for v in verdicts])


def notes(verdict: Verdict) -> list[str]:
    """What a reader must know beside the verdict: warnings, adjustment, changes, looks."""
    adjusted = ""
    if verdict.adjusted_status != verdict.status:
        alphas = (format_number(x, 2) for x in (verdict.alpha, verdict.adjusted_alpha))
        adjusted = "Adjusted for the number of claims it is {}: it holds at alpha {}, adjusted {}."
        adjusted = adjusted.format(verdict.adjusted_status, *alphas)
    look = describe_look(verdict.claim, verdict.look, verdict.level)
    audit = "" if verdict.audit is None else f"{verdict.audit}."
    if verdict.audit is not None and verdict.audit.problem:
        audit = f"{audit} Undecided, since {verdict.audit.problem}."
    texts = [audit, verdict.warning, adjusted, verdict.changed, look]
    return [f"{text[:1].upper()}{text[1:]}" for text in texts if text]


def describe_points(verdict: Verdict) -> str:
    """Point of the sweep at which the estimate was taken, and the range over all points."""
    point = ", ".join(f"{path} = {value}" for path, value in verdict.point.items())
    low, high = map(format_number, verdict.range)
    return f"at {point}; {low} to {high} over {verdict.num_points} points"


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
        sentences.append(f"{holds or 'None'} of {total} claims {'holds' if holds < 2 else 'hold'}.")
    for status, heading in (("fails", "Not supported"), ("undecided", "Undecided")):
        texts = []
        for number, verdict in by[status][:MAX_QUOTED_CLAIMS]:
            text = f"“{verdict.claim.statement.rstrip('.')}”, estimate "
            text += f"{format_interval(verdict.estimate)}, claimed: {format_bound(verdict.claim)}"
            texts.append(f"({number}) {text}" if total > 1 else text)
        if (omitted := len(by[status]) - MAX_QUOTED_CLAIMS) > 0:
            texts.append(f"and {omitted} more")
        if texts:
            count = f" ({len(by[status])})" if omitted > 0 else ""
            sentences.append(f"{heading}{count}: {'; '.join(texts)}.")
    return " ".join(sentences)


def describe_estimand(claim: Claim, scenario: Scenario) -> str:
    """Description of a claim's estimand: statistic, metric, arm, reference, round."""
    stage, rounds = stage_and_round(scenario, claim)
    parts = [
        claim.metric if claim.checks_every_replicate else f"{claim.statistic} of {claim.metric}"
    ]
    if claim.interval == "parameters":
        parts.insert(0, "median over parameter draws of the")
    if scenario.arms:
        parts.append(f"in {claim_arm(scenario, claim)}")
    if claim.compare_to:
        parts.append(f"minus {claim.compare_to}")
    if claim.references:
        parts.append("as changes from {} and {}".format(*claim.references))
    if claim.analytic:
        parts.append(f"minus the analytic value {claim.analytic}")
    text = " ".join(parts) + (", relative difference" if claim.relative else "")
    if claim.slope_in:
        text += f", slope in {claim.slope_in}"
    if claim.monotone_in:
        text += f", change from each value of {claim.monotone_in} to the next"
    stage_text = f" of stage {stage.name}" if scenario.stages else ""
    return f"{text}, after {rounds} rounds{stage_text}"


def format_bound(claim: Claim) -> str:
    """Text of a claim's bound; empty without one."""
    if claim.bound is None:
        return ""
    first, last, is_inside = bound_range(claim)
    low, high = format_number(first), format_number(last)
    if is_inside:
        return f"exactly {low}" if first == last else f"from {low} to {high}"
    if math.isinf(first) or math.isinf(last):
        return f"above {high}" if math.isinf(first) else f"below {low}"
    text = f"differs from {format_number(claim.bound.differs_from)}"
    effect = claim.smallest_effect
    return f"{text} by more than {format_number(effect)}" if effect else text


# --- interval plots -----------------------------------------------------------------------------


class IntervalPlot(NamedTuple):
    """Plot of an interval and its bound; all positions in percent of the width."""

    bound_spans: list[tuple[float, float]]  # start and width of the regions inside the bound
    bound_edges: list[float]  # ends of these regions
    low: float
    high: float
    value: float
    open_low: bool  # whether the interval is unbounded on that side
    open_high: bool
    labels: list[tuple[float, str, str]]  # of the edges: position, text and SVG text-anchor
    alt_text: str


def interval_plot(
    claim: Claim, estimate: IntervalEstimate, paired_estimate: IntervalEstimate | None = None
) -> IntervalPlot | None:
    """Plot of an interval and the claim's bound; None for an estimate that is not finite.

    A paired estimate is that of another plot that must have the same axis.
    """
    if not math.isfinite(estimate.value):
        return None
    ends = () if claim.bound is None else bound_range(claim)
    edges = [end for end in ends[:2] if math.isfinite(end)]
    values = [x for e in (estimate, paired_estimate) if e for x in (e.low, e.high, e.value)]
    finite = [x for x in (*values, *edges) if math.isfinite(x)]
    low, high = min(finite), max(finite)
    span = high - low or abs(high) or 1.0
    low, high = low - AXIS_PADDING * span, high + AXIS_PADDING * span

    def position(x: float) -> float:
        return round(float(np.interp(x, (low, high), (0.0, 100.0))), 2)

    spans = []
    if ends:
        first, last = position(ends[0]), position(ends[1])
        spans = [(first, last)] if ends[2] else [(0.0, first), (last, 100.0)]
        spans = [(a, round(b - a, 2)) for a, b in spans if ends[2] or b > a]
    texts = (format_number(x) for x in (estimate.value, estimate.low, estimate.high))
    alt_text = "Estimate {}, interval from {} to {}".format(*texts)
    alt_text += f"; claimed: {format_bound(claim)}." if edges else "."
    labels = {position(edge): format_number(edge) for edge in edges}
    return IntervalPlot(
        bound_spans=spans,
        bound_edges=list(labels),
        low=position(estimate.low),
        high=position(estimate.high),
        value=position(estimate.value),
        open_low=math.isinf(estimate.low),
        open_high=math.isinf(estimate.high),
        labels=_place_labels(labels),
        alt_text=alt_text,
    )


def _place_labels(labels: dict[float, str]) -> list[tuple[float, str, str]]:
    """Labels with their anchors; two close ones outward, or as one if a side has no space."""
    if len(labels) == 2:
        (low, low_text), (high, high_text) = labels.items()
        if high - low < MIN_LABEL_DISTANCE:
            if low > 15.0 and high < 85.0:
                return [(low, low_text, "end"), (high, high_text, "start")]
            middle = min(max((low + high) / 2, 20.0), 80.0)
            return [(middle, f"{low_text} to {high_text}", "middle")]
    anchors = {x: "start" if x < 10.0 else "end" if x > 90.0 else "middle" for x in labels}
    return [(x, text, anchors[x]) for x, text in labels.items()]
