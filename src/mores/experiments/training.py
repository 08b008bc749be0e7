"""Train policies in an environment, in a few lines of Python.

    trained = mores.train("matrix_game", {"player": "ppo"}, episodes=50, rounds=64, replicates=64)
    print(trained.curves.cooperation.mean("world"))
    print(trained.evaluate(rounds=64).cooperation.mean())

A scenario file adds arms on shared random numbers, claims with verdicts, a report, resumable runs.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mores.core.arguments import check_device, check_integer, check_names, check_seed
from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.learner import Learner, can_train
from mores.core.people import Population
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.experiments.progress import ProgressDisplay
from mores.experiments.trained import (
    TRAINING_STAGE,
    TrainingResult,
    run_episodes,
    select_metrics,
)
from mores.registry.specs import Spec, from_spec, policies_from_specs
from mores.sim.simulator import Simulator
from mores.sim.training_status import (
    checked_diagnostics,
    checked_state_dict,
    no_update_reason,
    too_few_rounds,
    training_statuses,
)


def train(
    environment: Spec | Environment[Any],
    policies: Mapping[str, Spec | Policy],
    *,
    episodes: int,
    rounds: int,
    replicates: int = 1,
    worlds: int = 1,
    seed: int = 0,
    roles_to_train: Collection[str] | None = None,
    metrics: Collection[str] = (),
    population: Population | Spec | None = None,
    device: torch.device | str = "cpu",
    progress: bool | None = None,
) -> TrainingResult:
    """Train policies from their reward, with separate learners in every replicate.

    Args:
        environment: an environment, its name, or a mapping with its `kind` and parameters.
        policies: by role, likewise; other roles get the environment's default policies.
        episodes: number of episodes, simulated one after another.
        rounds: of an episode.
        replicates: independent trainings: the n of every statistic.
        worlds: parallel copies inside a replicate, which share its learners.
        seed: of all random numbers.
        roles_to_train: roles that train; default: all that can.
        metrics: metrics to record at the end of each episode; default: all.
        population: a population, likewise; default: the environment makes the people.
        device: device of all tensors.
        progress: show progress; default: only on a terminal.

    Raises:
        UserError: unknown names or wrong parameters; no named role can train, or a learner would
            never be updated, such as PPO with `num_steps` longer than all rounds together.
    """
    counts = {"episodes": episodes, "rounds": rounds, "replicates": replicates, "worlds": worlds}
    episodes, rounds, replicates, worlds = (check_integer(n, c) for n, c in counts.items())
    seed, device = check_seed(seed), check_device(device)
    env = from_spec("environment", environment, "environment")
    people: Population | None = None
    if population is not None:
        people = from_spec("population", population, "population")
        env = env.with_population(people)
    all_worlds = Worlds.grid(replicates, worlds)
    roles = [role.name for role in env.roles]
    simulator = Simulator(
        env,
        {**env.default_policies(), **policies_from_specs(policies)},
        worlds=all_worlds,
        rounds=rounds,
        population=people,
        stage=TRAINING_STAGE,
        device=device,
        roles_to_train=None
        if roles_to_train is None
        else check_names("roles_to_train", roles_to_train, roles),
    )
    _check_roles_to_train(simulator.policies, roles_to_train)
    simulator.reset(seed)
    _check_enough_rounds(simulator, episodes)
    names = select_metrics(simulator, metrics)
    learners = {r: p for r, p in simulator.policies.items() if can_train(p, "online")}
    shown = sys.stderr.isatty() if progress is None else progress
    with ProgressDisplay("training", float(episodes), shown) as display:

        def on_episode_end(num_episodes: int) -> None:
            if num_episodes == 1:  # before hours of training
                for role in simulator.learning_roles:
                    checked_state_dict(role, learners[role], simulator.policy_states[role])
            text = f"{num_episodes} of {episodes} episodes"
            display.update(text, 1.0, important=num_episodes == episodes)

        curves = run_episodes(simulator, episodes, names, on_episode_end)
    states = simulator.policy_states
    by_role = {r: checked_diagnostics(r, learner, states[r]) for r, learner in learners.items()}
    diagnostics = [line for entries in by_role.values() for e in entries for line in e.messages]
    if diagnostics:
        more = f" (and {len(diagnostics) - 1} more: see diagnostics)" if diagnostics[1:] else ""
        warnings.warn(f"a model stopped: {diagnostics[0]}{more}", stacklevel=2)
    state_dicts = {r: checked_state_dict(r, learner, states[r]) for r, learner in learners.items()}
    for role in simulator.learning_roles:
        for status in training_statuses("training", role, by_role[role]):
            if status.num_not_updated:
                warnings.warn(status.message, stacklevel=2)
                diagnostics.append(status.message)
    return TrainingResult(
        env,
        simulator.policies,
        dict(states),
        curves,
        tuple(diagnostics),
        all_worlds,
        rounds,
        seed,
        people,
        simulator.device,
        frozenset(policies),
        frozenset(_updated_roles(state_dicts, simulator.learning_roles)),
    )


def _updated_roles(
    state_dicts: Mapping[str, Mapping[str, Tensor]], learning_roles: Collection[str]
) -> Iterator[str]:
    """Roles whose policies trained, or share parameters with a policy that did."""
    pointers = {r: {t.data_ptr() for t in d.values() if t.numel()} for r, d in state_dicts.items()}
    for role, own in pointers.items():
        if role in learning_roles or any(own & pointers[other] for other in learning_roles):
            yield role


def _check_roles_to_train(
    policies: Mapping[str, Policy], roles_to_train: Collection[str] | None
) -> None:
    """Refuse an empty list of roles, and roles that cannot train."""
    able = [role for role, policy in policies.items() if can_train(policy, "online")]
    requested = list(policies if roles_to_train is None else roles_to_train)
    unable = [role for role in requested if role not in able]
    if not requested:
        raise UserError("roles_to_train: name a role", code="missing", path="roles_to_train")
    if not unable or (roles_to_train is None and able):
        return
    offline = sorted(role for role in unable if can_train(policies[role], "offline"))
    if offline:
        raise UserError(
            f"{', '.join(offline)}: trains on recorded episodes, not on reward: use a scenario "
            "with stages of loop fit_offline",
            code="unsupported",
            path=f"policies.{offline[0]}",
        )
    unable.sort()
    raise UserError(
        f"{', '.join(unable)}: cannot train on reward",
        code="unsupported",
        path=f"policies.{unable[0]}",
    )


def _check_enough_rounds(simulator: Simulator, episodes: int) -> None:
    """Check that the roles to train can be updated within so many episodes, after the reset.

    Raises:
        UserError: a role would certainly not be updated.
    """
    if message := too_few_rounds(simulator.environment, simulator.rounds):
        raise UserError(f"rounds: {message}", code="out_of_range", path="rounds")
    for role in simulator.learning_roles:
        learner, state = simulator.policies[role], simulator.policy_states[role]
        assert isinstance(learner, Learner)
        if reason := no_update_reason(role, learner, state, episodes * simulator.rounds):
            message = f"{role}: would never be updated: {reason}"
            raise UserError(message, code="not_trained", path=f"policies.{role}")
