"""Action search against a search by enumeration, agent by agent."""

from __future__ import annotations

import itertools

import pytest
import torch

from mores.core.environment import Role, StepResult
from mores.core.random_streams import Worlds
from mores.core.spaces import Box, Discrete, Part
from mores.registry import make_policy
from mores.sim.simulator import Simulator
from tests.learners import small_environments as small
from tests.learners.small_environments import OneRole, State, evaluation_simulator
from tests.learners.test_offline import NET
from tests.refusals import refused


class Letters(OneRole):
    """A word, letter by letter. The state's `action` holds the observation."""

    length: int = 3
    letters: int = 4
    has_model: bool = True

    def observation_space(self) -> Box:
        return Box.of(word=Part(self.length * self.letters, 0.0, 1.0), at=Part(self.length + 1))

    @property
    def roles(self) -> tuple[Role, ...]:
        model = self.next_observation if self.has_model else None
        return (Role("actor", self.num_agents, self.observation_space(), model),)

    def action_space(self):
        return Discrete(self.letters)

    def reset(self, streams, people=None) -> State:
        state = super().reset(streams, people)
        blank = torch.zeros(streams.num_worlds, self.num_agents, self.observation_space().size)
        blank[..., self.length * self.letters] = 1.0
        return State(**{**vars(state), "action": blank})

    def observe(self, state, role, phase):
        return state.action

    def next_observation(self, observation, letter):
        word, at = observation.split([self.length * self.letters, self.length + 1], -1)
        one_hot = torch.nn.functional.one_hot(letter, self.letters)
        word = word + (at[..., :-1, None] * one_hot[..., None, :]).flatten(-2)
        shifted = torch.cat([torch.zeros_like(at[..., :1]), at[..., :-1]], -1)
        shifted[..., -1] = shifted[..., -1] + at[..., -1]  # a complete word does not change
        return torch.cat([word, shifted], -1)

    def action_mask(self, state, role, phase):
        illegal = torch.arange(self.letters) == 1
        odd = (state.world % 2 == 1)[:, None, None]
        return ~(illegal & odd).expand(-1, self.num_agents, -1)

    def step(self, state, phase, actions, streams):
        observation = self.next_observation(state.action, actions["actor"])
        state = State(**{**vars(state), "action": observation, "round": state.round + 1})
        return StepResult(state, {}, state.round >= self.length)


class ReversedLetters(Letters):
    """Letters with numbers in reverse order."""

    def next_observation(self, observation, letter):
        return super().next_observation(observation, self.letters - 1 - letter)


def search_simulator(**search):
    """A simulator with random linear policies and critics, in a search stage."""
    policy = make_policy(
        "ppo", network={"kind": "mlp", "hidden_sizes": []}, parameter_sharing="agent", **search
    )
    options = {"worlds": Worlds.grid(3, 2), "rounds": 9, "roles_to_train": [], "search": True}
    simulator = Simulator(Letters(num_agents=2), {"actor": policy}, **options)
    simulator.reset(0)
    generator = torch.Generator().manual_seed(1)
    train_state = simulator.policy_states["actor"].persistent_state.train_state
    for tensor in train_state.parameters.values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return simulator


def linear_model(simulator, world, agent):
    """Log-probabilities and value of an observation, by the model of one agent."""
    parameters = small.copy_model_parameters(simulator)
    model = (world // 2) * 2 + agent  # replicates of two worlds, two models each

    def logp(obs):
        raw = obs @ parameters["act.act.weight"][model] + parameters["act.act.bias"][model, 0]
        return raw.log_softmax(-1)

    def value(obs):
        bias = parameters["value.bias"][model, 0, 0]
        return float(obs @ parameters["value.weight"][model, :, 0] + bias)

    return logp, value


def expected_words(simulator, choose):
    """Final observation of every agent if each letter is chosen by `choose`."""
    environment, words = simulator.environment, {}
    for world, agent in itertools.product(range(6), range(2)):
        logp, value = linear_model(simulator, world, agent)
        obs = simulator.observe("actor")[world, agent]
        legal = [a for a in range(4) if not (a == 1 and world % 2)]
        for _ in range(3):
            letter = choose(obs, legal, logp, value, environment.next_observation)
            obs = environment.next_observation(obs, torch.tensor(letter))
        words[world, agent] = obs
    return words


def check_words(simulator, choose):
    expected = expected_words(simulator, choose)
    small.run_episodes(simulator, 1)
    for (world, agent), word in expected.items():
        assert torch.equal(simulator.state.action[world, agent], word), (world, agent)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_lookahead_equals_enumeration(depth):
    """Of the three likeliest legal letters, log-probability plus twice the value at the end."""
    simulator = search_simulator(
        search="lookahead", search_depth=depth, search_num_candidates=3, search_weight=2.0
    )

    def choose(obs, legal, logp, value, model):
        def score(letter):
            predicted = model(obs, torch.tensor(letter))
            for _ in range(depth):
                predicted = model(predicted, logp(predicted).argmax())
            return float(logp(obs)[letter]) + 2.0 * value(predicted)

        likeliest = sorted(legal, key=lambda letter: -float(logp(obs)[letter]))[:3]
        return max(likeliest, key=score)

    check_words(simulator, choose)


def test_best_of_many_candidates_is_the_best_option():
    """512 candidates include all legal letters; the one with the highest value is taken."""
    simulator = search_simulator(search="best_of_n", search_num_candidates=512)
    train_state = simulator.policy_states["actor"].persistent_state.train_state
    for name in ("act.act.weight", "act.act.bias"):
        train_state.parameters[name].mul_(0.3)

    def choose(obs, legal, logp, value, model):
        return max(legal, key=lambda letter: value(model(obs, torch.tensor(letter))))

    check_words(simulator, choose)


def test_a_search_uses_the_observation_model_of_its_stage():
    """In a stage with another environment, the search predicts with that environment."""
    simulator = search_simulator(
        search="lookahead", search_depth=0, search_num_candidates=4, search_weight=9.0
    )
    other = evaluation_simulator(simulator, ReversedLetters(num_agents=2))

    def choose(obs, legal, logp, value, model):
        def score(letter):
            return float(logp(obs)[letter]) + 9.0 * value(model(obs, torch.tensor(letter)))

        return max(legal, key=score)

    words, other_words = expected_words(simulator, choose), expected_words(other, choose)
    assert any(not torch.equal(word, other_words[agent]) for agent, word in words.items())
    check_words(other, choose)


def test_without_search_the_likeliest_action_is_taken():
    def choose(obs, legal, logp, value, model):
        return max(legal, key=lambda letter: float(logp(obs)[letter]))

    check_words(search_simulator(), choose)
    check_words(search_simulator(search="lookahead", search_num_candidates=1), choose)


@pytest.mark.parametrize("search", ["best_of_n", "lookahead"])
def test_requirements_of_a_search(search):
    with refused("unsupported", path="grpo.search"):
        make_policy("grpo", search=search)
    for environment, network, code in (
        (Letters(has_model=False), NET, "unsupported"),
        (Letters(), {"kind": "gru"}, "conflict"),
    ):
        policies = {"actor": make_policy("ppo", search=search, network=network)}
        simulator = small.simulate_episodes(environment, policies, Worlds.grid(1, 1), 0)
        simulator.step()  # without search
        with refused(code, path="search"):
            evaluation_simulator(simulator).step()
