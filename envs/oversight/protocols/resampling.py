"""Resampling: the untrusted policy does each task several times, without knowing that.

`resampling` audits by a statistic of the scores of all draws and uses the first draw; an attack
among the draws convicts. `least_suspicious` uses the draw with the lowest score.
`defer_to_resample` draws again only if the first draw is suspicious, as ControlArena does. The last
two fall back on the trusted model. The closed forms of an attacker with one level are in
`mores.envs.oversight.resampling`; the `mixture_outcome` here holds for any mixture of levels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.envs.oversight import resampling
from mores.envs.oversight.control_outcomes import ProtocolOutcome
from mores.envs.oversight.control_setting import AUDIT, DEFER, SUBMIT, ControlSetting
from mores.envs.oversight.protocols.protocol import (
    ControlProtocol,
    MixtureOutcome,
    ProtocolDecision,
    power,
)
from mores.envs.oversight.resampling import Statistic

QUADRATURE_POINTS = 400


def _above(
    setting: ControlSetting, score: Float[np.ndarray, " score"]
) -> Float[np.ndarray, "score option"]:
    """P(score of a draw is above), for honest work and each level."""
    shifts = np.concatenate([[0.0], setting.shifts])
    return setting.scores.upper_tail(np.asarray(score)[:, None] - shifts)


class AuditResample(ControlProtocol):
    """Audit by a statistic of the scores of several draws; the first draw is used."""

    tags: ClassVar[Mapping[str, object]] = {"paper": "2504.10374, 2605.26047"}

    audit_budget: float = Field(
        default=0.05, ge=0, le=1, description="share of honest work that is audited"
    )
    draws: int = Field(default=3, ge=1, le=20, description="R: number of draws of each task")
    statistic: Statistic = Field(default="max", description="max, min or mean of the scores")

    @property
    def num_draws(self) -> int:
        """R."""
        return self.draws

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """By level and by the probability that a draw is an attack."""
        budget, draws = self.audit_budget, self.draws
        return resampling.resample_and_audit(setting, budget, draws, self.statistic)

    def _threshold(self, setting: ControlSetting) -> float:
        budget, draws = self.audit_budget, self.draws
        return resampling.statistic_threshold(setting, self.statistic, budget, draws)

    def route(
        self,
        score: Float[Tensor, "world draw"],
        setting: ControlSetting,
    ) -> ProtocolDecision:
        """Audit if the statistic is above its threshold."""
        if self.statistic == "mean":
            statistic = total(score, 1) / math.sqrt(self.draws)
        else:
            statistic = score.amax(1) if self.statistic == "max" else score.amin(1)
        action = torch.where(statistic > self._threshold(setting), AUDIT, SUBMIT)
        return ProtocolDecision(action, torch.zeros_like(action))

    def mixture_outcome(
        self, policy: Float[Tensor, "*batch option"], setting: ControlSetting
    ) -> MixtureOutcome:
        """P(flagged, some draw attacks); P(the first draw attacks, is not found, and succeeds)."""
        tau, alpha = self._threshold(setting), setting.audit_detection
        if self.statistic == "mean":
            flagged, unflagged = self._mean_rates(policy, setting, tau)
        else:
            above = torch.as_tensor(_above(setting, np.array([tau]))[0]).to(policy)
            share = above if self.statistic == "min" else 1 - above  # of draws beyond tau
            each = policy * share
            beyond, honest = total(each, -1), each[..., 0]
            all_beyond = power(beyond, self.draws)
            others = power(beyond, self.draws - 1)[..., None]
            if self.statistic == "max":  # flagged unless all draws are below
                no_attack = power(policy[..., 0], self.draws)
                flagged = 1 - no_attack - all_beyond + power(honest, self.draws)
                unflagged = each * others
            else:  # flagged if all draws are above
                flagged = all_beyond - power(honest, self.draws)
                unflagged = policy * (1 - share * others)
        executed = (1 - alpha) * policy + alpha * unflagged
        success = torch.as_tensor(setting.success).to(policy)
        return MixtureOutcome(alpha * flagged, total(success * executed[..., 1:], -1))

    def _mean_rates(
        self, policy: Tensor, setting: ControlSetting, tau: float
    ) -> tuple[Tensor, Tensor]:
        """By the multinomial distribution of the levels of the draws."""
        draws, options = self.draws, setting.num_levels + 1
        shifts = [0.0, *setting.detectability]
        flagged = torch.zeros_like(policy[..., 0])
        unflagged = torch.zeros_like(policy)
        for drawn in itertools.combinations_with_replacement(range(options), draws):
            counts = [drawn.count(option) for option in range(options)]
            shift = sum(shifts[option] for option in drawn) / math.sqrt(draws)
            above = float(setting.scores.upper_tail(tau - shift))
            ways = math.factorial(draws) / math.prod(map(math.factorial, counts))
            powers = [power(policy[..., k], count) for k, count in enumerate(counts) if count]
            probability = ways * math.prod(powers[1:], start=powers[0])
            if counts[0] < draws:
                flagged = flagged + probability * above
            weights = policy.new_tensor([count / draws for count in counts])  # of the first draw
            unflagged = unflagged + probability[..., None] * (1 - above) * weights
        return flagged, unflagged


class LeastSuspicious(ControlProtocol):
    """The draw with the lowest score is used, or the trusted model if all are suspicious."""

    tags: ClassVar[Mapping[str, object]] = {"paper": "2504.10374"}

    deferred_share: float = Field(
        default=0.05, ge=0, le=1, description="share of honest work that is deferred"
    )
    draws: int = Field(default=3, ge=1, le=20, description="R: number of draws of each task")

    @property
    def num_draws(self) -> int:
        """R."""
        return self.draws

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """By level and by the probability that a draw is an attack."""
        return resampling.least_suspicious(setting, self.deferred_share, self.draws)

    def _threshold(self, setting: ControlSetting) -> float:
        return setting.threshold(self.deferred_share ** (1 / self.num_draws))

    def route(
        self,
        score: Float[Tensor, "world draw"],
        setting: ControlSetting,
    ) -> ProtocolDecision:
        """Use the least suspicious draw, unless it is above the threshold."""
        lowest, draw = score.min(1)
        return ProtocolDecision(torch.where(lowest > self._threshold(setting), DEFER, SUBMIT), draw)

    def mixture_outcome(
        self, policy: Float[Tensor, "*batch option"], setting: ControlSetting
    ) -> MixtureOutcome:
        """P(the chosen draw attacks and succeeds)."""
        chosen = _chosen(policy, setting, self._threshold(setting), self.draws)
        success = torch.as_tensor(setting.success).to(policy)
        succeeds = total(success * chosen[..., 1:], -1)
        return MixtureOutcome(torch.zeros_like(succeeds), succeeds)


class DeferToResample(LeastSuspicious):
    """The first draw if it is not suspicious, else the least suspicious of `draws` more."""

    @property
    def num_draws(self) -> int:
        """The first draw, and R more."""
        return self.draws + 1

    def outcome(self, setting: ControlSetting) -> ProtocolOutcome:
        """By level and by the probability that a draw is an attack."""
        return resampling.defer_to_resample(setting, self.deferred_share, self.draws)

    def route(
        self,
        score: Float[Tensor, "world draw"],
        setting: ControlSetting,
    ) -> ProtocolDecision:
        """Use the first draw, or the least suspicious of the others, or none."""
        tau = self._threshold(setting)
        lowest, draw = score[:, 1:].min(1)
        first = score[:, 0] <= tau
        action = torch.where(first | (lowest <= tau), SUBMIT, DEFER)
        return ProtocolDecision(action, torch.where(first, 0, draw + 1))

    def mixture_outcome(
        self, policy: Float[Tensor, "*batch option"], setting: ControlSetting
    ) -> MixtureOutcome:
        """P(the used draw attacks and succeeds)."""
        tau = self._threshold(setting)
        above = torch.as_tensor(_above(setting, np.array([tau]))[0]).to(policy)
        again = total(policy * above, -1)[..., None]
        chosen = policy * (1 - above) + again * _chosen(policy, setting, tau, self.draws)
        success = torch.as_tensor(setting.success).to(policy)
        succeeds = total(success * chosen[..., 1:], -1)
        return MixtureOutcome(torch.zeros_like(succeeds), succeeds)


def _chosen(
    policy: Float[Tensor, "*batch option"], setting: ControlSetting, tau: float, draws: int
) -> Float[Tensor, "*batch option"]:
    """P(the least suspicious draw is of this option and at most tau), by Gauss-Legendre quadrature.

    R p_k int_{-inf}^{tau} f(s - d_k) [sum_j p_j (1 - F(s - d_j))]^(R-1) ds
    """
    low = setting.threshold(1 - 1e-12)
    high = min(tau, max(setting.detectability) + setting.threshold(1e-12))
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE_POINTS)
    s = low + (high - low) * (nodes + 1) / 2
    above = torch.as_tensor(_above(setting, s)).to(policy)  # [score, option]
    shifts = np.concatenate([[0.0], setting.shifts])
    density = torch.as_tensor(setting.scores.density(s[:, None] - shifts)).to(policy)
    others = power(total(policy[..., None, :] * above, -1), draws - 1)  # [..., score]
    weight = torch.as_tensor(weights * (high - low) / 2).to(policy)
    return draws * policy * total((others * weight)[..., None] * density, -2)
