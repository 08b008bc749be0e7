"""Train policies in an environment, in a few lines of Python.

    trained = mores.train("matrix_game", {"player": "ppo"}, episodes=50, rounds=64, replicates=64)
    print(trained.curves.cooperation.mean("world"))
    print(trained.evaluate(rounds=64).cooperation.mean())

A scenario file adds arms on shared random numbers, claims with verdicts, a report, resumable runs.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mores import registry
from mores.core.arguments import (
    check_callable,
    check_device,
    check_integer,
    check_names,
    check_seed,
)
from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.file_formats import mores_version
from mores.core.learner import Learner, can_train
from mores.core.people import Population
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.experiments.learning_curve import log_values
from mores.experiments.progress import ProgressDisplay
from mores.experiments.results.pytree_serialization import structurally_equal
from mores.experiments.tracking.logs import LOGS_FOLDER, open_logs, trackers_of
from mores.experiments.trained import TrainingResult, policies_elsewhere
from mores.experiments.trained_file import read_trained
from mores.experiments.trained_policy import TrainedPolicy
from mores.experiments.training_episodes import (
    Curves,
    EpisodeCallback,
    EpisodeInfo,
    run_episodes,
    select_metrics,
)
from mores.experiments.training_setup import TRAINING_STAGE, TrainingSetup, is_trained
from mores.registry.specs import Spec, environment_from_spec, from_spec, policies_from_specs
from mores.sim import policy_states
from mores.sim.agent_recorder import AgentRecorder
from mores.sim.metric_tracker import MetricSpecs, ResolvedMetrics
from mores.sim.simulation import guarded_callback
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
    policies: Mapping[str, Spec | Policy] | None = None,
    *,
    episodes: int,
    rounds: int | None = None,
    replicates: int | None = None,
    worlds: int | None = None,
    seed: int | None = None,
    roles_to_train: Collection[str] | None = None,
    metrics: MetricSpecs = (),
    population: Population | Spec | None = None,
    device: torch.device | str | None = None,
    record: Collection[str] = (),
    record_worlds: int | None = None,
    track: Any = None,
    callback: EpisodeCallback | None = None,
    start: TrainingResult | None = None,
    progress: bool | None = None,
) -> TrainingResult:
    """Train policies from their reward, with separate learners in every replicate.

    Args:
        environment: an environment, its name, or a mapping with its `kind` and parameters.
        policies: by role, likewise; other roles get the environment's default policies.
        episodes: number of episodes, simulated one after another.
        rounds: of an episode; default: those of `start`.
        replicates: independent trainings, the n of every statistic; default: 1, or those of
            `start`, which is the only number that can go on.
        worlds: parallel copies inside a replicate, which share its learners; default: likewise.
        seed: of all random numbers; default: 0, or that of `start`.
        roles_to_train: roles that train; default: all that can.
        metrics: metrics to record at the end of each episode: names, and mappings with `kind`,
            parameters and `name`; default: all of the environment and the return of every role.
        population: a population, likewise; default: the environment makes the people.
        device: device of all tensors; default: the CPU, or that of `start`.
        record: what to record of every agent in every round: `actions`, `action_masks`, `rewards`,
            `observations`; see `TrainingResult.records`.
        record_worlds: number of worlds to record, from the first on; default: all.
        track: where to log training curves while it runs: `tensorboard`, `wandb`, `mlflow`,
            `jsonl` or another registered tracker, a mapping with its `kind` and parameters, or
            several.
        callback: called after every episode with the number of completed episodes and an
            `mores.experiments.training_episodes.EpisodeInfo`. An exception in it stops the
            training.
        start: an earlier training that this one continues: its learners go on with their parameters
            and optimizers, and episodes and random streams are counted on. In an equal setup,
            unfinished rollouts go on as well, and the result is that of one training without
            interruption. Else, as in a curriculum, each role must have the same observations and
            actions, and a rollout begins anew; a policy may have other settings.
        progress: show progress; default: only on a terminal.

    Raises:
        UserError: unknown names or wrong parameters; no named role can train, or a learner would
            never be updated, such as PPO with `num_steps` longer than all rounds together; a policy
            in `policies` trained before, and `start` is not given; `start` does not fit; the
            callback fails.
    """
    given = {} if policies is None else policies
    before = _checked_start(start)
    _refuse_trained_policies(given, before)
    if rounds is None and before is None:
        raise UserError("rounds: needed without start", code="missing", path="rounds")
    episodes = check_integer("episodes", episodes)
    rounds = before.rounds if rounds is None and before else check_integer("rounds", rounds)
    all_worlds = _worlds(replicates, worlds, before)
    seed = (before.seed if before else 0) if seed is None else check_seed(seed)
    device = _device(device, before)
    check_callable("callback", callback)
    trackers = trackers_of(track)
    people: Population | None = None
    if population is not None:
        people = from_spec("population", population, "population")
    env = environment_from_spec(environment, people)
    roles = [role.name for role in env.roles]
    usual = env.default_policies() if before is None else _policies_of_start(before, env)
    recorder = AgentRecorder(env, record, all_worlds, record_worlds, rounds, episodes)
    simulator = Simulator(
        env,
        {**usual, **policies_from_specs(given)},
        worlds=all_worlds,
        rounds=rounds,
        population=people,
        stage=TRAINING_STAGE,
        device=device,
        roles_to_train=None
        if roles_to_train is None
        else check_names("roles_to_train", roles_to_train, roles),
        recorder=recorder if record else None,
    )
    _check_roles_to_train(simulator.policies, roles_to_train)
    simulator.reset(seed)
    completed = 0
    if start is not None:
        completed = _continue(simulator, start)
    _check_enough_rounds(simulator, completed + episodes)
    names = select_metrics(simulator, metrics)
    joined = start if start is not None and completed and _same_metrics(start, names) else None
    first = before.num_episodes if before else 0
    learners = {r: p for r, p in simulator.policies.items() if can_train(p, "online")}
    shown = sys.stderr.isatty() if progress is None else progress
    on_episode = None if callback is None else guarded_callback(callback, "episode")
    with (
        ProgressDisplay("training", float(episodes), shown) as display,
        open_logs(
            trackers, _log_name(env), Path(LOGS_FOLDER), _log_parameters(simulator, env)
        ) as log,
    ):

        def on_episode_end(index: int, info: EpisodeInfo) -> None:
            if not index:  # before hours of training
                for role in simulator.learning_roles:
                    checked_state_dict(role, learners[role], simulator.policy_states[role])
            text = f"{index + 1} of {episodes} episodes"
            display.update(text, 1.0, important=index + 1 == episodes)
            number = first + index + 1
            if trackers:
                log(number, log_values(info.metrics, info.learning, all_worlds.replicate.numpy()))
            if on_episode is not None:
                on_episode(number, info)

        before_curves = None if joined is None else Curves(joined.curves, joined.learning)
        result = run_episodes(simulator, episodes, names, recorder, before_curves, on_episode_end)
    diagnostics, updated_roles = _check_learners(simulator, learners)
    roles_before: tuple[frozenset[str], frozenset[str]] = frozenset(), frozenset()
    if before is not None:
        roles_before = before.requested_roles & {*roles}, before.trained_roles & {*roles}
    setup = TrainingSetup(
        env,
        simulator.policies,
        all_worlds,
        rounds,
        seed,
        people,
        simulator.device,
        frozenset(simulator.learning_roles),
        roles_before[0] | {*given},
        roles_before[1] | updated_roles,
        first + episodes,
        names,
    )
    numbers = range(first + episodes - result.curves.sizes["episode"], first + episodes)
    records = recorder.agent_dataset().assign_coords(episode=numbers[-episodes:])
    return TrainingResult(
        dict(simulator.policy_states),
        result.curves.assign_coords(episode=numbers),
        result.learning.assign_coords(episode=numbers),
        records,
        tuple(diagnostics),
        setup,
        train,
    )


def _check_learners(
    simulator: Simulator, learners: Mapping[str, Learner]
) -> tuple[list[str], frozenset[str]]:
    """Warn of models that stopped or were not updated.

    Returns:
        These diagnostics, and the roles whose policies trained.
    """
    states = simulator.policy_states
    by_role = {r: checked_diagnostics(r, learner, states[r]) for r, learner in learners.items()}
    diagnostics = [line for entries in by_role.values() for e in entries for line in e.messages]
    if diagnostics:
        more = f" (and {len(diagnostics) - 1} more: see diagnostics)" if diagnostics[1:] else ""
        warnings.warn(f"a model stopped: {diagnostics[0]}{more}", stacklevel=3)
    state_dicts = {r: checked_state_dict(r, learner, states[r]) for r, learner in learners.items()}
    for role in simulator.learning_roles:
        for status in training_statuses("training", role, by_role[role]):
            if status.num_not_updated:
                warnings.warn(status.message, stacklevel=3)
                diagnostics.append(status.message)
    return diagnostics, frozenset(_updated_roles(state_dicts, simulator.learning_roles))


def load_trained(path: str | Path, device: torch.device | str = "cpu") -> TrainingResult:
    """Read a file of `TrainingResult.save`.

    Its evaluations return the same numbers as before, and its training can go on.

    Args:
        path: of the file.
        device: device of all tensors.

    Raises:
        UserError: the file does not exist, was changed, or has another format; an environment or
            policy of the user is not registered.
    """
    contents = read_trained(path, check_device(device))
    recorder = AgentRecorder(contents.setup.environment, (), contents.setup.worlds, None, 1)
    return TrainingResult(
        contents.policy_states,
        contents.curves,
        contents.learning,
        recorder.agent_dataset(),
        contents.diagnostics,
        contents.setup,
        train,
    )


def _checked_start(start: Any) -> TrainingSetup | None:
    if start is None:
        return None
    if not isinstance(start, TrainingResult):
        message = f"start: the result of a training is needed, not {start!r:.60}"
        raise UserError(message, code="wrong_type", path="start")
    return start.setup


def _refuse_trained_policies(policies: Any, before: TrainingSetup | None) -> None:
    """Refuse trained policies that would begin anew."""
    if not isinstance(policies, Mapping):
        return  # refused where policies are made
    for role, policy in policies.items():
        is_result = isinstance(policy, (TrainingResult, TrainedPolicy))
        if is_result or (before is None and is_trained(policy)):
            raise UserError(
                f"{role}: this policy trained before, and would begin anew: to go on, give the "
                "result of its training as start=",
                code="unsupported",
                path=f"policies.{role}",
            )


def _policies_of_start(before: TrainingSetup, environment: Environment[Any]) -> dict[str, Policy]:
    """Policies of the roles that the caller does not name, in a training that is continued."""
    if structurally_equal(before.environment, environment):
        return dict(before.policies)
    return policies_elsewhere(before, environment)


def _worlds(replicates: Any, worlds: Any, before: TrainingSetup | None) -> Worlds:
    """The worlds of a training: those of the one that it continues.

    Raises:
        UserError: other numbers than before.
    """
    counts = {"replicates": replicates, "worlds": worlds}
    if before is None:
        return Worlds.grid(*(check_integer(n, 1 if c is None else c) for n, c in counts.items()))
    num_replicates = len(before.worlds.replicate.unique())
    known = {"replicates": num_replicates, "worlds": len(before.worlds.world) // num_replicates}
    for name, count in counts.items():
        if count is not None and check_integer(name, count) != known[name]:
            raise UserError(
                f"{name}: start has {known[name]}, and each replicate goes on in its own worlds: "
                f"leave {name} out",
                code="incompatible",
                path=name,
            )
    return before.worlds


def _device(device: torch.device | str | None, before: TrainingSetup | None) -> torch.device:
    """The device: that of the training that is continued."""
    if before is None:
        return check_device("cpu" if device is None else device)
    if device is not None and check_device(device) != before.device:
        raise UserError(
            f"device: start is on {before.device}: load its file with mores.load_trained(path, "
            "device=...)",
            code="incompatible",
            path="device",
        )
    return before.device


def _continue(simulator: Simulator, start: TrainingResult) -> int:
    """Let a simulator at its start go on from an earlier training.

    Returns:
        Number of episodes before, of the same training; 0 if this is another one.

    Raises:
        UserError: trained parameters do not fit.
    """
    before, seed = start.setup, simulator.seed
    assert seed is not None
    for role in before.trained_roles & simulator.policies.keys():
        policy = simulator.policies[role]
        if policy_states.is_untrained(role, policy, [before.policies[role]]):
            raise UserError(
                f"{role}: cannot go on from start, whose policy has other parameters; without "
                "start= it begins anew",
                code="not_trained",
                path=f"policies.{role}",
            )
    states = before.copy_states(start.policy_states)
    same = before.continues(simulator, seed)
    if same:
        simulator.policy_states |= states
        simulator.share_parameters()
    else:
        store: dict[str, Any] = {}
        policy_states.store_states(store, before.policies, states)
        simulator.reset(seed, policy_states.stored_states(store, simulator.policies))
    simulator.episode = torch.full_like(simulator.episode, before.num_episodes - 1)
    simulator.next_episode()
    return before.num_episodes if same else 0


def _same_metrics(start: TrainingResult, metrics: ResolvedMetrics) -> bool:
    return {**start.setup.metrics} == {**metrics}


def _log_name(environment: Environment[Any]) -> str:
    """Name of the log of a training: its environment and the time."""
    kind = registry.kind_of("environment", environment) or type(environment).__name__
    return f"{kind}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"


def _log_parameters(simulator: Simulator, environment: Environment[Any]) -> dict[str, object]:
    """Parameters of a training in its log."""
    policies = {role: _kind("policy", policy) for role, policy in simulator.policies.items()}
    return {
        "environment": _kind("environment", environment),
        "policies": policies,
        "replicates": len(simulator.worlds.replicate.unique()),
        "worlds": len(simulator.worlds.world),
        "rounds": simulator.rounds,
        "seed": simulator.seed,
        "mores_version": mores_version(),
    }


def _kind(registry_name: str, instance: object) -> str:
    return registry.kind_of(registry_name, instance) or type(instance).__name__


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
