"""AI control: episodes, trainings and calibration runs that a statement needs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mores.envs.oversight import control_outcomes as outcomes
from mores.envs.oversight import control_power as power
from mores.envs.oversight import control_safety as safety
from mores.envs.oversight import resampling
from mores.envs.oversight.control_setting import ControlSetting
from tests.cases import FULL
from tests.oracles.control_protocols import BASE, PROTOCOLS


def covariance(first, second, options=None):
    """Of twin episodes of ten tasks, by default under the best responses."""
    protocols = PROTOCOLS[first], PROTOCOLS[second]
    options = options or [
        safety.protocol_best_response(protocol, 10).option.tolist() for protocol in protocols
    ]
    return power.twin_covariance(BASE, protocols, tuple(options))


@pytest.mark.parametrize(
    ("first", "second", "independent", "twins"),
    [
        ("random", "monitoring", 8, 8),
        ("monitoring", "untrusted_0", 108, 37),
        ("monitoring", "untrusted_3", 1117, 482),
        ("monitoring", "audit_edit", 256, 59),
        ("monitoring", "defer_5", 536, 448),
        ("audit_edit", "audit_defer", 2303, 205),
        ("untrusted_0", "audit_defer", 6633, 2461),
        ("edit_2", "defer_2", 48, 48),
    ],
)
def test_episodes_per_arm(first, second, independent, twins):
    """80 % power, two-sided 5 %, safety over ten tasks against best responses."""
    safe = [safety.safety(PROTOCOLS[name], 10) for name in (first, second)]
    assert math.ceil(power.episodes_per_arm(*safe)) == independent
    paired = power.episodes_per_arm(*safe, covariance(first, second))
    assert math.ceil(paired) == twins


def test_tasks_to_tell_usefulness_apart():
    needed = [math.ceil(power.episodes_per_arm(0.9, other)) for other in (0.87, 0.82)]
    assert needed == [1772, 292]


def test_a_twin_of_itself():
    """Equal protocols and attackers: the covariance is the variance."""
    for name in ("random", "untrusted_3", "audit_edit"):
        options = [2, 3, 0, 1, 3, 3, 2, 1, 3, 3]
        outcome = PROTOCOLS[name]
        no_success, active = 0.0, 1.0
        for option in options:
            c, w = (x[option - 1] if option else 0.0 for x in (outcome.caught, outcome.succeeds))
            no_success += active * c
            active *= 1 - c - w
        success = 1 - no_success - active
        assert covariance(name, name, [options, options]) == pytest.approx(success * (1 - success))
    drawn = resampling.resample_and_audit(BASE, 0.05, 3, "max")
    with pytest.raises(ValueError, match="one score"):
        power.twin_covariance(BASE, (drawn, drawn), ([1], [1]))


def test_twins_that_are_played():
    """Two protocols with the same draws of score, success, edit and collusion, task by task."""
    episodes = 400_000 if FULL else 40_000
    rng = np.random.default_rng(12)
    noise = rng.normal(size=(episodes, 10))
    success, edit, collude = rng.random((3, episodes, 10))

    def play(audit, edited, factor, chi, levels):
        shift, chance = np.array([3.0, 2.0, 1.0]), np.array([1.0, 0.6, 0.25])
        safe, active = np.ones(episodes, bool), np.ones(episodes, bool)
        for task, level in enumerate(levels):
            score = noise[:, task] + factor * shift[level]
            score = np.where(collude[:, task] < chi, -np.inf, score)
            removed = (score > edited) & (edit[:, task] < 0.8)
            works = (success[:, task] < chance[level]) & (score <= audit) & ~removed
            safe &= ~(active & works)
            active &= (score <= audit) & ~works
        return safe

    top, next_ = BASE.threshold(0.05), BASE.threshold(0.25)
    levels = [2, 2, 1, 2, 0, 2, 1, 2, 2, 2]
    cases = {
        "monitoring": (top, np.inf, 1.0, 0.0),
        "untrusted_3": (top, np.inf, 1.5, 0.3),
        "audit_edit": (top, next_, 1.0, 0.0),
    }
    played = {name: play(*case, levels) for name, case in cases.items()}
    options = [level + 1 for level in levels]
    for first, second in (("monitoring", "untrusted_3"), ("untrusted_3", "audit_edit")):
        products = (played[first] - played[first].mean()) * (played[second] - played[second].mean())
        error = 4 * products.std() / episodes**0.5
        exact = covariance(first, second, [options, options])
        assert products.mean() == pytest.approx(exact, abs=error)


def test_share_of_trainings():
    """20 of 20: lower limit .84; 35 and 73 are the first above .9 and .95."""
    assert power.wilson_lower_limit_of_all(20) == pytest.approx(0.8389, abs=5e-5)
    for trainings, limit in ((35, 0.9), (73, 0.95)):
        assert power.wilson_lower_limit_of_all(trainings) > limit
        assert power.wilson_lower_limit_of_all(trainings - 1) < limit


@pytest.mark.parametrize(
    ("budget", "runs", "std"),
    [
        (0.05, 100, 0.088), (0.05, 500, 0.038), (0.05, 2000, 0.020), (0.05, 10_000, 0.008),
        (0.02, 100, 0.120), (0.02, 500, 0.055), (0.02, 2000, 0.028), (0.02, 10_000, 0.013),
    ],
)  # fmt: skip
def test_calibrated_threshold(budget, runs, std):
    """Standard deviation of monitoring's safety over ten tasks."""
    assert power.calibrated_safety_std(BASE, budget, 10, runs) == pytest.approx(std, abs=1.3e-3)


def test_calibration_by_play():
    """Thresholds at the fifth highest of 100 honest scores; 2,000 calibrations."""
    honest = np.sort(np.random.default_rng(3).normal(size=(2000, 100)), 1)
    rates = BASE.scores.upper_tail(honest[:, -5])
    played = [safety.safety(outcomes.trusted_monitoring(BASE, rate), 10) for rate in rates[:200]]
    assert rates.mean() == pytest.approx(5 / 101, abs=4 * rates.std() / 2000**0.5)
    exact = power.calibrated_safety_std(BASE, 0.05, 10, 100)
    assert np.std(played) == pytest.approx(exact, rel=4 / (2 * 200) ** 0.5)


def test_control_arena_ratio():
    monitoring = PROTOCOLS["monitoring"]
    rates = float(monitoring.caught[2]), float(monitoring.succeeds[2])
    stds = [power.control_arena_safety_std(*rates, runs) for runs in (50, 200, 1000)]
    assert stds == pytest.approx([0.105, 0.052, 0.023], abs=5e-4)
    rng = np.random.default_rng(2)
    draws = rng.multinomial(1000, [*rates, 1 - sum(rates)], size=20_000)
    ratio = draws[:, 0] / draws[:, :2].sum(1)
    assert ratio.std() == pytest.approx(stds[2], rel=0.03)


def test_rare_catches():
    """Audits of 1 % at random: attacks stop paying at kappa = 24.75, hard to see at 30."""
    world = ControlSetting(detectability=(0.0,), success_chance=(0.25,))
    outcome = outcomes.random_audit(world, 0.01)
    assert safety.deterring_penalty(outcome) == pytest.approx(24.75)
    rates = float(outcome.caught[0]), float(outcome.succeeds[0])
    assert power.attacks_for_unit_signal(*rates, 30.0) == pytest.approx(3265, abs=1)
