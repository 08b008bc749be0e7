"""Claims as a report shows them: the answer in a sentence, and each interval against its bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mores.analysis.intervals import Estimate
from mores.experiments.claims.verdicts import Verdict, Word
from mores.experiments.scenario.claim_inputs import arm_of
from mores.experiments.scenario.specification import Claim, Scenario
from mores.report.figures.plot_data import interval, number

KINDS = {
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
COVERS = {
    "monte_carlo": "chance between replicates",
    "people": "the choice of respondents",
    "parameters": "parameters drawn from their ranges",
}
WORDS: dict[Word, str] = {
    "holds": "holds",
    "fails": "fails",
    "undecided": "undecided",
    "report": "reported",
}
SIGNS: dict[Word, str] = {"holds": "✓", "fails": "✗", "undecided": "?", "report": "•"}
ROOM = 0.12  # of the width, left and right of all that is shown
NEAR = 26.0  # percent of the width: labels nearer to each other turn away


class Label(NamedTuple):
    """A number under the axis, in percent of the width, and which end of it is there."""

    x: float
    text: str
    anchor: str


class Plot(NamedTuple):
    """An interval against its bound; all places in percent of the width.

    Attributes:
        shades: from where to where the bound is kept.
        edges: its ends.
        low, high, dot: the interval and the estimate.
        open_low, open_high: whether the interval goes on beyond the picture.
        labels: of the edges.
        alt: the same in words.
    """

    shades: tuple[tuple[float, float], ...]
    edges: tuple[float, ...]
    low: float
    high: float
    dot: float
    open_low: bool
    open_high: bool
    labels: tuple[Label, ...]
    alt: str


def rows(scenario: Scenario, judged: Sequence[Verdict]) -> list[dict[str, Any]]:
    """What is told of each claim."""
    return [{"number": i, **_row(verdict, scenario)} for i, verdict in enumerate(judged, 1)]


def answer(judged: Sequence[Verdict]) -> str:
    """What became of the claims, in a sentence or two, and whether it hangs on the unknown."""
    unknown = [v for v in judged if v.claim.interval == "parameters" and v.verdict != "report"]
    told = _verdicts(judged)
    if unknown and len(unknown) < len(judged):
        holds = sum(v.verdict == "holds" for v in unknown)
        many = "the claim about them " + ("holds" if holds else "does not hold")
        if len(unknown) > 1:
            many = f"{holds} of {len(unknown)} hold"
        told += f" Over parameters that are not known, {many}."
    return told


def _verdicts(judged: Sequence[Verdict]) -> str:
    by = {w: [(i, v) for i, v in enumerate(judged, 1) if v.verdict == w] for w in WORDS}
    total, holds = len(judged) - len(by["report"]), len(by["holds"])
    if not total:
        many = f"{len(judged)} figures are reported" if len(judged) > 1 else "a figure is reported"
        return f"No claim is put to the test; {many}." if judged else "No claim is put to the test."
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
            told += f" {said}: {_quoted(by[word])}."
    return told


def _quoted(verdicts: Sequence[tuple[int, Verdict]], most: int = 3) -> str:
    told = "; ".join(f"({i}) “{v.claim.says.rstrip('.')}”" for i, v in verdicts[:most])
    left = len(verdicts) - most
    return f"{told} and {left} more" if left > 0 else told


def _row(verdict: Verdict, scenario: Scenario) -> dict[str, Any]:
    claim, found = verdict.claim, verdict.estimate
    exact = claim.kind == "exact"
    value, ends = _told(found, exact)
    return {
        "says": claim.says,
        "verdict": verdict.verdict,
        "word": WORDS[verdict.verdict],
        "sign": SIGNS[verdict.verdict],
        "estimate": value,
        "interval": ends,
        "n": found.n,
        "points": verdict.n_points,
        "bound": bound_text(claim),
        "plot": plot(claim, found, verdict.ablated),
        "what": what(claim, scenario),
        "reason": verdict.reason,
        "remark": verdict.remark,
        **_ablated(verdict),
        "kind": claim.kind.replace("_", " "),
        "covers": "" if exact else COVERS[claim.interval],
        "method": found.method,
        "source": claim.source or "",
    }


def _ablated(verdict: Verdict) -> dict[str, Any]:
    """The figure in the ablation of a learned claim, and why it did not pass there."""
    found = verdict.ablated
    if found is None:
        return {"ablated": "", "ablated_interval": "", "ablated_plot": None, "why": ""}
    value, ends = _told(found, exact=False)
    return {
        "ablation": verdict.claim.ablation,
        "ablated": value,
        "ablated_interval": ends,
        "ablated_plot": plot(verdict.claim, found, verdict.estimate),
        "why": "" if verdict.verdict == "holds" else verdict.reason,
    }


def _told(found: Estimate, exact: bool) -> tuple[str, str]:
    """The estimate, and its interval if it has one."""
    whole = interval(found, "{}|{} to {}")
    value, _, ends = whole.partition("|")
    return value, ends and f"{'replicates' if exact else '95 %:'} {ends}"


def what(claim: Claim, scenario: Scenario) -> str:
    """What a claim looks at, in words."""
    text = claim.measure if claim.kind == "exact" else f"{claim.statistic} of {claim.measure}"
    if claim.interval == "parameters":
        text = f"median over draws of the {text}"
    if scenario.arms:
        text += f" in {arm_of(scenario, claim)}"
    if claim.against:
        text += f" less that in {claim.against}"
    if claim.prediction:
        text += f" less the formula {claim.prediction}"
    if claim.relative:
        text += ", relative"
    stage = scenario.stage(claim.stage)
    at = scenario.rounds_in(stage) if claim.at is None else claim.at
    where = f" of stage {stage.name}" if scenario.stages else ""
    return f"{text}, after {at} rounds{where}"


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
        low, high = bound.within
        return number(low) if low == high else f"from {number(low)} to {number(high)}"
    by = f" by more than {number(claim.smallest_effect)}" if claim.smallest_effect else ""
    return f"differs from {number(bound.differs_from)}{by}"


# --- the picture --------------------------------------------------------------------------------


def plot(claim: Claim, found: Estimate, beside: Estimate | None = None) -> Plot | None:
    """The interval against the bound; none where there is no figure.

    Args:
        claim: whose bound.
        found: what is drawn.
        beside: what has a plot of its own below or above, which is to have the same axis.
    """
    if not math.isfinite(found.value):
        return None
    edges = _edges(claim)
    shown = [found] if beside is None else [found, beside]
    ends = [x for one in shown for x in (one.low, one.high, one.value)]
    finite = [x for x in (*ends, *edges) if math.isfinite(x)]
    least, most = min(finite), max(finite)
    span = most - least or abs(most) or 1.0
    least, most = least - ROOM * span, most + ROOM * span

    def place(x: float) -> float:
        return round(100.0 * min(max((x - least) / (most - least), 0.0), 1.0), 2)

    at = [place(edge) for edge in edges]
    alt = f"Estimate {number(found.value)}, from {number(found.low)} to {number(found.high)}"
    alt += f"; claimed: {bound_text(claim)}." if edges else "."
    return Plot(
        shades=_shades(claim, at),
        edges=tuple(dict.fromkeys(at)),
        low=place(found.low),
        high=place(found.high),
        dot=place(found.value),
        open_low=math.isinf(found.low),
        open_high=math.isinf(found.high),
        labels=_labels(at, edges),
        alt=alt,
    )


def _edges(claim: Claim) -> list[float]:
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


def _shades(claim: Claim, at: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Where the bound is kept, as (left, width)."""
    bound = claim.bound
    if bound is None:
        return ()
    if bound.above is not None:
        spans = [(at[0], 100.0)]
    elif bound.below is not None:
        spans = [(0.0, at[0])]
    elif bound.within is not None:
        spans = [(at[0], at[1])]
    else:
        spans = [(0.0, at[0]), (at[1], 100.0)]
    return tuple((low, round(high - low, 2)) for low, high in spans)


def _labels(at: Sequence[float], edges: Sequence[float]) -> tuple[Label, ...]:
    if len(at) == 2 and at[0] != at[1] and at[1] - at[0] < NEAR:
        anchors = ["end", "start"] if at[0] > 15.0 and at[1] < 85.0 else ["", ""]
        if not all(anchors):  # no room on one side: both in one label
            middle = min(max((at[0] + at[1]) / 2, 20.0), 80.0)
            return (Label(middle, f"{number(edges[0])} to {number(edges[1])}", "middle"),)
        return tuple(Label(x, number(e), a) for x, e, a in zip(at, edges, anchors, strict=True))
    unique = dict(zip(at, edges, strict=True))
    return tuple(Label(x, number(edge), _anchor(x)) for x, edge in unique.items())


def _anchor(x: float) -> str:
    return "start" if x < 10.0 else "end" if x > 90.0 else "middle"
