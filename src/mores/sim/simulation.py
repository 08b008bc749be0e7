"""Play a game among players from start to end, and record what was measured on the way."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.check_metrics import checked_metrics
from mores.core.environment import Environment, Policy
from mores.core.errors import UserError, did_you_mean
from mores.core.random_streams import Worlds
from mores.sim.simulator import Population, Simulator


@dataclasses.dataclass(frozen=True)
class SimulationResult:
    """What is left of a play.

    Attributes:
        state: the last state.
        policy_states: what the players keep, by role.
        rounds: the rounds at which measures were taken; 0 is before the first.
        metrics: by name, `[world, round]` or `[world, round, n]`.
        latent: what `latent_worlds` asked for, `[world, round, ...]`, of the worlds it named.
    """

    state: Any
    policy_states: Mapping[str, Any]
    rounds: tuple[int, ...]
    metrics: Mapping[str, Float[Tensor, "world round *n"]]
    latent: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


def simulate(
    environment: Environment[Any],
    policies: Mapping[str, Policy] | None = None,
    worlds: int | Sequence[int] | Worlds = 1,
    rounds: int = 100,
    seed: int = 0,
    metrics: Sequence[str] = (),
    *,
    metric_rounds: Sequence[int] | None = None,
    population: Population | None = None,
    latent_worlds: Mapping[str, int] | None = None,
    latent_rounds: Sequence[int] = (),
    stage: int = 0,
    device: torch.device | str = "cpu",
    callback: Callable[[int], None] | None = None,
) -> SimulationResult:
    """Play `rounds` rounds in every world; a world that ends earlier stands still from then on.

    Args:
        environment: the environment.
        policies: by role; roles not named get the game's baseline player.
        worlds: how many, or which replicates, or a `Worlds`.
        rounds: how many rounds.
        seed: of all draws.
        metrics: names of measures.
        metric_rounds: rounds at which to take them; by default all, from 0 to `rounds`.
        population: a population, where the people are made elsewhere.
        latent_worlds: names of hidden quantities to keep, of the first so many worlds.
        latent_rounds: rounds at which to keep them.
        stage: number of the stage.
        device: where tensors live.
        callback: called after every round with the number of rounds played.
    """
    seated = {**environment.default_policies(), **(policies or {})}
    table = Simulator(
        environment, seated, {}, worlds, rounds, population=population, stage=stage, device=device
    )
    table.reset(seed)
    kept = simulate_episode(
        table,
        metrics,
        metric_rounds=metric_rounds,
        latent_worlds=latent_worlds,
        latent_rounds=latent_rounds,
        callback=callback,
    )
    return SimulationResult(
        table.state, table.policy_states, kept.rounds, kept.metrics, kept.latent
    )


class EpisodeRecord(NamedTuple):
    """What was recorded of an episode: see `SimulationResult`."""

    rounds: tuple[int, ...]
    metrics: Mapping[str, Float[Tensor, "world round *n"]]
    latent: Mapping[str, Tensor]


def simulate_episode(
    simulator: Simulator,
    metrics: Sequence[str] = (),
    *,
    metric_rounds: Sequence[int] | None = None,
    latent_worlds: Mapping[str, int] | None = None,
    latent_rounds: Sequence[int] = (),
    callback: Callable[[int], None] | None = None,
) -> EpisodeRecord:
    """Play the episode that a table stands at the beginning of, with nobody outside.

    The arguments are those of `simulate`.
    """
    game, rounds = simulator.environment, simulator.rounds
    when = tuple(range(rounds + 1)) if metric_rounds is None else _check_rounds("at", metric_rounds)
    hidden_when = _check_rounds("hidden_at", latent_rounds)
    for what, asked in (("at", when), ("hidden_at", hidden_when)):
        if asked and not 0 <= asked[0] <= asked[-1] <= rounds:
            raise UserError(
                f"measures are taken between rounds 0 and {rounds}, not at {asked}",
                code="out_of_range",
                path=what,
            )
    measures = _RoundBuffers(when)
    hidden = _RoundBuffers(hidden_when)
    for played in range(rounds + 1):
        if played:
            if not simulator.all_finished:
                simulator.step()
            if callback is not None:
                callback(played)
        if metrics and measures.includes(played):
            now = checked_metrics(game, simulator.state, len(simulator.worlds))
            measures.write(played, {name: _lookup("record", now, name) for name in metrics})
        if latent_worlds and hidden.includes(played):
            seen = game.latent(simulator.state)
            chosen = {n: _lookup("keep_hidden", seen, n)[:m] for n, m in latent_worlds.items()}
            hidden.write(played, chosen)
    return EpisodeRecord(when, measures.buffers, hidden.buffers)


class _RoundBuffers:
    """Tensors over chosen rounds, in buffers made once."""

    def __init__(self, rounds: tuple[int, ...]) -> None:
        self._index = {played: i for i, played in enumerate(rounds)}
        self.buffers: dict[str, Tensor] = {}

    def includes(self, completed_rounds: int) -> bool:
        return completed_rounds in self._index

    def write(self, completed_rounds: int, values: Mapping[str, Tensor]) -> None:
        for name, tensor in values.items():
            if name not in self.buffers:
                shape = (len(tensor), len(self._index), *tensor.shape[1:])
                self.buffers[name] = torch.empty(shape, dtype=tensor.dtype)
            self.buffers[name][:, self._index[completed_rounds]] = tensor.detach().cpu()


def _check_rounds(what: str, rounds: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(sorted({operator.index(number) for number in rounds}))
    except TypeError:
        raise UserError(
            f"rounds are whole numbers, not {list(rounds)}", code="wrong_type", path=what
        ) from None


def _lookup(what: str, quantities: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in quantities:
        near = did_you_mean(name, quantities)
        raise UserError(f"no measure {name!r} in this game{near}", code="unknown_name", path=what)
    return quantities[name]
