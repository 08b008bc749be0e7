"""Supervised learning: its losses against an independent computation, its data and its refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses import soft_target_loss
from mores.agents.learning.recipes.supervised import Supervised
from mores.core.environment import StepResult
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space
from mores.registry import make_policy
from mores.sim.simulator import Simulator
from tests.learners.loss_batches import example
from tests.learners.small_environments import OneRole, State
from tests.refusals import refused


def binary(seed: int = 0, samples: int = 40) -> tuple[ModelOutput, FeedbackBatch]:
    """Two models, single steps, two options; the last sample of the second model is padding."""
    source = torch.Generator().manual_seed(seed)
    raw = torch.randn(2, samples, 1, 2, generator=source, dtype=torch.float64) * 2
    share = torch.rand(2, samples, 1, generator=source, dtype=torch.float64)
    share[:, :4] = torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None]
    mask = torch.ones(2, samples, 1, dtype=torch.bool)
    mask[1, -1] = False
    logits = raw.log_softmax(-1).requires_grad_()
    action = torch.zeros(2, samples, 1, dtype=torch.int64)
    batch = FeedbackBatch(torch.zeros(2, samples, 1, 3), action, mask)
    weight = torch.stack([1 - share, share], -1)
    return ModelOutput(logits[..., 0], logits), batch.replace(target_weight=weight)


@torch.no_grad()
def test_cross_entropy_to_soft_targets() -> None:
    """Against torch's, whose targets are probabilities; weights that add up to w weigh w."""
    out, batch = binary()
    logits, weight = out.logits, batch.target_weight
    assert logits is not None and weight is not None
    expected = torch.nn.functional.cross_entropy(logits[0, :, 0], weight[0, :, 0])
    loss = soft_target_loss(out, batch).detach()
    assert float(loss[0]) == pytest.approx(float(expected), abs=1e-12)
    expected = torch.nn.functional.cross_entropy(logits[1, :-1, 0], weight[1, :-1, 0])
    assert float(loss[1]) == pytest.approx(float(expected), abs=1e-12)
    twice = soft_target_loss(out, batch.replace(target_weight=2 * weight)).detach()
    torch.testing.assert_close(twice, 2 * loss)


def test_steps_without_weight_do_not_count() -> None:
    out, batch = binary()
    weight = batch.require("target_weight", "test").clone()
    weight[0, 10:] = 0.0
    part = soft_target_loss(out, batch.replace(target_weight=weight))
    index = torch.arange(10).expand(2, -1)
    first = ModelOutput(out.logp[:, :10], out.logits[:, :10])  # type: ignore[index]
    assert part[0].item() == pytest.approx(soft_target_loss(first, batch.take(index))[0].item())


def confidence_reference(logits: np.ndarray, weak: np.ndarray, c: float) -> float:
    """As published: threshold by `quantile(p[:, 0], mean of the weak share of option 1)`."""
    p = np.exp(logits)
    threshold = np.quantile(p[:, 0], weak[:, 1].mean())
    strong = np.stack([p[:, 0] >= threshold, p[:, 0] < threshold], 1)
    target = (1 - c) * weak + c * strong
    return float(-(target * logits).sum(1).mean())


@pytest.mark.parametrize("c", [0.2, 1.0])
def test_confidence_loss(c: float) -> None:
    """Quantiles of log-probabilities, here, and of probabilities select the same options."""
    out, batch = binary(samples=41)
    weak = batch.require("target_weight", "test")
    loss = soft_target_loss(out, batch, confidence_weight=c).detach()
    for model in range(2):
        valid = batch.mask[model, :, 0]
        logits = out.require("logits", "test")[model, valid, 0].detach().numpy()
        reference = confidence_reference(logits, weak[model, valid, 0].numpy(), c)
        assert float(loss[model]) == pytest.approx(reference, abs=1e-9)


def test_share_of_the_students_choices_equals_that_of_the_weak_labels() -> None:
    """With c = 1 the target is hard: option 1 on the weak labels' share of the items."""
    out, batch = binary(seed=4, samples=101)
    logits = out.require("logits", "test").detach()
    loss = soft_target_loss(out, batch, confidence_weight=1.0).detach()
    share = float(batch.require("target_weight", "test")[0, ..., 1].mean())
    order = logits[0, :, 0, 0].argsort()
    number = int(np.ceil(share * 100))
    second, first = order[:number], order[number:]
    total = logits[0, second, 0, 1].sum() + logits[0, first, 0, 0].sum()
    assert float(loss[0]) == pytest.approx(-float(total) / 101, abs=1e-9)


def test_product_loss() -> None:
    out, batch = binary(seed=2)
    weak = batch.require("target_weight", "test")
    logits = out.require("logits", "test")
    loss = soft_target_loss(out, batch, weak_exponent=0.5, strong_exponent=2.0)
    p = np.exp(logits[0, :, 0].detach().numpy())
    target = p**2 * np.maximum(weak[0, :, 0].numpy(), 1e-6) ** 0.5
    target /= target.sum(1, keepdims=True)
    expected = -(target * np.log(p)).sum(1).mean()
    assert loss[0].item() == pytest.approx(expected, abs=1e-9)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)  # of the cross-entropy alone
    np.testing.assert_allclose(gradient[0, :, 0].numpy(), -target / 40, atol=1e-12)


def test_settings_are_checked() -> None:
    out, batch = binary()
    with refused("out_of_range", "confidence_weight"):
        soft_target_loss(out, batch, confidence_weight=1.5)
    with refused("out_of_range", "strong_exponent"):
        soft_target_loss(out, batch, strong_exponent=-1.0)
    with refused("missing", "target_weight"):
        soft_target_loss(out, dataclasses.replace(batch, target_weight=None))
    with refused("unsupported", "confidence_weight"):
        soft_target_loss(*example(0), confidence_weight=0.5)


class Teaches(OneRole):
    """Gives the target of every agent: option 1 where its luck exceeds 1/2; the last agent none."""

    space: str = "discrete"
    hard: bool = False
    extra: int = 0  # options too many in the target

    def observation_space(self) -> Box:
        return Box.of(luck=1)

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        return state.luck[..., None] - 0.5

    def action_space(self) -> Space:
        spaces = {"discrete": Discrete(2), "several": MultiDiscrete((2, 2)), "box": Box.of(x=2)}
        return spaces[self.space]

    def step(
        self, state: State, phase: str, actions: Any, streams: RandomStreams
    ) -> StepResult[State]:
        right = (state.luck > 0.5).long()
        target: Tensor = torch.nn.functional.one_hot(right, 2 + self.extra).to(torch.float32)
        target[:, -1] = 0.0
        if self.hard:
            target = right if self.space == "discrete" else torch.stack([right, 1 - right], -1)
        luck = streams.uniform("luck", self.num_agents)[..., 0]
        state = dataclasses.replace(state, round=state.round + 1, luck=luck)
        return StepResult(state, feedback={"actor": {"target.act": target}})


def trained(env: Teaches, rounds: int = 25, **fields: Any) -> Simulator:
    policy = make_policy("supervised", learning_rate=0.1, **fields)
    simulator = Simulator(env, {"actor": policy}, {}, 3, rounds)
    simulator.reset(0)
    while not simulator.all_finished:
        simulator.step()
    return simulator


CONFIDENT = {"confidence_weight": 0.3, "confidence_warmup": 20}


@pytest.mark.cut(3)
@pytest.mark.parametrize("fields", [{}, {"num_minibatches": 4}, CONFIDENT])
@pytest.mark.parametrize("hard", [False, True])
def test_learns_targets(fields: dict[str, Any], hard: bool) -> None:
    env = Teaches(num_agents=32, hard=hard)
    simulator = trained(env, network={"kind": "mlp", "hidden_sizes": [8]}, **fields)
    state = simulator.policy_states["actor"]
    updates = state.persistent_state.train_state.updates
    assert updates.tolist() == [25 * fields.get("num_minibatches", 1)] * 3
    observation = torch.tensor([[-0.3], [0.3]]).expand(3, 32, 2, 1)
    policy = simulator.acting_policies["actor"]
    expected = policy.expected_action(env.phases[0], observation, None, state)
    assert (expected[:, 0, 0, 1] < 0.1).all() and (expected[:, 0, 1, 1] > 0.9).all()


def test_several_choices_are_learned_from_right_actions() -> None:
    env = Teaches(num_agents=32, hard=True, space="several")
    simulator = trained(env, network={"kind": "mlp", "hidden_sizes": [8]})
    luck = simulator.state.luck
    state, policy = simulator.policy_states["actor"], simulator.acting_policies["actor"]
    expected = policy.expected_action(
        env.phases[0], env.observe(simulator.state, "actor", "act")[:, :, None], None, state
    )
    clear = (luck - 0.5).abs() > 0.25
    assert ((expected[..., 0, 1] > 0.5) == (luck > 0.5))[clear].float().mean() > 0.95
    assert ((expected[..., 0, 3] > 0.5) == (luck < 0.5))[clear].float().mean() > 0.95


def test_agents_without_target_have_no_part() -> None:
    """The last agent's observations are changed to NaN: nothing else changes."""

    class Blind(Teaches):
        def observe(self, state: State, role: str, phase: str) -> Tensor:
            observation = super().observe(state, role, phase).clone()
            observation[:, -1] = self.round_value
            return observation

        round_value: float = 0.0

    results = [
        trained(Blind(num_agents=4, round_value=value), 5).policy_states["actor"]
        for value in (0.0, 9.0)
    ]
    first, second = (s.persistent_state.train_state.flat_parameters for s in results)
    torch.testing.assert_close(first, second)


def test_bad_input() -> None:
    with refused("wrong_shape", "feedback.target.act"):
        trained(Teaches(num_agents=1, extra=1), 1)
    with refused("wrong_shape", "feedback.target.act"):
        trained(Teaches(num_agents=1, space="several"), 1)
    with refused("unsupported", "feedback.target.act"):
        trained(Teaches(num_agents=1, space="box"), 1)
    with refused("unsupported", "policies.actor.network"):
        trained(Teaches(num_agents=1), 1, network={"kind": "gru", "hidden_size": 4})
    with refused("conflict", "supervised.confidence_warmup"):
        make_policy("supervised", confidence_warmup=5)
    assert not Supervised(learning_rate=0).parameter_keys
