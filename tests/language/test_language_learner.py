"""Language models that learn: what is optimized, separate models, twins, continuation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mores
from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.language.adapters import LoRA
from mores.agents.language.language_learner import LanguageLearner
from mores.agents.language.models.tiny import TinyModel
from mores.agents.language.readouts.labels import Letters
from mores.agents.language.readouts.statements import Statements
from mores.agents.language.readouts.yes_no import YesNo
from mores.agents.learning.model_stack import ModelInputs
from mores.agents.scripted.repeated_game import Strategy
from mores.core.random_streams import RandomStreams, Worlds
from mores.registry.specs import from_spec
from mores.sim.simulator import Simulator
from tests.language.conversations import Talk
from tests.language.word_model import ALL_MODULES, ANTICOORDINATION, WordModel
from tests.refusals import refused

pytest.importorskip("transformers")

TIT_FOR_TAT = Strategy(name="tit_for_tat")
REINFORCE = {"kind": "reinforce", "learning_rate": 0.005, "gamma": 0.0}
LORA = LoRA(rank=4, target_modules=ALL_MODULES)


def learner(objective: Any = REINFORCE, **fields: Any) -> LanguageLearner:
    fields = {"model": WordModel(), "adapters": LORA, **fields}
    return LanguageLearner(objective=objective, **fields)


def against_tit_for_tat(own: LanguageLearner) -> dict[str, PerAgentPolicy]:
    return {"player": PerAgentPolicy(policies=(own, TIT_FOR_TAT))}


def played(policies: Any, worlds: Worlds, rounds: int, episodes: int = 1) -> Simulator:
    """A simulator after some episodes, with updates."""
    simulator = Simulator(ANTICOORDINATION, policies, {}, worlds, rounds, roles_to_train=["player"])
    simulator.reset(0)
    for episode in range(episodes):
        if episode:
            simulator.next_episode()
        while not simulator.all_finished:
            simulator.step()
    return simulator


def state_of(simulator: Simulator) -> Any:
    """State of the learner, alone or as the first member of `per_agent`."""
    state = simulator.policy_states["player"]
    return getattr(state, "member_states", (state,))[0]


def adapters_of(simulator: Simulator) -> dict[str, torch.Tensor]:
    persistent = state_of(simulator).learner.persistent_state
    return dict(persistent.train_state.parameters)


@pytest.mark.parametrize(
    ("readout", "memory"),
    [(Letters(), 0), (Letters(), 2), (YesNo(), 0), (Statements(baseline=False), 1)],
)
def test_updates_see_the_distribution_that_acted(readout, memory: int) -> None:
    """log q of an update is that of acting, for several readouts, with and without memory."""
    own = learner(readout=readout, temperature=0.7, memory_turns=memory, memory_bytes=512)
    simulator = Simulator(ANTICOORDINATION, {"player": own}, {}, Worlds.grid(2, 2), 3)
    simulator.reset(0)
    simulator.step()
    simulator.step()
    persistent = state_of(simulator).learner.persistent_state
    mapping, decision = persistent.mapping, persistent.rollout.decisions["choose"]
    assert int(persistent.rollout.length) == 2

    def by_model(x: torch.Tensor) -> torch.Tensor:
        return mapping.by_model(x[:2].movedim(0, 2))

    inputs = ModelInputs("choose", by_model(decision.observation), by_model(decision.action))
    stack = state_of(simulator).learner.spec.stacked_model
    out = stack.evaluate_actions(persistent.train_state.parameters, inputs)
    torch.testing.assert_close(out.logp, by_model(decision.logp), atol=1e-4, rtol=0)
    assert out.logits is not None
    torch.testing.assert_close(out.logits.exp().sum(-1), torch.ones_like(out.logp))


def test_agents_without_a_choice_have_no_log_probability() -> None:
    """Neither when they act nor in an update: a ratio of both is 1."""
    own, worlds = learner(model=TinyModel(hidden_size=8, num_layers=1)), Worlds.grid(1, 2)
    simulator = Simulator(Talk(phase_names=("choose",)), {"person": own}, {}, worlds, 2)
    simulator.reset(0)
    simulator.step()
    decision = simulator.policy_states["person"].learner.persistent_state.rollout.decisions
    logp = decision["choose"].logp[0]  # in round 0 the first person has one legal fruit
    assert logp[:, 0].tolist() == [0.0, 0.0] and bool((logp[:, 1] < 0).all())


def test_search_has_the_likeliest_option() -> None:
    """The expected action with search is that of acting with search."""
    own = learner(temperature=0.7)
    simulator = played({"player": own}, Worlds.grid(2, 2), 2, 1)
    phase, state = ANTICOORDINATION.phases[0], state_of(simulator)
    observation = ANTICOORDINATION.observe(simulator.state, "player", phase.name)
    queries = observation[:, :, None]
    expected = own.expected_action(phase, queries, None, state, search=True)[:, :, 0]
    action = own.act(phase, observation, None, state, RandomStreams.of(0, 4), search=True).action
    assert torch.equal(expected, torch.nn.functional.one_hot(action, 2).to(expected))
    drawn = own.expected_action(phase, queries, None, state)[:, :, 0]
    assert torch.equal(drawn.argmax(-1), action) and bool((drawn.max(-1).values < 1).all())


def test_replicates_are_separate_trainings() -> None:
    """A replicate alone has the same adapters, to rounding; others have different ones."""
    policies = against_tit_for_tat(learner())
    joint = played(policies, Worlds.grid([0, 1, 5], 4), 3, 3)
    alone = played(policies, Worlds.grid([5], 4), 3, 3)
    again = played(policies, Worlds.grid([0, 1, 5], 4), 3, 3)
    before = played(policies, Worlds.grid([5], 4), 1, 0)
    moved = []
    for name, tensor in adapters_of(joint).items():
        assert torch.equal(tensor, adapters_of(again)[name])
        assert not torch.equal(tensor[0], tensor[1])
        difference = (tensor[2] - adapters_of(alone)[name][0]).abs()
        assert float(difference.max()) < 2e-3  # Adam enlarges rounding of small gradients
        moved.append(float((tensor[2] - adapters_of(before)[name][0]).abs().max()))
    assert min(moved) > 5e-3


@pytest.mark.parametrize("sharing", ["role", "agent"])
def test_adapters_of_agents(sharing: str) -> None:
    """One base model; both players have one adapter, or one each."""
    own = learner({**REINFORCE, "parameter_sharing": sharing})
    simulator = played({"player": own}, Worlds.grid(2, 2), 2, 2)
    state = state_of(simulator)
    count = 2 if sharing == "role" else 4
    tensors = own.state_dict(state)
    assert {len(x) for x in tensors.values()} == {count}
    assert tensors["num_updates"].tolist() == [2] * count
    phase = ANTICOORDINATION.phases[0]
    observation = torch.zeros(4, 2, 1, ANTICOORDINATION.roles[0].observation_space.size)
    expected = own.expected_action(phase, observation, None, state)
    same = torch.equal(expected[:, 0], expected[:, 1])
    assert same == (sharing == "role")
    assert torch.equal(expected[0], expected[1]) and not torch.equal(expected[0], expected[2])
    with pytest.raises(AssertionError):  # the base model is as it was loaded
        torch.testing.assert_close(expected[0, 0], base_probabilities(own, observation))
    frozen = learner({**REINFORCE, "parameter_sharing": sharing, "learning_rate": 0.0})
    still = played({"player": frozen}, Worlds.grid(2, 2), 2, 2)
    expected = frozen.expected_action(phase, observation, None, state_of(still))
    torch.testing.assert_close(expected[0, 0], base_probabilities(own, observation))
    assert frozen.frozen and frozen.parameter_keys == frozenset()


def base_probabilities(own: LanguageLearner, observation: torch.Tensor) -> torch.Tensor:
    """Probabilities of the options under the base model, at the first observation."""
    from mores.agents.language.language_policy import LanguagePolicy
    from mores.core.environment import with_text

    policy = LanguagePolicy(model=own.model)
    role, streams = with_text(ANTICOORDINATION, ANTICOORDINATION.roles[0]), RandomStreams.of(0, 4)
    state = policy.initial_state(role, ANTICOORDINATION.phases, streams)
    return policy.expected_action(ANTICOORDINATION.phases[0], observation, None, state)[0, 0]


@pytest.mark.full
def test_it_learns_the_best_reply() -> None:
    """At least 90 % of the best return in every one of four trainings, from random weights."""
    result = mores.train(
        ANTICOORDINATION, against_tit_for_tat(learner()),
        episodes=25, rounds=4, replicates=4, worlds=12, metrics=["return_by_agent"],
    )  # fmt: skip
    share = result.curves["return_by_agent"].values[..., 0].reshape(4, 12, 25).mean(1) / 4
    assert share[:, :3].mean() < 0.7
    assert share[:, -3:].mean(1).min() > 0.9
    test = result.evaluate(rounds=4)
    assert float(test["return_by_agent"].values[..., 0].mean()) / 4 > 0.95


def test_refusals() -> None:
    """Settings under which nothing can be learned, or that belong to networks."""

    def build(**fields: Any) -> None:
        from_spec("policy", {"kind": "language_learner", "model": "tiny", **fields}, "policy")

    with refused("unsupported", path="language_learner.objective"):
        build(objective="ppo")
    with refused("unsupported", path="language_learner.objective.network"):
        build(objective={"kind": "grpo", "network": "mlp"})
    with refused("unsupported", path="language_learner.model"):
        build(model={"kind": "served", "url": "http://localhost:1"})
    with refused("conflict", path="language_learner.temperature"):
        build(temperature=0)
    with refused("unsupported", path="language_learner.readout"):
        build(readout="free_text")
    with refused("unsupported", path="policies.person"):
        mores.train("lock_in", {"person": learner()}, episodes=1, rounds=1)
