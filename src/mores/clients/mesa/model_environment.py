"""A user's Mesa model as an environment: scenarios, claims, Gymnasium and PettingZoo.

    mores.register("environment", "schelling", Schelling)
    mores.register("environment", "planned", mesa_environment(Schelling, [Planner()]))

Every world is one Mesa model; a round is one `step` of it. Models are stepped one after the other
in Python: a run costs what it costs in Mesa, in as many processes as `--jobs` says.

Seeds. A model is seeded by Mesa's own parameter, with 48 bits of the random streams of its world,
so that replicate k has the same seed in all arms. What happens after is up to the model: arms whose
models draw a different number of times are no longer coupled, unlike those of other environments.
Results are marked `same seed, not coupled`. Arms with equal parameters are equal.

State. A Mesa model cannot be saved as data, so the state has what determines it: the seed, the
number of rounds and a digest of the actions so far. Models in memory save the work of making them
again (`live_models`). A state from elsewhere, a checkpoint or another process, is simulated again
from the start of its episode, unless its decisions came from outside: these are not in the state.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import create_model
from torch import Tensor

from mores.clients.mesa.live_models import Actions, Address, LiveModel, LiveModels
from mores.clients.mesa.mesa_role import MesaRole
from mores.clients.mesa.parameters import fields_of, seed_parameter
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box

try:
    import mesa

    from mores.clients.mesa.user_model import UserModel
except ImportError as error:
    raise UserError(
        f"Mesa is not installed ({error}): pip install mores[mesa]",
        code="not_installed",
        path="mesa",
    ) from None

SEED_BITS = 24  # of each of two uniform numbers
STEP = "step"
WORLD_ELEMENTS = 2**17  # as many as make batches of 64 worlds, whose models are in memory at once


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

    def address(self, world: int) -> Address:
        """The address of the model of a world."""
        parts = (self.seed, self.rounds_elapsed, self.history)
        return Address(*(int(part[world]) for part in parts))


class MesaEnvironment(Environment[MesaState]):
    """Worlds of a user's Mesa model. `mesa_environment` makes a subclass for a class of models.

    Agents:
        Those of the given `MesaRole`s. Without roles everything happens inside the model.

    Dynamics:
        `MesaRole.act` for every agent, then `step` of the model.

    End:
        When the model sets `running` to False.

    Metrics:
        What the model's `datacollector` reports: `mores.clients.mesa.reporters`.
    """

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True, "phases": 1}
    random_source: ClassVar[str] = "`self.random` or `self.rng` of the model"
    model_class: ClassVar[type[mesa.Model]]
    mesa_roles: ClassVar[tuple[MesaRole, ...]] = ()

    @property
    def couples_arms(self) -> bool:
        """Arms share the seeds of models, not the draws within them."""
        return False

    @property
    def elements_per_world(self) -> int:
        """See `Environment`."""
        return max(super().elements_per_world, WORLD_ELEMENTS)

    # --- roles -------------------------------------------------------------------------------

    @functools.cached_property
    def _user_model(self) -> UserModel:
        parameters = {
            field.alias or name: getattr(self, name)
            for name, field in type(self).model_fields.items()
        }
        return UserModel(self.model_class, parameters, self.mesa_roles)

    @functools.cached_property
    def _live_models(self) -> LiveModels:
        return LiveModels()

    @property
    def _example(self) -> LiveModel:
        """A model at its start, which tells the roles and the metrics."""
        return self._live_models.example(lambda: self._user_model.new(0))

    @functools.cached_property
    def _metric_names(self) -> tuple[str, ...]:
        return self._user_model.metric_names(self._example)

    @functools.cached_property
    def roles(self) -> tuple[Role, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One for each `MesaRole`."""
        user, example, found = self._user_model, self._example, list[Role]()
        for role in self.mesa_roles:
            count = len(user.agents(role, example))
            what = f"{role.name}.observation_space"
            space = user.call(what, role.observation_space, example.model)
            if not count:
                user.refuse(f"{role.name}.agents returns no agents", "out_of_range")
            found.append(Role(role.name, count, space))
        return tuple(found)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One phase, in which all roles act."""
        user, model = self._user_model, self._example.model
        spaces = {
            role.name: user.call(f"{role.name}.action_space", role.action_space, model)
            for role in self.mesa_roles
        }
        return (Phase(STEP, spaces),)

    def default_policies(self) -> Mapping[str, Any]:
        """Random actions."""
        return {role.name: "random" for role in self.mesa_roles}

    # --- dynamics ----------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> MesaState:
        """New models.

        Raises:
            UserError: there is a population, the constructor fails, or the number of agents of a
                role depends on the seed.
        """
        if people is not None:
            self._user_model.refuse(
                "has its own people: it takes no population", "unsupported", "population"
            )
        uniform = streams.uniform("mesa_seed", 1, 2)[:, 0].double().cpu()
        words = (uniform * 2**SEED_BITS).long()
        seeds = (words[:, 0] | words[:, 1] << SEED_BITS).tolist()
        models = [self._user_model.new(seed) for seed in seeds]
        state = self._state(models, streams.device)
        self._keep(models)
        return state

    def observe(self, state: MesaState, role: str, phase: str) -> Tensor:
        """See `MesaRole.observe`."""
        return state.observations[role]

    def action_mask(self, state: MesaState, role: str, phase: str) -> Tensor | None:
        """See `MesaRole.action_mask`."""
        return state.action_masks.get(role)

    def step(
        self,
        state: MesaState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[MesaState]:
        """The models after a step. Models that no longer run stay as they are."""
        arrays = {name: action.detach().cpu().numpy() for name, action in actions.items()}
        models = [
            self._stepped(state, world, {name: array[world] for name, array in arrays.items()})
            for world in range(len(state.seed))
        ]
        device = state.seed.device
        new = self._state(models, device)
        reward = {
            role.name: torch.tensor([each.rewards[role.name] for each in models], device=device)
            for role in self.mesa_roles
        }
        self._keep(models)
        return StepResult(new, reward, ~new.running)

    def metrics(self, state: MesaState) -> Mapping[str, Tensor]:
        """See the class docstring."""
        return dict(state.metrics)

    # --- models ------------------------------------------------------------------------------

    def _keep(self, models: Sequence[LiveModel]) -> None:
        """Keep models in memory, each once."""
        for live in {id(each.model): each for each in models}.values():
            self._live_models.put(live, len(models))

    def _stepped(self, state: MesaState, world: int, actions: Actions) -> LiveModel:
        """The model of a world after a round."""
        address = state.address(world)
        live = self._live_models.take(address)
        if live is not None and not bool(state.running[world]):
            return live  # it stays at its last state
        if live is None:
            # The result of an earlier step with these actions was not used: a finished world.
            later = self._live_models.take(address.after(actions))
            if later is not None:
                return later
            live = self._made_again(state, world, address)
            if not bool(state.running[world]):
                return live
        self._user_model.advance(live, actions)
        return live

    def _made_again(self, state: MesaState, world: int, address: Address) -> LiveModel:
        """A model in the state at an address, simulated from its start.

        Raises:
            UserError: the actions are unknown, or the seed does not determine the model.
        """
        actions: list[Actions] | None = None
        if self.mesa_roles:
            actions = self._live_models.actions_of(address)
        if actions is None and self.mesa_roles and address.rounds:
            self._user_model.refuse(
                "a state was saved or left long ago, and its model is gone: it cannot be made "
                "again, since its decisions came from outside",
                "unsupported",
            )
        live = self._user_model.new(address.seed)
        for earlier in actions or [{}] * address.rounds:
            self._user_model.advance(live, earlier)
        found = self._user_model.metrics(live)
        for name, metric in state.metrics.items():
            if not np.array_equal(found[name], metric[world].item(), equal_nan=True):
                self._user_model.refuse(
                    f"{name} differs when the model is made again with the same seed: draw all "
                    "random numbers from `self.random` or `self.rng`, and seed spaces by them",
                    "unseeded",
                )
        return live

    # --- tensors -----------------------------------------------------------------------------

    def _state(self, models: Sequence[LiveModel], device: torch.device) -> MesaState:
        """The state of a batch whose models are these."""
        user = self._user_model
        reports = [user.metrics(each) for each in models]
        columns = zip(*(each.address for each in models), strict=True)
        seed, rounds, history = (torch.tensor(column, device=device) for column in columns)
        observations, masks = {}, {}
        for role, made in zip(self.mesa_roles, self.roles, strict=True):
            size = made.observation_space.size
            rows = np.stack([user.observations(role, each, size) for each in models])
            observations[role.name] = torch.tensor(rows, device=device)
            space = self.phases[0].action_spaces[role.name]
            if type(role).action_mask is not MesaRole.action_mask and not isinstance(space, Box):
                count = space.num_options
                count = count if isinstance(count, int) else sum(count)
                legal = np.stack([user.masks(role, each, count) for each in models])
                masks[role.name] = torch.tensor(legal, device=device)
        return MesaState(
            seed=seed,
            rounds_elapsed=rounds,
            history=history,
            running=torch.tensor([bool(each.model.running) for each in models], device=device),
            metrics={
                name: torch.tensor(
                    [report[name] for report in reports], dtype=torch.float64, device=device
                )
                for name in self._metric_names
            },
            observations=observations,
            action_masks=masks,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the class, which is made from that of the model."""
        parameters = {
            field.alias or name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if name in self.model_fields_set
        }
        return _make, (self.model_class, self.mesa_roles, parameters)


def mesa_environment(
    model_class: type[mesa.Model], roles: Sequence[MesaRole] = ()
) -> type[MesaEnvironment]:
    """A class of environments of a class of Mesa models, with its constructor's parameters.

    Args:
        model_class: the class of models.
        roles: decisions that come from outside.

    Raises:
        UserError: the constructor takes no seed, or a parameter that no file can hold; two roles
            have one name.
    """
    return _environment_class(model_class, tuple(roles))


@functools.cache
def _environment_class(
    model_class: type[mesa.Model], roles: tuple[MesaRole, ...]
) -> type[MesaEnvironment]:
    """The class of `mesa_environment`: one for equal arguments, so that objects can be equal."""
    seed_parameter(model_class)
    names = [role.name for role in roles]
    if len({*names}) < len(names):
        message = f"{model_class.__name__}: two roles have one name: {names}"
        raise UserError(message, code="duplicate", path="roles")
    made = create_model(
        model_class.__name__,
        __base__=MesaEnvironment,
        __module__=model_class.__module__,
        __doc__=model_class.__doc__,
        **fields_of(model_class, dir(MesaEnvironment)),
    )
    made.model_class, made.mesa_roles = model_class, roles
    return made


def _make(
    model_class: type[mesa.Model], roles: tuple[MesaRole, ...], parameters: Mapping[str, Any]
) -> MesaEnvironment:
    """An environment that was pickled."""
    return mesa_environment(model_class, roles)(**parameters)
