"""Sample sizes of claims on control protocols: episodes, trainings and calibration runs.

- Two protocols whose episodes are safe with probabilities p_1, p_2: for power 1 - b at two-sided
  level a, `n = (z_{1-a/2} + z_{1-b})^2 (var_1 + var_2 - 2 cov) / (p_1 - p_2)^2` episodes per arm
  (normal approximation). Twin episodes share the draws of score, success, edit, audit and routing;
  their covariance is computed exactly here, by a joint recursion over tasks.
- A property of all k of k trainings: lower limit `k / (k + z^2)` of its share (Wilson 1927).
- A threshold calibrated at the (beta H)-th highest of H honest scores: its honest audit rate has
  distribution Beta(beta H, H - beta H + 1). This error is common to all episodes of a run. The
  percentile that ControlArena takes lies about one rank lower.
- ControlArena's C / (C + W) = S from A attack runs has standard deviation
  `sqrt(S (1 - S) / (A (c + w)))`.
- In a policy gradient the mean reward of an attack with negative expected reward has
  signal-to-noise ratio 1 after E attacked tasks, `E = kappa^2 c / (kappa c - B w)^2` (rare catches
  dominate the noise).
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import beta, norm

from mores.envs.oversight.control_outcomes import ProtocolOutcome, trusted_monitoring
from mores.envs.oversight.control_safety import safety
from mores.envs.oversight.control_setting import AUDIT, DEFER, EDIT, ControlSetting

ACTIVE, RETIRED, LOST = "active", "retired", "lost"  # in service; caught; an attack succeeded
Joint = dict[tuple[str, str], float]


def episodes_per_arm(
    first: float,
    second: float,
    covariance: float = 0.0,
    power: float = 0.8,
    level: float = 0.05,
) -> float:
    """Episodes per arm to tell two probabilities apart, not rounded.

    Args:
        first: probability in the first arm.
        second: in the second arm.
        covariance: of the two indicators in twin episodes; 0 for independent arms.
        power: probability that the test rejects equality.
        level: of the two-sided test.
    """
    variance = first * (1 - first) + second * (1 - second) - 2 * covariance
    factor = float(norm.isf(level / 2) + norm.ppf(power))
    return factor**2 * variance / (first - second) ** 2


def twin_covariance(
    setting: ControlSetting,
    protocols: tuple[ProtocolOutcome, ProtocolOutcome],
    options: tuple[Sequence[int], Sequence[int]],
) -> float:
    """Covariance of "no success" between twin episodes, one protocol and attacker in each arm.

    Args:
        setting: the world of both.
        protocols: of the arms; each looks at one score (has a `routing`).
        options: of the attackers: at each task 0 (honest) or 1 + the level.

    Raises:
        ValueError: a protocol that draws the work several times.
    """
    states: Joint = {(ACTIVE, ACTIVE): 1.0}
    for pair in zip(*options, strict=True):
        task = _joint_task(setting, protocols, pair)
        following: Joint = defaultdict(float)
        for (first, second), probability in states.items():
            for (x, y), share in task.items():
                after = (x if first == ACTIVE else first, y if second == ACTIVE else second)
                following[after] += probability * share
        states = following

    def safe(*arms: int) -> float:
        return math.fsum(p for s, p in states.items() if all(s[arm] != LOST for arm in arms))

    return safe(0, 1) - safe(0) * safe(1)


def _joint_task(
    setting: ControlSetting,
    protocols: tuple[ProtocolOutcome, ProtocolOutcome],
    options: tuple[int, int],
) -> Joint:
    """Probabilities of what one task does to both arms, if both are active."""
    joint: Joint = defaultdict(float)
    thresholds = [_noise_thresholds(setting, p, k) for p, k in zip(protocols, options, strict=True)]
    edges = np.unique(np.concatenate([[-np.inf, np.inf], *thresholds]))
    draws = list(_outcome_draws(setting, options))
    for low, high in itertools.pairwise(edges):
        tail = setting.scores.upper_tail
        noise = float(tail(low) - tail(high))
        for colluding, share in _collusion(protocols, options):
            cumulative = []
            for arm, (protocol, edge) in enumerate(zip(protocols, thresholds, strict=True)):
                assert protocol.routing is not None
                bin_ = 0 if colluding[arm] else int((edge < high).sum())
                cumulative.append(np.cumsum(protocol.routing.probabilities[bin_]))
            for actions, mass in _joint_actions(*cumulative):
                for found, removed, successes, chance in draws:
                    arms = [
                        _effect(option, action, found, removed, success)
                        for option, action, success in zip(options, actions, successes, strict=True)
                    ]
                    joint[arms[0], arms[1]] += noise * share * mass * chance
    return joint


def _noise_thresholds(
    setting: ControlSetting, protocol: ProtocolOutcome, option: int
) -> Float[np.ndarray, " threshold"]:
    """The protocol's thresholds of the score, as thresholds of the noise that both arms share."""
    if protocol.routing is None:
        raise ValueError("twin_covariance needs protocols that look at one score")
    shift = setting.detectability[option - 1] if option else 0.0
    return protocol.routing.thresholds - protocol.monitor_factor * shift


def _collusion(
    protocols: tuple[ProtocolOutcome, ProtocolOutcome], options: tuple[int, int]
) -> Iterator[tuple[tuple[bool, bool], float]]:
    """Whether the monitor of each arm lets its attack pass, from one uniform draw."""
    chances = [p.collusion if k else 0.0 for p, k in zip(protocols, options, strict=True)]
    for low, high in itertools.pairwise(sorted({0.0, 1.0, *chances})):
        yield (chances[0] > low, chances[1] > low), high - low


def _joint_actions(
    first: Float[np.ndarray, " action"], second: Float[np.ndarray, " action"]
) -> Iterator[tuple[tuple[int, int], float]]:
    """Actions of both arms from one uniform draw, by inverse cumulative probability."""
    cuts = np.unique(np.clip(np.concatenate([[0.0, 1.0], first, second]), 0, 1))
    for low, high in itertools.pairwise(cuts):
        middle = (low + high) / 2
        yield (
            (int(np.searchsorted(first, middle)), int(np.searchsorted(second, middle))),
            float(high - low),
        )


def _outcome_draws(
    setting: ControlSetting, options: tuple[int, int]
) -> Iterator[tuple[bool, bool, tuple[bool, bool], float]]:
    """Audit finds, edit removes, attack works in each arm: from one uniform draw each."""
    alpha, e = setting.audit_detection, setting.edit_effectiveness
    chances = [setting.success_chance[k - 1] if k else 0.0 for k in options]
    for found, removed in itertools.product((True, False), repeat=2):
        chance = (alpha if found else 1 - alpha) * (e if removed else 1 - e)
        for low, high in itertools.pairwise(sorted({0.0, 1.0, *chances})):
            yield found, removed, (chances[0] > low, chances[1] > low), chance * (high - low)


def _effect(option: int, action: int, found: bool, removed: bool, success: bool) -> str:
    """What one task does to an active arm."""
    if option == 0 or action == DEFER or (action == EDIT and removed):
        return ACTIVE
    if action == AUDIT and found:
        return RETIRED
    return LOST if success else ACTIVE


def wilson_lower_limit_of_all(trainings: int, level: float = 0.05) -> float:
    """Lower limit of the share of trainings with a property that all k have: k / (k + z^2)."""
    z = float(norm.isf(level / 2))
    return trainings / (trainings + z * z)


def calibrated_safety_std(
    setting: ControlSetting, audit_budget: float, num_tasks: int, num_honest_runs: int
) -> float:
    """Standard deviation of monitoring's S_n by the calibration of its threshold.

    The threshold is the (beta H)-th highest of H honest scores. Gauss-Legendre quadrature over the
    quantiles of the Beta distribution of its true honest audit rate.
    """
    exceeding = audit_budget * num_honest_runs
    nodes, weights = np.polynomial.legendre.leggauss(64)
    weights = weights / 2
    rates = beta.ppf((nodes + 1) / 2, exceeding, num_honest_runs - exceeding + 1)
    values = np.array([safety(trusted_monitoring(setting, rate), num_tasks) for rate in rates])
    mean = float(weights @ values)
    return math.sqrt(float(weights @ (values - mean) ** 2))


def control_arena_safety_std(caught: float, succeeds: float, attack_runs: int) -> float:
    """Standard deviation of C / (C + W) from this number of attack runs (delta method)."""
    either = caught + succeeds
    ratio = caught / either
    return math.sqrt(ratio * (1 - ratio) / (attack_runs * either))


def attacks_for_unit_signal(
    caught: float, succeeds: float, catch_penalty: float, success_reward: float = 1.0
) -> float:
    """Attacked tasks at which the mean reward of an attack is one standard error from 0.

    Variance kappa^2 c of the penalty alone: for catches that are rare and expensive.
    """
    loss = catch_penalty * caught - success_reward * succeeds
    return catch_penalty**2 * caught / loss**2
