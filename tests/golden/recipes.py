"""Parameters after twenty updates of every recipe, online or offline, with stacked models."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from mores.agents.channels.choices import BradleyTerryChoice
from mores.agents.learning.recipes.sft import SFT
from mores.core.environment import Environment
from mores.core.episode_dataset import EpisodeDataset
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.envs.strategic.matrix_game import MatrixGame
from mores.registry import make_policy
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulator import Simulator
from tests.golden.entries import Entry, entry
from tests.learners.small_environments import unchecked

UPDATES = 20
NET = {"kind": "mlp", "hidden_sizes": [8]}
SMALL = TokenFeedback(
    num_completions=4,
    vocab_size=6,
    completion_length=3,
    num_prompt_features=3,
    choice=BradleyTerryChoice(rationality=50),
)
RECORDED = TokenFeedback(
    num_completions=4,
    vocab_size=6,
    completion_length=3,
    num_prompt_features=3,
    choice=BradleyTerryChoice(rationality=50),
    review=True,
)
WORLDS = Worlds.grid(2, 2)

ONLINE: dict[str, dict[str, Any]] = {
    "ppo": {"num_steps": 3, "num_minibatches": 1, "update_epochs": 1},
    "reinforce": {},
    "grpo": {},
    "rloo": {},
    "grao": {},
    "expert_iteration": {},
    "online_dpo": {},
}
OFFLINE: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in ("sft", "dpo", "ipo", "simpo", "cpo", "kto", "cut")},
    "dckd": {"teacher_epochs": 2},
    "adpa": {"teacher_epochs": 2},
    "dpo/robust": {"estimate_reliability": True, "num_annotators": 2},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "gru": {"kind": "gru", "hidden_size": 8},
    "transformer": {"kind": "transformer", "hidden_size": 8, "num_layers": 1, "num_heads": 2},
}


def entries(every: int = 1) -> Iterator[tuple[str, Entry]]:
    """Every parameter of every recipe, or of one recipe in `every`, after twenty updates."""
    for name, tensor in tensors(every):
        yield f"recipe/{name}", entry(tensor)


@unchecked()
def tensors(every: int = 1) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters, by recipe and name."""
    for name, train in itertools.islice(trainings(), 0, None, every):
        yield from _named(name, train())


def trainings() -> Iterator[tuple[str, Callable[[], Simulator]]]:
    """Name of each recipe, and a function that trains it."""
    for kind, parameters in ONLINE.items():
        policy = make_policy(kind, network=NET, **parameters)
        yield kind, functools.partial(trained_online, SMALL, "assistant", policy, 3)
    for kind, network in NETWORKS.items():
        options = {"num_steps": 8, "num_minibatches": 1, "update_epochs": 1}
        policy = make_policy("ppo", network=network, **options)
        yield f"ppo/{kind}", functools.partial(trained_online, MatrixGame(), "player", policy, 8)
    pairs = make_policy("ppo", network=NET, num_steps=8, parameter_sharing="agent")
    yield "ppo/agents", functools.partial(trained_online, MatrixGame(), "player", pairs, 8)
    for kind, parameters in OFFLINE.items():
        policy = make_policy(kind.split("/")[0], network=NET, **parameters)
        yield kind, functools.partial(recorded_and_trained, policy)
    yield "alignment_recovery", recovered


def recorded_and_trained(policy: Policy) -> Simulator:
    """Train a policy offline on a dataset of its own episodes."""
    return trained_offline(*recorded_dataset(RECORDED, policy), UPDATES)


def trained_online(
    environment: Environment[Any], role: str, policy: Policy, rounds: int
) -> Simulator:
    """Simulate until twenty updates have been made."""
    simulator = Simulator(
        environment, {**environment.default_policies(), role: policy}, worlds=WORLDS, rounds=rounds
    )
    simulator.reset(1)
    while int(policy.state_dict(simulator.policy_states[role])["num_updates"].min()) < UPDATES:
        if simulator.all_finished:
            simulator.next_episode()
        simulator.step()
    return simulator


def recorded_dataset(
    environment: TokenFeedback, policy: Policy, policy_states: Any = None, stage: int = 0
) -> tuple[Simulator, EpisodeDataset]:
    """Three episodes without training, and their dataset."""
    recorder = EpisodeRecorder(["assistant"])
    simulator = Simulator(
        environment,
        {"assistant": policy},
        worlds=WORLDS,
        rounds=environment.completion_length,
        roles_to_train=[],
        recorder=recorder,
        stage=stage,
    )
    simulator.reset(1, policy_states)
    for episode in range(3):
        if episode:
            simulator.next_episode()
        while not simulator.all_finished:
            simulator.step()
    return simulator, recorder.dataset("assistant")


def trained_offline(simulator: Simulator, dataset: EpisodeDataset, passes: int) -> Simulator:
    """Passes over a dataset."""
    policy = simulator.policies["assistant"]
    streams = RandomStreams.of(1, simulator.worlds, stage=5)
    for epoch in range(passes):
        epoch_streams = streams.at(epoch).child("fit")
        simulator.policy_states["assistant"] = policy.fit_offline(
            simulator.policy_states["assistant"], dataset, epoch_streams
        )
    return simulator


class SecondSFT(SFT):
    """A different class with the same loss: it continues from the parameters of the first."""


def recovered() -> Simulator:
    """Imitate two datasets in turn, then restore what training on the second removed."""
    first_policy = SFT(network=NET, learning_rate=0.02)  # type: ignore[arg-type]
    simulator = trained_offline(*recorded_dataset(RECORDED, first_policy), UPDATES)
    second_policy = SecondSFT(network=NET, learning_rate=0.02)  # type: ignore[arg-type]
    other = RECORDED.model_copy(update={"task_seed": 1})
    simulator = trained_offline(
        *recorded_dataset(other, second_policy, simulator.policy_states, stage=1), UPDATES
    )
    policy = make_policy("alignment_recovery", network=NET, max_loss_increase=0.5, steps=5)
    return trained_offline(*recorded_dataset(other, policy, simulator.policy_states, stage=2), 1)


def _named(kind: str, simulator: Simulator) -> Iterator[tuple[str, torch.Tensor]]:
    for role, policy_states in simulator.policy_states.items():
        parameters_by_name = simulator.policies[role].state_dict(policy_states)
        if not parameters_by_name:
            continue
        for name, tensor in parameters_by_name.items():
            yield f"{kind}/{role}/{name}", tensor
