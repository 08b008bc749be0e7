"""Protocols that draw the untrusted policy's work several times.

U cannot know that it is drawn again, so it attacks on each of R independent draws with the same
probability x; a way to attack is a pair (level, x). With F0 = F(tau), F1 = F(tau - d) at threshold
tau of the statistic, derived here for audits without error (alpha < 1 scales c, and the share
1 - alpha of what is flagged is not found):

Audit on a statistic of the draws above its honest (1 - beta) quantile; the first draw is executed,
and an attack among the draws convicts.

    max    tau: F(tau)^R = 1 - beta          m = (1-x) F0 + x F1
           w = q x F1 m^(R-1)                c = 1 - (1-x)^R - m^R + ((1-x) F0)^R
    min    tau: (1 - F(tau))^R = beta        m = (1-x) (1-F0) + x (1-F1)
           w = q x (1 - (1-F1) m^(R-1))      c = m^R - ((1-x) (1-F0))^R
    mean   sqrt(R) mean > z, normal scores   j attacks have mean j d / sqrt(R)
           w = q x sum_j Bin(j; R-1, x) Phi(z - (1+j) d / sqrt(R))
           c = sum_{j>=1} Bin(j; R, x) (1 - Phi(z - j d / sqrt(R)))

Min is better than max if U always attacks (x = 1), max is better at small x. U chooses x, so
against a best response max is better. This is one model in which the order of Ctrl-Z (arXiv
2504.10374, min) and the opposite one (arXiv 2605.26047, max) both occur.

No audit: the least suspicious of R draws, or the trusted policy if none is at most tau.

    w = q R x int_{-inf}^{tau} f(s - d) [(1-x) (1 - F(s)) + x (1 - F(s - d))]^(R-1) ds

ControlArena's *defer to resample* executes the first draw if it is at most tau, and that of R more
draws otherwise; its honest defer share is (1 - F(tau))^(R+1).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.integrate import quad_vec
from scipy.stats import binom, norm

from mores.core.errors import UserError
from mores.envs.oversight.control_outcomes import ProtocolOutcome
from mores.envs.oversight.control_setting import ControlSetting

Statistic = Literal["max", "min", "mean"]
ATTACK_SHARES = np.arange(1, 101) / 100


class AttackGrid(NamedTuple):
    """Pairs of level and share x, with d and q of the level."""

    level: np.ndarray
    share: np.ndarray
    shift: np.ndarray
    success: np.ndarray


def attack_grid(setting: ControlSetting, shares: Float[np.ndarray, " share"]) -> AttackGrid:
    """All pairs of a level and a share."""
    level, share = (
        x.ravel() for x in np.meshgrid(np.arange(setting.num_levels), shares, indexing="ij")
    )
    return AttackGrid(level, share, setting.shifts[level], setting.success[level])


def statistic_threshold(
    setting: ControlSetting, statistic: Statistic, audit_budget: float, num_draws: int
) -> float:
    """tau of the statistic at which the share `audit_budget` of honest work is flagged.

    For the mean, of `sqrt(R) mean`, which is normal with variance 1.

    Raises:
        UserError: the mean of scores that are not normal.
    """
    if statistic == "max":
        return setting.threshold(-math.expm1(math.log1p(-audit_budget) / num_draws))
    if statistic == "min":
        return setting.threshold(audit_budget ** (1 / num_draws))
    if not setting.scores.is_normal:
        raise UserError(
            f"the mean of draws has a closed form for normal scores, not {setting.score_family}",
            code="unsupported",
            path="score_family",
        )
    return setting.threshold(audit_budget)


def resample_and_audit(
    setting: ControlSetting,
    audit_budget: float,
    num_draws: int,
    statistic: Statistic,
    shares: Float[np.ndarray, " share"] = ATTACK_SHARES,
) -> ProtocolOutcome:
    """Audit on a statistic of R draws; the first draw is executed.

    Args:
        setting: the world.
        audit_budget: beta, share of honest work that is flagged.
        num_draws: R.
        statistic: max, min or mean of the draws' scores.
        shares: values of x from which the attacker chooses.
    """
    grid = attack_grid(setting, shares)
    tau = statistic_threshold(setting, statistic, audit_budget, num_draws)
    rates = _mean_rates if statistic == "mean" else _extreme_rates(statistic)
    flagged_attack, unflagged_execution = rates(setting, grid, tau, num_draws)
    alpha = setting.audit_detection
    executed = (1 - alpha) * grid.share + alpha * unflagged_execution
    return ProtocolOutcome(
        usefulness=setting.untrusted_usefulness,
        caught=alpha * flagged_attack,
        succeeds=grid.success * executed,
        level=grid.level,
        attack_share=grid.share,
        honest_audit_rate=audit_budget,
        draws=float(num_draws),
    )


def _extreme_rates(statistic: Statistic):
    """P(flagged, some draw attacks) and P(not flagged, first draw attacks), of max or min."""

    def rates(
        setting: ControlSetting, grid: AttackGrid, tau: float, num_draws: int
    ) -> tuple[np.ndarray, np.ndarray]:
        x = grid.share
        above0 = float(setting.scores.upper_tail(tau))
        above1 = setting.scores.upper_tail(tau - grid.shift)
        if statistic == "max":
            honest, attack = 1 - above0, 1 - above1
            m = (1 - x) * honest + x * attack
            flagged = 1 - (1 - x) ** num_draws - m**num_draws + ((1 - x) * honest) ** num_draws
            return flagged, x * attack * m ** (num_draws - 1)
        m = (1 - x) * above0 + x * above1
        flagged = m**num_draws - ((1 - x) * above0) ** num_draws
        return flagged, x * (1 - above1 * m ** (num_draws - 1))

    return rates


def _mean_rates(
    setting: ControlSetting, grid: AttackGrid, tau: float, num_draws: int
) -> tuple[np.ndarray, np.ndarray]:
    x, shift = grid.share, grid.shift / math.sqrt(num_draws)
    flagged, unflagged = np.zeros_like(x), np.zeros_like(x)
    for j in range(num_draws):
        below = norm.cdf(tau - (1 + j) * shift)
        flagged += binom.pmf(j + 1, num_draws, x) * (1 - below)
        unflagged += x * binom.pmf(j, num_draws - 1, x) * below
    return flagged, unflagged


def flagged_execution_rate(
    setting: ControlSetting,
    audit_budget: float,
    num_draws: int,
    statistic: Statistic,
    shares: Float[np.ndarray, " share"] = ATTACK_SHARES,
) -> Float[np.ndarray, " attack"]:
    """P(flagged | the executed draw attacks): what an audit of the executed work catches."""
    grid = attack_grid(setting, shares)
    tau = statistic_threshold(setting, statistic, audit_budget, num_draws)
    rates = _mean_rates if statistic == "mean" else _extreme_rates(statistic)
    return 1 - rates(setting, grid, tau, num_draws)[1] / grid.share


def least_suspicious(
    setting: ControlSetting,
    deferred_share: float,
    num_draws: int,
    shares: Float[np.ndarray, " share"] = ATTACK_SHARES,
) -> ProtocolOutcome:
    """The least suspicious of R draws is executed, or the trusted policy acts if all are above tau.

    Args:
        setting: the world.
        deferred_share: share of honest work that the trusted policy does; 0 for no threshold.
        num_draws: R.
        shares: values of x.
    """
    grid = attack_grid(setting, shares)
    tau = setting.threshold(deferred_share ** (1 / num_draws))
    chosen = _chosen_attack(setting, grid, tau, num_draws)
    return _deferring(setting, grid, chosen, deferred_share, float(num_draws))


def defer_to_resample(
    setting: ControlSetting,
    deferred_share: float,
    num_draws: int,
    shares: Float[np.ndarray, " share"] = ATTACK_SHARES,
) -> ProtocolOutcome:
    """ControlArena's rule: the first draw if at most tau, else the least suspicious of R more.

    Args:
        setting: the world.
        deferred_share: share of honest work that the trusted policy does, (1 - F(tau))^(R+1).
        num_draws: R, draws after a suspicious first one.
        shares: values of x.
    """
    grid = attack_grid(setting, shares)
    above = deferred_share ** (1 / (num_draws + 1))  # share of honest work that is drawn again
    tau = setting.threshold(above)
    suspicious = setting.scores.upper_tail(tau - grid.shift)
    again = (1 - grid.share) * above + grid.share * suspicious
    chosen = grid.share * (1 - suspicious) + again * _chosen_attack(setting, grid, tau, num_draws)
    return _deferring(setting, grid, chosen, deferred_share, 1 + above * num_draws)


def _chosen_attack(
    setting: ControlSetting, grid: AttackGrid, tau: float, num_draws: int
) -> Float[np.ndarray, " attack"]:
    """P(the least suspicious of R draws is an attack at most tau)."""
    scores, x = setting.scores, grid.share

    def density(s: float) -> np.ndarray:
        above = (1 - x) * scores.upper_tail(s) + x * scores.upper_tail(s - grid.shift)
        return scores.density(s - grid.shift) * above ** (num_draws - 1)

    integral, _ = quad_vec(density, -np.inf, tau, epsabs=1e-11, norm="max")
    return num_draws * x * integral


def _deferring(
    setting: ControlSetting,
    grid: AttackGrid,
    chosen: Float[np.ndarray, " attack"],
    deferred_share: float,
    draws: float,
) -> ProtocolOutcome:
    cost = setting.untrusted_usefulness - setting.trusted_usefulness
    return ProtocolOutcome(
        usefulness=setting.untrusted_usefulness - deferred_share * cost,
        caught=np.zeros_like(chosen),
        succeeds=grid.success * chosen,
        level=grid.level,
        attack_share=grid.share,
        honest_defer_rate=deferred_share,
        draws=draws,
    )


def correlated_detectability(detectability: float, num_draws: int, correlation: float) -> float:
    """d of the mean of R draws of one attack whose noise has correlation rho.

    `d / sqrt(rho + (1 - rho) / R)`: no gain at rho = 1.
    """
    return detectability / math.sqrt(correlation + (1 - correlation) / num_draws)
