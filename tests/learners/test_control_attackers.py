"""Attackers of `control` that learn, evaluated exactly: rare catches, baselines of rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mores
from mores.agents.learning.transforms.advantages import center_by_step
from mores.envs.oversight import inspection_game
from mores.envs.oversight.control_auditor import reach_probabilities
from tests.cases import FULL
from tests.learners.small_environments import unchecked

SMALL = {"kind": "mlp", "hidden_sizes": [16]}


def attacker(**parameters) -> dict:
    """REINFORCE with a small network, no entropy bonus and no discount."""
    settings = {"gamma": 1.0, "ent_coef": 0.0, "learning_rate": 0.01, "network": SMALL}
    return {"untrusted": {"kind": "reinforce", **settings, **parameters}}


@pytest.mark.full
@unchecked()
@pytest.mark.cut(2)
@pytest.mark.parametrize("normalizes", [True, False])
def test_rare_catches(normalizes: bool) -> None:
    """An attack gains .2475 and costs 100 with probability .01: never to attack is optimal.

    Advantages that are divided by the deviation of the batch make most trainings attack: without a
    catch the deviation is small. Differences alone do not.
    """
    replicates, updates = (20, 300) if FULL else (6, 120)
    result = mores.train(
        {
            "kind": "control",
            "protocol": {"kind": "random_audit", "audit_budget": 0.01},
            "setting": {"detectability": [1.0], "success_chance": [0.25]},
            "objective": "success_count",
            "catch_penalty": 100.0,
        },
        attacker(normalize_advantage=normalizes),
        episodes=updates,
        rounds=10,
        replicates=replicates,
        worlds=32,
        seed=4,
        metrics=["exact_attack_rate", "exact_return"],
    )
    last = result.curves.isel(episode=-1)
    rate = last["exact_attack_rate"].values.reshape(replicates, -1).mean(1)
    attacks = int((rate > 0.5).sum())
    assert attacks >= 0.6 * replicates if normalizes else attacks == 0
    if not normalizes:
        assert np.abs(last["exact_return"].values).max() < 1.0


def test_baseline_of_rounds() -> None:
    """Mean 0 in every round over the valid samples, whatever the other rounds are."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 4, generator=generator)
    mask = torch.rand(2, 5, 4, generator=generator) < 0.7
    mask[0, :, 3] = False
    centered = center_by_step(x, mask)
    assert (centered[~mask] == 0).all()
    for model in range(2):
        for step in range(4):
            valid = mask[model, :, step]
            if valid.any():
                expected = x[model, valid, step] - x[model, valid, step].mean()
                torch.testing.assert_close(centered[model, valid, step], expected)


@unchecked()
def test_table_gradient_reaches_the_best_response_and_averages_its_policies() -> None:
    """Against random audits; the average is that of all policies, from the first update on."""
    environment = {"kind": "control", "num_tasks": 2, "protocol": "random_audit"}
    metrics = ["best_response_gap", "exact_attack_rate"]
    training = {"rounds": 2, "replicates": 3, "worlds": 64, "seed": 1, "metrics": metrics}
    learner = {"kind": "table_gradient", "learning_rate": 8.0}
    result = mores.train(environment, {"untrusted": learner}, episodes=60, **training)
    gap = result.curves["best_response_gap"].transpose("episode", "world").values
    assert gap[-1].max() < 0.05 and gap[0].min() > 0.1
    tables = result.policy_states["untrusted"].tables
    assert (tables.updates == 60).all()
    torch.testing.assert_close(tables.average.sum(-1), tables.reach)
    mean_rate = 1 - tables.average[..., 0] / tables.reach
    rates = result.curves["exact_attack_rate"].transpose("episode", "world", ...).values
    own = rates[:, ::64]  # first world of each replicate; after every update
    assert tables.reach[:, 0].tolist() == [60.0] * 3  # the second task: if the first one is honest
    weights = np.stack([np.ones_like(own[..., 0]), 1 - own[..., 0]], -1)
    weighted = (own * weights).sum(0) / weights.sum(0)
    assert np.abs(weighted - mean_rate.numpy()).max() < 0.02


def test_averages_weigh_policies_by_the_probability_to_come_there() -> None:
    """Reach of both sides against uniform choices, by enumeration of two tasks."""
    env = mores.make_environment("control", num_tasks=2, num_audits=1, protocol="audit_rate")
    game, setting = env.game, env.setting
    audits = inspection_game.rate_audits(setting)  # rate option
    success = torch.tensor([0.0, *setting.success_chance], dtype=torch.float64)
    for role, options in (("untrusted", 4), ("auditor", 7)):
        policy = torch.rand(1, 4, options, generator=torch.Generator().manual_seed(1)).softmax(-1)
        reach = reach_probabilities(game, role, policy.double())[0]
        first, uniform = policy[0, 1].double(), torch.full((11 - options,), 1 / (11 - options))
        attack, rate = (first, uniform) if role == "untrusted" else (uniform, first)
        audited = (rate[:, None] * audits).sum(0)
        kept = (attack * (1 - audited) * (1 - success)).sum()
        spent = attack[0] * audited[0]  # an audit of an attack retires the policy
        expected = torch.stack([torch.zeros(()), torch.ones(()), spent, kept]).double()
        torch.testing.assert_close(reach, expected, rtol=1e-6, atol=1e-9)
