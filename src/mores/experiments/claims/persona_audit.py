"""Audit of a claim that personas move the answers of a language model.

A small model's answers follow the order of the options and the wording of the question; one order
or one template alone gives persona effects that are artefacts. A persona claim therefore comes with

1. both orders of the options, if the readout lists them, and two templates or more (metrics
   `num_orders`, `num_templates`), in its arm, in an arm that is subtracted, and in the control,
2. the shares of variance of everything that involves the order, and of everything that involves the
   persona (`order_total_share`, `persona_total_share`), which are shown beside the verdict,
3. a control: two arms that differ from its arm only in `env.stated_belief` (and in how many orders
   and templates are asked), verbatim in one and paraphrased in the other. In both
   the interval of `belief_effect` must lie above 0: answers that do not follow a stated belief say
   nothing about a persona, whichever way the claim's own interval points.

Where one of them is missing or fails, the claim is undecided. The metrics are those of the
environment `survey`; another environment is audited if it has metrics of these names. A claim on a
metric `..._nats` is audited in nats.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from mores.analysis.intervals import IntervalEstimate
from mores.core.component_names import split_component
from mores.experiments.results.cell_result import CellResult
from mores.experiments.scenario.specification import Claim

NUM_ORDERS, NUM_TEMPLATES = "num_orders", "num_templates"
PERSONA_SHARE, ORDER_SHARE = "persona_total_share", "order_total_share"
PERSONA_EFFECT, BELIEF_EFFECT = "persona_effect", "belief_effect"
NATS = "_nats"
MIN_ORDERS = MIN_TEMPLATES = 2


@dataclasses.dataclass(frozen=True)
class PersonaAudit:
    """What was done to tell the effect of personas from that of the questioning.

    Attributes:
        orders, templates: fewest that were asked in an arm; nan: not recorded.
        order_applies: whether the readout lists the options: without an order there is no effect.
        persona_share, order_share: shares of the variance of answers; nan: not recorded.
        beliefs: effect of a stated belief by wording of the control.
        problem: why the claim is undecided; empty: the audit is passed.
    """

    orders: float
    templates: float
    order_applies: bool
    persona_share: float
    order_share: float
    beliefs: Mapping[str, IntervalEstimate]
    problem: str

    def __str__(self) -> str:
        def number(value: float) -> str:
            return "not recorded" if math.isnan(value) else f"{value:.3g}"

        controls = "none"
        if self.beliefs:
            controls = ", ".join(
                f"{wording} {each.value:.3g} [{each.low:.3g}, {each.high:.3g}]"
                for wording, each in self.beliefs.items()
            )
        orders = number(self.orders) if self.order_applies else "do not apply"
        return (
            f"Audit: orders {orders}, templates {number(self.templates)}; share of "
            f"variance with the persona {number(self.persona_share)}, with the order "
            f"{number(self.order_share)}; effect of a stated belief: {controls}"
        )


def belief_metric(claim: Claim) -> str:
    """Metric of the control of a claim: of the same question, if the claim is about one."""
    base, component = split_component(claim.metric)
    metric = f"{BELIEF_EFFECT}{_suffix(claim)}"
    same = base == f"{PERSONA_EFFECT}{_suffix(claim)}" and component is not None
    return f"{metric}[{component}]" if same else metric


def _suffix(claim: Claim) -> str:
    return NATS if split_component(claim.metric)[0].endswith(NATS) else ""


def audit(
    claim: Claim,
    results: Mapping[str, CellResult],
    stage: str,
    at_round: int,
    beliefs: Mapping[str, IntervalEstimate],
    order_applies: bool,
) -> PersonaAudit:
    """The audit of a persona claim.

    Args:
        claim: the claim.
        results: results by arm, the claim's own one first, with those subtracted and the control.
        stage, at_round: where the claim is taken.
        beliefs: estimates of the effect of a stated belief, by wording.
        order_applies: whether the readout lists the options.
    """

    def recorded(result: CellResult, metric: str) -> float:
        if metric not in result.stage(stage).metrics:
            return math.nan
        column = result.stage(stage).rounds.index(at_round)
        return float(result.by_replicate(metric, stage)[:, column].mean())

    def fewest(metric: str) -> float:
        numbers = [recorded(result, metric) for result in results.values()]
        return math.nan if any(map(math.isnan, numbers)) else min(numbers)

    own = next(iter(results.values()))
    shares = [recorded(own, f"{name}{_suffix(claim)}") for name in (PERSONA_SHARE, ORDER_SHARE)]
    orders, templates = fewest(NUM_ORDERS), fewest(NUM_TEMPLATES)
    problem = _problem(orders if order_applies else MIN_ORDERS, templates, shares, beliefs)
    return PersonaAudit(orders, templates, order_applies, shares[0], shares[1], beliefs, problem)


def _problem(
    orders: float,
    templates: float,
    shares: Sequence[float],
    beliefs: Mapping[str, IntervalEstimate],
) -> str:
    """The first reason for which the audit is not passed."""
    if not orders >= MIN_ORDERS:
        return "the options were not asked in both orders"
    if not templates >= MIN_TEMPLATES:
        return "one wording was asked: two templates are needed"
    if not beliefs:
        return "there is no control with stated beliefs"
    for wording, effect in beliefs.items():
        if math.isnan(effect.value):
            return f"the effect of a {wording} belief is not recorded"
        if effect.undecided:
            return f"the effect of a {wording} belief is not known: {effect.undecided}"
        if not effect.low > 0:
            interval = f"{effect.value:.3g} [{effect.low:.3g}, {effect.high:.3g}]"
            return f"the readout does not follow a {wording} belief: its effect is {interval}"
    if any(math.isnan(share) for share in shares):
        return "the shares of variance of persona and order are not known"
    return ""
