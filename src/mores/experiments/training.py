"""Train players in an environment, in a few lines of Python.

    trained = mores.train("matrix_game", {"player": "ppo"}, episodes=50, rounds=64, replicates=64)
    print(trained.curves.cooperation.mean("world"))
    print(trained.test(rounds=64).cooperation.mean())

What a scenario file adds to this: arms on shared chance, claims with verdicts, a report, runs that
survive being killed.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mores.core.arguments import check_device, check_integer, check_names
from mores.core.environment import Environment, Policy
from mores.core.errors import UserError
from mores.core.random_streams import Worlds
from mores.experiments.trained import (
    TRAINING_STAGE,
    NameOrSpec,
    TrainingResult,
    resolve_environment,
    resolve_policies,
    resolve_population,
    run_episodes,
    select_metrics,
)
from mores.sim.simulator import Population, Simulator
from mores.sim.training_status import checked_state_dict, training_statuses


def train(
    environment: NameOrSpec | Environment[Any],
    policies: Mapping[str, NameOrSpec | Policy],
    *,
    episodes: int,
    rounds: int,
    replicates: int = 1,
    worlds: int = 1,
    seed: int = 0,
    roles_to_train: Collection[str] | None = None,
    metrics: Collection[str] = (),
    population: Population | NameOrSpec | None = None,
    device: torch.device | str = "cpu",
    progress: bool | None = None,
) -> TrainingResult:
    """Train players by what they earn, every replicate with learners of its own.

    Args:
        environment: an environment, its name, or a mapping with its `kind` and parameters.
        policies: by role, the same; roles not named get the environment's baseline.
        episodes: played one after another.
        rounds: of an episode.
        replicates: independent trainings: the n of every statistic.
        worlds: parallel copies inside a replicate, which share its learners.
        seed: of all chance.
        roles_to_train: roles that learn; all that can, if none is named.
        metrics: what is kept at the end of each episode; all, if none is named.
        population: a population, where the people are made elsewhere; the same.
        device: where tensors live.
        progress: show a bar; by default where somebody looks at the terminal.

    Raises:
        UserError: unknown names or wrong parameters; nobody in the named roles can learn, or
            somebody never would, such as PPO with a `horizon` longer than all rounds together.
    """
    counts = {"episodes": episodes, "rounds": rounds, "replicates": replicates, "worlds": worlds}
    episodes, rounds, replicates, worlds = (check_integer(n, c) for n, c in counts.items())
    seed, device = check_integer("seed", seed, minimum=None, maximum=None), check_device(device)
    where = resolve_environment(environment)
    population = None if population is None else resolve_population(population)
    chosen = Worlds.grid(replicates, worlds)
    roles = [role.name for role in where.roles]
    table = Simulator(
        where,
        {**where.default_policies(), **resolve_policies(policies)},
        worlds=chosen,
        rounds=rounds,
        population=population,
        stage=TRAINING_STAGE,
        device=device,
        roles_to_train=None
        if roles_to_train is None
        else check_names("learn", roles_to_train, roles),
    )
    _check_roles_to_train(table.policies, roles_to_train)
    _check_enough_rounds(table, episodes, worlds)
    table.reset(seed)
    names = select_metrics(table, metrics)
    with _progress_bar(episodes, progress) as advance:

        def tick(played: int) -> None:
            if played == 1:  # before hours go by
                for role in table.learning_roles:
                    checked_state_dict(role, table.policies[role], table.policy_states[role])
            advance()

        curves = run_episodes(table, episodes, names, tick)
    troubles = [
        line for r, p in table.policies.items() for line in p.stop_reasons(table.policy_states[r])
    ]
    if troubles:
        more = f" (and {len(troubles) - 1} more: see troubles)" if len(troubles) > 1 else ""
        warnings.warn(f"a learner stopped: {troubles[0]}{more}", stacklevel=2)
    learned = {
        role: checked_state_dict(role, player, table.policy_states[role])
        for role, player in table.policies.items()
        if player.supports("update")
    }
    for role in table.learning_roles:
        player, memory = table.policies[role], table.policy_states[role]
        for one in training_statuses("training", role, player, memory, learned[role]):
            if one.num_not_updated:
                warnings.warn(one.message, stacklevel=2)
                troubles.append(one.message)
    return TrainingResult(
        where,
        table.policies,
        dict(table.policy_states),
        curves,
        tuple(troubles),
        chosen,
        rounds,
        seed,
        population,
        table.device,
        frozenset(policies),
        frozenset(_updated_roles(learned, table.learning_roles)),
    )


def _updated_roles(
    state_dicts: Mapping[str, Mapping[str, Tensor]], learning_roles: Collection[str]
) -> Iterator[str]:
    """Roles whose players learned, or share what a player at another role learned."""
    places = {r: {t.data_ptr() for t in of.values() if t.numel()} for r, of in state_dicts.items()}
    for role, own in places.items():
        if role in learning_roles or any(own & places[other] for other in learning_roles):
            yield role


def _check_roles_to_train(
    policies: Mapping[str, Policy], roles_to_train: Collection[str] | None
) -> None:
    """Refuse roles that are to learn and cannot, or that nobody does."""
    able = [role for role, player in policies.items() if player.supports("update")]
    asked = list(policies if roles_to_train is None else roles_to_train)
    unable = [role for role in asked if role not in able]
    if not asked:
        raise UserError("learn: names nobody", code="missing", path="learn")
    if not unable or (roles_to_train is None and able):
        return
    fits = sorted(role for role in unable if policies[role].supports("fit_offline"))
    if fits:
        raise UserError(
            f"{', '.join(fits)}: learns from a record, not from reward: use a scenario with "
            "stages of loop fit",
            code="unsupported",
            path=f"players.{fits[0]}",
        )
    unable.sort()
    raise UserError(
        f"{', '.join(unable)}: cannot learn from reward",
        code="unsupported",
        path=f"players.{unable[0]}",
    )


def _check_enough_rounds(simulator: Simulator, episodes: int, worlds: int) -> None:
    """See that those who are to learn can in so many episodes.

    Raises:
        UserError: it is certain that somebody would not.
    """
    if short := simulator.environment.min_rounds_message(simulator.rounds):
        raise UserError(f"rounds: {short}", code="out_of_range", path="rounds")
    for role in simulator.learning_roles:
        player = simulator.policies[role]
        vain = player.never_updates_reason(
            simulator.roles[role], episodes * simulator.rounds, worlds
        )
        if vain and not player.frozen:
            raise UserError(
                f"{role}: would learn nothing: {vain}", code="not_trained", path=f"players.{role}"
            )


@contextlib.contextmanager
def _progress_bar(episodes: int, progress: bool | None) -> Iterator[Callable[[], None]]:
    """A progress bar over episodes, where somebody looks."""
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=episodes)
        yield lambda: bar.advance(task)
