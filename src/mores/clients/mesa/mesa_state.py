"""State of a batch of Mesa models, and the models that belong to a state.

A Mesa model cannot be saved as data, so the state has what determines it: the seed, the number of
rounds and a digest of the actions so far. Cached models need not be simulated again. A state
without a cached model, from a checkpoint or another process, is simulated again from the start of
its episode, unless agents of a `MesaRole` acted: their actions are not part of the state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.clients.mesa.mesa_role import MesaRole
from mores.clients.mesa.model_cache import Actions, CachedModel, ModelCache, ModelKey
from mores.clients.mesa.model_spec import MesaModelSpec
from mores.core.environment import Phase, Role
from mores.core.spaces import Box


@dataclasses.dataclass(frozen=True)
class MesaState:
    """State of a batch of worlds.

    Attributes:
        seed: seed of each model.
        rounds_elapsed: number of completed rounds.
        history: digest of the actions of these rounds; 0 without roles.
        running: Mesa's `running`.
        metrics: numbers of the reporters, by name.
        observations, action_masks: of every agent, by role.
    """

    seed: Int[Tensor, " world"]
    rounds_elapsed: Int[Tensor, " world"]
    history: Int[Tensor, " world"]
    running: Bool[Tensor, " world"]
    metrics: dict[str, Float[Tensor, " world"]]
    observations: dict[str, Float[Tensor, "world _agent _size"]]
    action_masks: dict[str, Bool[Tensor, "world _agent _option"]]

    def key(self, world: int) -> ModelKey:
        """The key of the model of a world."""
        parts = (self.seed, self.rounds_elapsed, self.history)
        return ModelKey(*(int(part[world]) for part in parts))


def make_state(
    spec: MesaModelSpec,
    models: Sequence[CachedModel],
    metric_names: Sequence[str],
    roles: Sequence[Role],
    phase: Phase,
    device: torch.device,
) -> MesaState:
    """The state of a batch of models.

    Args:
        spec: class, parameters and roles of the models.
        models: the model of each world.
        metric_names: names of the reporters that are metrics.
        roles: the environment's role for each `MesaRole` of `spec`.
        phase: the phase in which the roles act.
        device: device of the tensors.

    Raises:
        UserError: a reporter or a method of a `MesaRole` fails, or returns a wrong type or shape.
    """
    reports = [spec.metrics(each, metric_names) for each in models]
    columns = zip(*(each.key for each in models), strict=True)
    seed, rounds, history = (torch.tensor(column, device=device) for column in columns)
    observations, masks = {}, {}
    for mesa_role, role in zip(spec.roles, roles, strict=True):
        size = role.observation_space.size
        rows = np.stack([spec.observations(mesa_role, each, size) for each in models])
        observations[role.name] = torch.tensor(rows, device=device)
        space = phase.action_spaces[role.name]
        if type(mesa_role).action_mask is not MesaRole.action_mask and not isinstance(space, Box):
            count = space.num_options
            count = count if isinstance(count, int) else sum(count)
            legal = np.stack([spec.masks(mesa_role, each, count) for each in models])
            masks[role.name] = torch.tensor(legal, device=device)
    return MesaState(
        seed=seed,
        rounds_elapsed=rounds,
        history=history,
        running=torch.tensor([spec.is_running(each) for each in models], device=device),
        metrics={
            name: torch.tensor(
                [report[name] for report in reports], dtype=torch.float64, device=device
            )
            for name in metric_names
        },
        observations=observations,
        action_masks=masks,
    )


class ModelStepper(NamedTuple):
    """Steps the models of a state.

    Attributes:
        spec: class, parameters and roles of the models.
        cache: models in memory.
    """

    spec: MesaModelSpec
    cache: ModelCache

    def cache_models(self, models: Sequence[CachedModel]) -> None:
        """Add the models of a batch to the cache, each once."""
        for cached in {id(each.model): each for each in models}.values():
            self.cache.add(cached, len(models))

    def step_world(self, state: MesaState, world: int, actions: Actions) -> CachedModel:
        """The model of a world after a round; removed from the cache.

        Args:
            state: state before the round.
            world: the world.
            actions: actions of the agents, by role.

        Raises:
            UserError: the model cannot be restored, or its code fails.
        """
        key = state.key(world)
        cached = self.cache.pop(key)
        if cached is not None and not bool(state.running[world]):
            return cached  # it stays at its last state
        if cached is None:
            # The result of an earlier step with these actions was not used: a finished world.
            later = self.cache.pop(key.after(actions))
            if later is not None:
                return later
            cached = self._replay(state, world, key)
            if not bool(state.running[world]):
                return cached
        self.spec.advance(cached, actions)
        return cached

    def _replay(self, state: MesaState, world: int, key: ModelKey) -> CachedModel:
        """A model in the state of a key, simulated from its start.

        Raises:
            UserError: the actions are unknown, or the seed does not determine the model.
        """
        actions: list[Actions] | None = None
        if self.spec.roles:
            actions = self.cache.actions_of(key)
        if actions is None and self.spec.roles and key.rounds:
            self.spec.refuse(
                "this state cannot be restored: its model is no longer in memory, and the actions "
                "of the agents that led to it are not part of the state",
                "unsupported",
            )
        cached = self.spec.new(key.seed)
        for earlier in actions or [{}] * key.rounds:
            self.spec.advance(cached, earlier)
        found = self.spec.metrics(cached, state.metrics)
        for name, metric in state.metrics.items():
            if not np.array_equal(found[name], metric[world].item(), equal_nan=True):
                self.spec.refuse(
                    f"{name} differs when the model is simulated again with the same seed: draw "
                    "all random numbers from `self.random` or `self.rng`, and seed spaces by them",
                    "unseeded",
                )
        return cached
