"""Online training: stacked against separate models, PPO against a reference, NaN isolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mores
from mores.agents.learning.adam import Adam
from mores.agents.learning.on_policy import buffer_rewards
from mores.agents.learning.recipes.ppo import PPO
from mores.agents.learning.train_state import OptimizerConfig, TrainState, optimizer_step
from mores.core.random_streams import Worlds
from mores.registry import make_policy
from tests.learners.small_environments import (
    Faulty,
    FixedLengthsNoFeedback,
    MaskedChoices,
    TargetPoint,
    TwoPhases,
    copy_model_parameters,
    evaluation_simulator,
    simulate_episodes,
    stop_reasons,
    unchecked,
)

MLP, GRU = {"kind": "mlp", "hidden_sizes": [8]}, {"kind": "gru", "hidden_size": 6}
TRANSFORMER = {"kind": "transformer", "hidden_size": 8, "num_layers": 1, "context_length": 8}
RECIPES = {
    "ppo": {"num_steps": 4},
    "ppo with gru": {"num_steps": 4, "network": GRU},
    "ppo with transformer": {"num_steps": 4, "network": TRANSFORMER},
    "grpo": {},
    "reinforce": {},
}
RECORDED = []  # rollouts of `RecordingPPO`


# --- stacked against separate training ----------------------------------------------------------


@pytest.mark.cut(4)
@pytest.mark.parametrize("recipe", RECIPES)
@unchecked()
def test_stacked_training_equals_separate_training(recipe):
    """Parameters of five replicates after 52 steps in two updates, to 1e-5; unequal groups."""
    fields = {"network": MLP, **RECIPES[recipe], "update_epochs": 13, "num_minibatches": 2}
    fields |= {"parameter_sharing": "group", "agent_groups": [0, 0, 1], "learning_rate": 0.01}
    policy = make_policy(recipe.split()[0], **fields)

    def train(replicates):
        environment, worlds = Faulty(num_agents=3), Worlds.grid(replicates, 2)
        simulator = simulate_episodes(environment, {"actor": policy}, worlds, episodes=2, rounds=4)
        train_state = simulator.policy_states["actor"].persistent_state.train_state
        steps = train_state.optimizer_state.step
        assert (steps[::2] == 52).all() and (steps > 26).all()  # minibatches may be all padding
        return copy_model_parameters(simulator)

    together = train(range(5))
    for replicate in range(5):
        for name, separate in train([replicate]).items():
            stacked = together[name][2 * replicate : 2 * replicate + 2]
            torch.testing.assert_close(stacked, separate, atol=1e-5, rtol=0)


class FixedLengthsOfReplicates(FixedLengthsNoFeedback):
    def length(self, state):
        return torch.tensor(self.lengths)[state.replicate.long()]

    def metrics(self, state):
        return {}


@unchecked()
def test_models_do_not_move_without_samples():
    """After the end of its episode a model makes no step, by momentum, and reports nothing."""
    environment = FixedLengthsOfReplicates(lengths=(4, 12))
    ppo = {"kind": "ppo", "num_steps": 4, "num_minibatches": 3}

    def train(rounds):
        return mores.train(environment, {"actor": ppo}, episodes=1, rounds=rounds, replicates=2)

    long, short = train(12), train(4)
    assert long.state_dict("actor")["num_updates"].tolist() == [8, 24]
    for name, tensor in short.state_dict("actor").items():
        assert torch.equal(long.state_dict("actor")[name][0], tensor[0]), name
    assert long.learning.isel(replicate=0).identical(short.learning.isel(replicate=0))
    assert not np.isnan(long.learning.to_array()).any()


# --- PPO against a reference implementation -----------------------------------------------------


class RecordingPPO(PPO):
    def make_update_batch(self, batches, state):
        fields = {**vars(batches["act"]), **buffer_rewards(state)}
        RECORDED.append({k: v.clone() for k, v in fields.items() if v is not None})
        return super().make_update_batch(batches, state)

    def update(self, state, transition, streams):
        before = len(RECORDED)
        after = super().update(state, transition, streams)
        if len(RECORDED) > before:
            RECORDED[-1]["streams"] = streams.take(state.persistent_state.mapping.first_world)
        return after


class SingleModel(torch.nn.Module):
    """One model with a value network, of torch layers."""

    def __init__(self, parameters, model):
        super().__init__()
        inputs, hidden = parameters["policy.0.weight"].shape[1:]
        options = parameters["act.act.weight"].shape[2]
        self.actor = torch.nn.Sequential(
            torch.nn.Linear(inputs, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, options)
        )
        self.critic = torch.nn.Sequential(
            torch.nn.Linear(inputs, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 1)
        )
        self.layers = {
            "policy.0": self.actor[0],
            "act.act": self.actor[2],
            "critic.0": self.critic[0],
            "value": self.critic[2],
        }
        for name, layer in self.layers.items():
            layer.weight.data = parameters[f"{name}.weight"][model].T.clone()
            layer.bias.data = parameters[f"{name}.bias"][model, 0].clone()


def reference_ppo(module, optimizer, rollout, model, policy):
    """Equations 7 and 9 of arXiv 1707.06347 and GAE, for a single model."""

    def field(name):
        return rollout[name][model]

    advantage = torch.zeros_like(field("reward"))
    steps = advantage.shape[1]
    for row in range(len(advantage)):
        later = 0.0
        for t in reversed(range(steps)):
            cut = t == steps - 1 or field("truncated")[row, t]
            next_value = field("bootstrap_value")[row, t] if cut else field("old_value")[row, t + 1]
            if field("terminated")[row, t]:
                next_value = 0.0
            delta = field("reward")[row, t] + policy.gamma * next_value - field("old_value")[row, t]
            if cut or field("terminated")[row, t]:
                later = 0.0
            later = delta + policy.gamma * policy.gae_lambda * later
            advantage[row, t] = later
    target = (advantage + field("old_value")).flatten()
    advantage = ((advantage - advantage.mean()) / advantage.std()).flatten()
    observation, action = field("observation").flatten(0, 1), field("action").flatten()
    old_logp = field("old_logp").flatten()
    uniform = rollout["streams"].uniform("order", policy.update_epochs, len(action))
    for epoch in range(policy.update_epochs):
        for part in uniform[model, epoch].argsort().chunk(policy.num_minibatches):
            choice = torch.distributions.Categorical(logits=module.actor(observation[part]))
            ratio = torch.exp(choice.log_prob(action[part]) - old_logp[part])
            clipped = ratio.clamp(1 - policy.clip_range, 1 + policy.clip_range)
            gain = torch.min(ratio * advantage[part], clipped * advantage[part]).mean()
            error = (module.critic(observation[part])[:, 0] - target[part]).square().mean()
            loss = -gain + policy.vf_coef * error
            loss = loss - policy.ent_coef * choice.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), policy.max_grad_norm)
            optimizer.step()


def test_ppo_equals_the_reference():
    """Three updates of three epochs of four minibatches: equal to torch.optim.Adam's to 1e-5."""
    RECORDED.clear()
    policy = RecordingPPO(
        network=MLP, num_steps=10, update_epochs=3, num_minibatches=4, learning_rate=0.01
    )
    environment, worlds = Faulty(num_agents=2), Worlds.grid(3, 2)
    simulator = simulate_episodes(environment, {"actor": policy}, worlds, 0, 7)
    before = copy_model_parameters(simulator)
    for _ in range(30):  # episodes of 7 rounds, updates after 10, 20 and 30
        if simulator.all_finished:
            simulator.next_episode()
        simulator.step()
    after = copy_model_parameters(simulator)
    assert len(RECORDED) == 3
    for model in range(3):
        module = SingleModel(before, model)
        optimizer = torch.optim.Adam(module.parameters(), lr=policy.learning_rate)
        for rollout in RECORDED:
            reference_ppo(module, optimizer, rollout, model, policy)
        for name, layer in module.layers.items():
            weight, bias = after[f"{name}.weight"][model].T, after[f"{name}.bias"][model, 0]
            torch.testing.assert_close(weight, layer.weight.data, atol=1e-5, rtol=0)
            torch.testing.assert_close(bias, layer.bias.data, atol=1e-5, rtol=0)
            change = (weight - before[f"{name}.weight"][model].T).abs().max()
            assert change > 0.01, "training changed the layer"


# --- isolation of models ------------------------------------------------------------------------


@pytest.mark.cut(4)
@pytest.mark.parametrize("fault", ["reward", "observation", "scale"])
@pytest.mark.parametrize("recipe", ["ppo", "grpo", "reinforce"])
def test_a_fault_leaves_other_models_unchanged(recipe, fault):
    """NaN or a million times the reward in one replicate: the others are equal bit for bit.

    A model that meets NaN stops, is reported, and keeps its parameters.
    """
    fields = {"network": MLP, "parameter_sharing": "group", "agent_groups": [0, 0, 1]}
    fields |= {"num_steps": 4} if recipe == "ppo" else {}
    policy = make_policy(recipe, learning_rate=0.01, **fields)
    rounds, faulty = (16, 0) if recipe == "ppo" else (4, 2)

    def train(faulty_from=0, **fault):
        episodes = 1 if recipe == "ppo" else 3
        environment = Faulty(num_agents=3, faulty_from=faulty_from, **fault)
        worlds = Worlds.grid(4, 2)
        return simulate_episodes(environment, {"actor": policy}, worlds, episodes, rounds)

    healthy = train()
    with_fault = train(10 if recipe == "ppo" else 2, faulty_replicate=faulty, fault=fault)
    others = [p for p in range(8) if p // 2 != faulty]
    for name, tensor in copy_model_parameters(healthy).items():
        assert torch.equal(tensor[others], copy_model_parameters(with_fault)[name][others]), name
    state = with_fault.policy_states["actor"]
    train_state = state.persistent_state.train_state
    assert train_state.active[others].all() and (train_state.stopped_round[others] == -1).all()
    models = slice(2 * faulty, 2 * faulty + 2)
    if fault == "scale":
        assert train_state.active.all() and stop_reasons(policy, state) == []
        return
    # PPO updates after rounds 4, 8, 12: its third update has the NaN of rounds 10 and 11.
    last = 12 if recipe == "ppo" else 4
    assert stop_reasons(policy, state) == [
        f"actor, replicate {faulty}, model {k}: not a number in round {last} of its training"
        for k in range(2)
    ]
    good = simulate_episodes(Faulty(num_agents=3), {"actor": policy}, Worlds.grid(4, 2), 0, rounds)
    for _ in range(8 if recipe == "ppo" else 0):
        good.step()
    for name, tensor in copy_model_parameters(with_fault).items():
        assert torch.equal(tensor[models], copy_model_parameters(good)[name][models]), name
        assert tensor.isfinite().all()


def test_learning_rates_and_clipping_are_per_model():
    """Steps of three models, one with NaN, equal the steps of each model alone."""
    rates, clips = torch.tensor([0.0, 0.01, 0.1]), torch.tensor([1.0, 0.001, 100.0])
    goal = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))

    def train(models):
        parameters = {"at": torch.zeros(len(models), 1, 4)}
        train_state = TrainState.create(parameters, uses_reference_model=False)
        config = OptimizerConfig(Adam(rates[models], max_grad_norm=clips[models], eps=1e-3))
        for has_nan in (False, True, False):
            target = goal[models].clone()
            if has_nan:
                target[torch.tensor(models) == 2] = torch.nan

            def losses(parameters, target=target):
                return (parameters["at"] - target).square().sum((1, 2))[None]

            optimizer_step(train_state, losses, config, torch.tensor(5))
        return train_state

    together = train([0, 1, 2])
    for model in range(3):
        alone = train([model])
        assert torch.equal(together.parameters["at"][model], alone.parameters["at"][0])
    assert together.active.tolist() == [True, True, False]
    assert together.stopped_round.tolist() == [-1, -1, 5]
    change = together.parameters["at"].norm(dim=(1, 2))
    assert change[0] == 0 and 0 < change[1] < change[2]


# --- other action spaces ------------------------------------------------------------------------


ONE_SHOT = {"network": {"kind": "mlp", "hidden_sizes": [16]}, "learning_rate": 0.01}


def train_and_evaluate(environment, policy, episodes):
    """State after one round of evaluation, after training on episodes of one round."""
    trained = simulate_episodes(environment, {"actor": policy}, Worlds.grid(8, 2), episodes, 1)
    evaluation = evaluation_simulator(trained)
    evaluation.step()
    return evaluation.state


@pytest.mark.full
@pytest.mark.parametrize("bounded", [True, False])
@unchecked()
def test_learns_a_point_of_a_box(bounded):
    """Minus the squared distance from (2 u, 1.5 - u): all of 8 models come within .25 of it."""
    policy = make_policy("ppo", num_steps=1, num_minibatches=2, ent_coef=0.0, gamma=0.0, **ONE_SHOT)
    state = train_and_evaluate(TargetPoint(num_agents=32, bounded=bounded), policy, 80)
    distance = (-state.reward).sqrt().view(8, -1).mean(1)
    assert distance.max() < 0.25, distance


@unchecked()
def test_learns_masked_choices():
    """The highest legal options have the highest reward; illegal ones are never taken."""
    all_legal = []

    class Checked(MaskedChoices):
        def reward(self, state, action, streams):
            legal = self.action_mask(state, "actor", "act").split(self.options, -1)
            for i, part in enumerate(legal):
                all_legal.append(part.gather(-1, action[..., i : i + 1]).all())
            return super().reward(state, action, streams)

    policy = make_policy("ppo", num_steps=1, num_minibatches=2, gamma=0.0, **ONE_SHOT)
    state = train_and_evaluate(Checked(num_agents=32), policy, 40)
    best = torch.where(state.luck < 0.5, 2.0 + 2.0, 3.0 + 1.0)
    assert (state.reward == best).float().view(8, -1).mean(1).min() > 0.9
    assert len(all_legal) == 2 * 41 and all(all_legal)


@pytest.mark.full
@pytest.mark.parametrize("recipe", ["ppo", "reinforce"])
@unchecked()
def test_learns_two_phases(recipe):
    """A choice, then a point that must match it: only the second phase gives reward."""
    more = {
        "ppo": {"num_steps": 1, "num_minibatches": 1, "update_epochs": 6},
        "reinforce": {"update_epochs": 2, "init_std": 0.25},
    }[recipe]
    policy = make_policy(recipe, gamma=0.5, ent_coef=0.003, **ONE_SHOT, **more)
    episodes = 80 if recipe == "ppo" else 150
    state = train_and_evaluate(TwoPhases(num_agents=64), policy, episodes)
    assert (state.action == 1).float().view(8, -1).mean(1).min() == 1.0
    assert state.reward.view(8, -1).mean(1).min() > 0.7  # best: 1; without point: 0
