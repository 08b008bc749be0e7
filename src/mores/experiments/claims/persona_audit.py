"""Audit of a claim that personas move the answers of a language model.

A small model's answers follow the order of the options and the wording of the question; one order
or one template alone gives persona effects that are artefacts. A persona claim therefore comes with

1. both orders of the options and two templates or more (metrics `num_orders`, `num_templates`),
2. the shares of variance of everything that involves the order, and of everything that involves the
   persona (`order_total_share`, `persona_total_share`), which are shown beside the verdict,
3. a control: two arms in which people are told what to believe, verbatim and paraphrased. In both
   the interval of `belief_effect` must lie above 0: answers that do not follow a stated belief say
   nothing about a persona, whichever way the claim's own interval points.

Where one of them is missing or fails, the claim is undecided. The metrics are those of the
environment `survey`; another environment is audited if it has metrics of these names. A claim on a
metric `..._nats` is audited in nats.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from mores.analysis.intervals import IntervalEstimate
from mores.core.component_names import split_component
from mores.experiments.results.cell_result import CellResult
from mores.experiments.scenario.specification import Claim

NUM_ORDERS, NUM_TEMPLATES = "num_orders", "num_templates"
PERSONA_SHARE, ORDER_SHARE = "persona_total_share", "order_total_share"
BELIEF_EFFECT = "belief_effect"
NATS = "_nats"
MIN_ORDERS = MIN_TEMPLATES = 2


@dataclasses.dataclass(frozen=True)
class PersonaAudit:
    """What was done to tell the effect of personas from that of the questioning.

    Attributes:
        orders, templates: how many were asked; nan: not recorded.
        persona_share, order_share: shares of the variance of answers; nan: not recorded.
        beliefs: effect of a stated belief by wording of the control.
        problem: why the claim is undecided; empty: the audit is passed.
    """

    orders: float
    templates: float
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
        return (
            f"Audit: orders {number(self.orders)}, templates {number(self.templates)}; share of "
            f"variance with the persona {number(self.persona_share)}, with the order "
            f"{number(self.order_share)}; effect of a stated belief: {controls}"
        )


def audit_metrics(claim: Claim) -> dict[str, str]:
    """Names of the metrics that the audit of a claim reads, by what they are."""
    suffix = NATS if split_component(claim.metric)[0].endswith(NATS) else ""
    metrics = {NUM_ORDERS: NUM_ORDERS, NUM_TEMPLATES: NUM_TEMPLATES}
    return metrics | {
        name: f"{name}{suffix}" for name in (PERSONA_SHARE, ORDER_SHARE, BELIEF_EFFECT)
    }


def audit(
    claim: Claim,
    result: CellResult,
    stage: str,
    column: int,
    beliefs: Mapping[str, IntervalEstimate],
) -> PersonaAudit:
    """The audit of a persona claim.

    Args:
        claim: the claim.
        result: the results of its arm.
        stage: its stage.
        column: index of its round among the recorded ones.
        beliefs: estimates of the effect of a stated belief, by wording.
    """
    values = {}
    for name, metric in audit_metrics(claim).items():
        recorded = metric in result.stage(stage).metrics
        values[name] = (
            float(result.by_replicate(metric, stage)[:, column].mean())
            if recorded and name != BELIEF_EFFECT
            else math.nan
        )
    orders, templates = values[NUM_ORDERS], values[NUM_TEMPLATES]
    shares = values[PERSONA_SHARE], values[ORDER_SHARE]
    problem = _problem(orders, templates, shares, beliefs)
    return PersonaAudit(orders, templates, *shares, beliefs, problem)


def _problem(
    orders: float,
    templates: float,
    shares: tuple[float, float],
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
