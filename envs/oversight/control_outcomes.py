"""Outcome of one attacked task under each protocol of AI control.

A protocol is described by its usefulness on honest work and, for every way to attack, by

    c = P(caught), the untrusted policy is retired     w = P(attack succeeds)

The values of `control_values` follow from these alone. A protocol that looks at one score is a
`Routing`: thresholds, and probabilities of the actions between them. With A, E and D the
probabilities that an attack of level k is audited, edited and deferred,

    c = alpha A         w = q_k (1 - alpha A - e E - D)
    usefulness = r_U - P(edit | honest) (r_U - r_E) - P(defer | honest) (r_U - r_T).

Protocols: Greenblatt et al. 2023 (arXiv 2312.06942) and ControlArena; formulas derived here. A
score is flagged if it is *above* the threshold, as in ControlArena: a tie is not. `resampling` has
the protocols that draw the work several times.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.integrate import quad
from scipy.stats import binom

from mores.envs.oversight.control_setting import (
    ACTIONS,
    AUDIT,
    DEFER,
    EDIT,
    SUBMIT,
    ControlSetting,
)


@dataclasses.dataclass(frozen=True)
class Routing:
    """Defender that chooses an action by the score of the work.

    Attributes:
        thresholds: increasing; a score is in bin b if b thresholds are below it (`np.searchsorted`
            and `torch.bucketize` with their defaults).
        probabilities: of each of `ACTIONS`, in every bin.
    """

    thresholds: Float[np.ndarray, " threshold"]
    probabilities: Float[np.ndarray, "bin action"]


@dataclasses.dataclass(frozen=True)
class ProtocolOutcome:
    """One task under a protocol. An *attack* is one way to attack: a level, or level and share.

    Attributes:
        usefulness: probability of main-task success of honest work.
        caught: c of each attack.
        succeeds: w of each attack.
        level: level of each attack, from 0.
        attack_share: probability with which each draw is an attack; below 1 only if work is drawn
            several times.
        honest_audit_rate, honest_edit_rate, honest_defer_rate: shares of honest work.
        draws: expected number of draws of the untrusted policy for one task of honest work.
        routing: the defender that is played; None if the protocol draws the work several times.
        monitor_factor: factor of detectability of the monitor.
        collusion: probability that the monitor lets an attack pass with the lowest score.
    """

    usefulness: float
    caught: Float[np.ndarray, " attack"]
    succeeds: Float[np.ndarray, " attack"]
    level: Int[np.ndarray, " attack"]
    attack_share: Float[np.ndarray, " attack"]
    honest_audit_rate: float = 0.0
    honest_edit_rate: float = 0.0
    honest_defer_rate: float = 0.0
    draws: float = 1.0
    routing: Routing | None = None
    monitor_factor: float = 1.0
    collusion: float = 0.0


def threshold_routing(
    setting: ControlSetting, honest_rates: Sequence[float], actions: Sequence[int]
) -> Routing:
    """Routing of the highest scores first.

    Args:
        setting: distribution of the scores.
        honest_rates: share of honest work above each threshold, decreasing order of thresholds:
            `(.05, .25)` puts a threshold at the top 5 % and one at the top 25 %.
        actions: action above the first threshold, between first and second, ..., below the last.
    """
    thresholds = np.array([setting.threshold(rate) for rate in reversed(honest_rates)])
    return Routing(thresholds, np.eye(len(ACTIONS))[list(reversed(actions))])


def routed_outcome(
    setting: ControlSetting,
    routing: Routing,
    monitor_factor: float = 1.0,
    collusion: float = 0.0,
) -> ProtocolOutcome:
    """Outcome of a defender that sees one score.

    Args:
        setting: levels, oversight and usefulness.
        routing: the defender.
        monitor_factor: factor of detectability.
        collusion: chi, probability that an attack gets a score in the lowest bin.
    """
    honest, *attack = action_probabilities(setting, routing, monitor_factor, collusion)
    by_action = np.array(attack)  # [level, action]
    caught = setting.audit_detection * by_action[:, AUDIT]
    kept = by_action[:, SUBMIT] + (1 - setting.edit_effectiveness) * by_action[:, EDIT]
    kept = kept + by_action[:, AUDIT] - caught
    return ProtocolOutcome(
        usefulness=_usefulness(setting, float(honest[EDIT]), float(honest[DEFER])),
        caught=caught,
        succeeds=setting.success * kept,
        level=np.arange(setting.num_levels),
        attack_share=np.ones(setting.num_levels),
        honest_audit_rate=float(honest[AUDIT]),
        honest_edit_rate=float(honest[EDIT]),
        honest_defer_rate=float(honest[DEFER]),
        routing=routing,
        monitor_factor=monitor_factor,
        collusion=collusion,
    )


def action_probabilities(
    setting: ControlSetting,
    routing: Routing,
    monitor_factor: float = 1.0,
    collusion: float = 0.0,
) -> Float[np.ndarray, "option action"]:
    """Probability of each of `ACTIONS` for honest work (option 0) and an attack of each level.

    Args:
        setting: distribution of the scores.
        routing: the defender.
        monitor_factor: factor of detectability.
        collusion: chi, probability that an attack gets a score in the lowest bin.
    """
    bins = setting.bin_probabilities(routing.thresholds, monitor_factor)
    attack = (1 - collusion) * bins.attack
    attack[:, 0] += collusion
    return np.concatenate([bins.honest[None], attack]) @ routing.probabilities


def _usefulness(setting: ControlSetting, edit_rate: float, defer_rate: float) -> float:
    edit_cost = setting.untrusted_usefulness - setting.edited_usefulness
    defer_cost = setting.untrusted_usefulness - setting.trusted_usefulness
    return setting.untrusted_usefulness - edit_rate * edit_cost - defer_rate * defer_cost


def trust_untrusted(setting: ControlSetting) -> ProtocolOutcome:
    """All work of the untrusted policy is submitted: c = 0, w = q."""
    return routed_outcome(setting, threshold_routing(setting, (), (SUBMIT,)))


def trusted_only(setting: ControlSetting) -> ProtocolOutcome:
    """The trusted policy does every task: c = w = 0."""
    return routed_outcome(setting, threshold_routing(setting, (), (DEFER,)))


def random_audit(setting: ControlSetting, audit_budget: float) -> ProtocolOutcome:
    """Audit of a share of the work, whatever its score: c = alpha beta."""
    probabilities = np.array([[1 - audit_budget, audit_budget, 0.0, 0.0]])
    return routed_outcome(setting, Routing(np.zeros(0), probabilities))


def trusted_monitoring(setting: ControlSetting, audit_budget: float) -> ProtocolOutcome:
    """Audit of the highest scores: c = alpha TPR(z)."""
    return routed_outcome(setting, threshold_routing(setting, (audit_budget,), (AUDIT, SUBMIT)))


def untrusted_monitoring(
    setting: ControlSetting, audit_budget: float, collusion: float = 0.0
) -> ProtocolOutcome:
    """Trusted monitoring by a copy of the untrusted policy, which sees more and may collude.

    c = alpha (1 - chi) TPR(z; factor d). The colluding copy knows its own attacks.
    """
    routing = threshold_routing(setting, (audit_budget,), (AUDIT, SUBMIT))
    return routed_outcome(setting, routing, setting.untrusted_monitor_factor, collusion)


def trusted_editing(
    setting: ControlSetting, edited_share: float, audit_budget: float = 0.0
) -> ProtocolOutcome:
    """Audit of the highest scores, edit of the next: w = q (1 - e TPR) without audits.

    With e < 1 editing alone leaves at least q (1 - e), whatever its share.
    """
    return _audit_then(setting, EDIT, edited_share, audit_budget)


def defer_to_trusted(
    setting: ControlSetting, deferred_share: float, audit_budget: float = 0.0
) -> ProtocolOutcome:
    """Audit of the highest scores, the trusted policy does the next: w = q (1 - TPR)."""
    return _audit_then(setting, DEFER, deferred_share, audit_budget)


def _audit_then(
    setting: ControlSetting, action: int, share: float, audit_budget: float
) -> ProtocolOutcome:
    rates = (audit_budget, min(audit_budget + share, 1.0))
    return routed_outcome(setting, threshold_routing(setting, rates, (AUDIT, action, SUBMIT)))


def break_even_collusion(
    setting: ControlSetting, audit_budget: float
) -> Float[np.ndarray, " level"]:
    """Collusion at which an untrusted monitor catches a level as often as a trusted one.

    `chi* = 1 - TPR(z; d) / TPR(z; factor d)`, by level. `control_values` has that of the game.
    """
    untrusted = setting.roc(audit_budget, setting.untrusted_monitor_factor)
    return 1 - setting.roc(audit_budget) / untrusted


def held_back_catch_probability(
    setting: ControlSetting, num_tasks: int, num_audits: int
) -> Float[np.ndarray, " level"]:
    """P(an audit of the m highest of n scores contains the only attack), by level.

    All work is held back until the audit, so U attacks at most once per success it needs:

        int f(x - d) P(Bin(n - 1, 1 - F(x)) <= m - 1) dx.

    The limit for large n at m / n = beta is TPR(z) (`ControlSetting.roc`).
    """
    scores = setting.scores

    def caught(shift: float) -> float:
        def integrand(x: float) -> float:
            others = binom.cdf(num_audits - 1, num_tasks - 1, scores.upper_tail(x))
            return float(scores.density(x - shift) * others)

        middle = sorted({shift, setting.threshold(min(num_audits / num_tasks, 0.5))})
        edges = [-np.inf, *middle, np.inf]
        parts = itertools.pairwise(edges)
        return sum(quad(integrand, a, b, epsabs=1e-12, limit=200)[0] for a, b in parts)

    return np.array([caught(shift) for shift in setting.detectability])


def edit_share_of_usefulness(setting: ControlSetting, usefulness: float) -> float:
    """Share to edit for this usefulness: `(r_U - u) / (r_U - r_E)`."""
    cost = setting.untrusted_usefulness - setting.edited_usefulness
    return (setting.untrusted_usefulness - usefulness) / cost
