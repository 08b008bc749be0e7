"""Inspection game with a monitor: equilibrium threshold, audits and attacks in closed form.

One task. U works honestly (0) or attacks: gain G if it is not audited, minus the fine F if it is.
The inspector sees a score, F(s - d) for an attack, and audits at cost k; an attack that is not
audited costs it L > k. Without a monitor (d = 0) this is the classical inspection game (Avenhaus,
von Stengel and Zamir 2002, Handbook of Game Theory 3, chapter 51). Derived here:

    r = G / (G + F)                      audit rate of attacks that makes U indifferent
    tau* = F^-1(1 - r) + d               threshold; honest audit rate y* = 1 - F(tau*)
    x / (1 - x) = k f(tau*) / ((L - k) f(tau* - d))       attack share: indifference at tau*

For normal scores `x = k / (k + (L - k) exp(d tau* - d^2 / 2))`. A defender who commits to an audit
rate deters an attack that succeeds with probability q, gain B and penalty kappa with the same y*,
at r = B q / (B q + kappa).
"""

from __future__ import annotations

from typing import NamedTuple

from mores.envs.oversight.score_families import ScoreFamily


class MonitoredInspection(NamedTuple):
    """Threshold tau*, share of honest work that is audited, probability of an attack."""

    threshold: float
    honest_audit_rate: float
    attack_share: float


def equilibrium(
    scores: ScoreFamily,
    detectability: float,
    fine: float,
    loss: float,
    audit_cost: float,
    attack_gain: float = 1.0,
) -> MonitoredInspection:
    """Equilibrium of the inspection game with a monitor.

    Args:
        scores: distribution of honest scores.
        detectability: d.
        fine: F > 0.
        loss: L, of the inspector, by an attack without audit; above `audit_cost`.
        audit_cost: k > 0.
        attack_gain: G > 0.
    """
    rate = attack_gain / (attack_gain + fine)
    threshold = float(scores.upper_quantile(rate)) + detectability
    honest = audit_cost * float(scores.density(threshold))
    attack = (loss - audit_cost) * float(scores.density(threshold - detectability))
    return MonitoredInspection(
        threshold, float(scores.upper_tail(threshold)), honest / (honest + attack)
    )


def deterring_audit_rate(
    scores: ScoreFamily,
    detectability: float,
    success_chance: float,
    catch_penalty: float,
    success_reward: float = 1.0,
) -> float:
    """y*, the smallest share of honest work to audit so that one attack does not pay.

    Args:
        scores: distribution of honest scores.
        detectability: d.
        success_chance: q.
        catch_penalty: kappa > 0.
        success_reward: B.
    """
    gain = success_reward * success_chance
    threshold = float(scores.upper_quantile(gain / (gain + catch_penalty))) + detectability
    return float(scores.upper_tail(threshold))
