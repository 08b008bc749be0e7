"""TorchRL environment: the external agents of many worlds at once, without a Python loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from jaxtyping import Bool
from torch import Tensor

from mores.clients import gymnasium_spaces, resolve
from mores.core.arguments import check_names
from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.people import Population
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.core.spaces import Box
from mores.registry.specs import Spec
from mores.sim.action_masks import NumOptions
from mores.sim.simulator import ExternalTurn, Simulator

try:
    from tensordict import TensorDict, TensorDictBase
    from torchrl.data import (
        Bounded,
        Categorical,
        Composite,
        MultiCategorical,
        TensorSpec,
        Unbounded,
    )
    from torchrl.envs import EnvBase
except ImportError as error:
    raise UserError(
        f"TorchRL is not installed ({error}): pip install mores[rl]",
        code="not_installed",
        path="torchrl",
    ) from None


class TorchRLEnv(EnvBase):
    """External agents, grouped by role, in a multi-agent environment of batch size `[worlds]`.

    One step is one phase in which an external agent acts. The group of a role has `observation`,
    `action` and `reward`, which lead with `[worlds, agents]`; `mask` (the group acts in this phase,
    else its action is ignored); `projected` (the last action was out of range or illegal and was
    projected to a legal one); and for discrete actions `action_mask` (concatenated masks of a
    multi-discrete action). `done`, `terminated` and `truncated` are at the root: an episode ends
    for all agents of a world.

    All worlds are in the same phase. A finished world does not change until TorchRL resets it, with
    its entry of `_reset`. Any world can be reset alone before the first turn of a round.

    Args:
        environment: name of an environment (`mores list`), or an environment.
        worlds: number of worlds, or numbers of their replicates.
        external: roles (`person`) and agents (`person_3`) controlled by the client; default: all
            roles without an entry in `policies`.
        policies: policies of the other agents by role: `{"person": {"kind": "random"}}`, or
            objects; default: the environment's.
        rounds: maximum length of an episode (truncation).
        population: source of the people: `{"kind": "anes96"}`; default: the environment's.
        metrics: names of metrics under the key `metrics`. Metrics can reveal latent quantities.
        device: device of the tensors.
        **parameters: of an environment given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        worlds: int | Sequence[int] | Worlds = 1,
        external: Sequence[str] | None = None,
        policies: Mapping[str, Policy | Spec] | None = None,
        rounds: int = 100,
        population: Population | Spec | None = None,
        metrics: Sequence[str] = (),
        device: torch.device | str = "cpu",
        **parameters: Any,
    ) -> None:
        worlds = Worlds.of(worlds)
        super().__init__(device=device, batch_size=torch.Size([len(worlds)]))
        people = resolve.resolve_population(population)
        self.environment = resolve.resolve_environment(environment, parameters, people)
        self.metric_names = tuple(check_names("metrics", metrics))
        agents = resolve.resolve_external_agents(self.environment, external, policies)
        self.simulator = Simulator(
            self.environment,
            resolve.resolve_policies(self.environment, policies, agents),
            agents,
            worlds,
            rounds,
            population=people,
            device=device,
        )
        self._num_options: dict[str, NumOptions] = {}
        for role in agents:
            space = gymnasium_spaces.action_space(self.environment, role)
            if (options := gymnasium_spaces.num_options(space)) is not None:
                self._num_options[role] = options
        self._generator: np.random.Generator | None = None
        self._at_start: Bool[Tensor, " world"] | None = None  # worlds before their first step
        self._ended: Bool[Tensor, " world"] | None = None  # finished worlds
        self._make_specs()

    # --- methods that TorchRL calls -----------------------------------------------------------

    def _set_seed(self, seed: int | None) -> None:
        self._generator, _ = seeding.np_random(seed)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDictBase:
        given = None if tensordict is None else tensordict.get("_reset", None)
        requested = self._all_worlds() if given is None else given.reshape(-1)
        at_start, ended = self._at_start, self._ended
        if at_start is None or ended is None:
            at_start = ended = torch.zeros_like(requested)
        pending = requested & ~at_start
        if given is None or (bool(requested.all()) and bool((pending & ~ended).any())):
            if self._generator is None:
                self._set_seed(None)
            assert self._generator is not None
            self.simulator.reset(int(self._generator.integers(2**63 - 1)))
        elif bool(pending.any()):
            self.simulator.reset_worlds(pending)
        self._at_start, self._ended = at_start | requested, ended & ~requested
        return self._observation_tensordict(None)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        acting = self.simulator.acting_roles
        turn = self.simulator.step({role: tensordict.get((role, "action")) for role in acting})
        done = turn.terminated | turn.truncated
        self._at_start = torch.zeros_like(done)
        self._ended = done if self._ended is None else self._ended | done
        result = self._observation_tensordict(turn)
        for role, indices in self.simulator.external.items():
            result.set((role, "reward"), turn.reward[role][:, indices, None])
        result.set("done", done[:, None].clone())
        result.set("terminated", turn.terminated[:, None].clone())
        result.set("truncated", turn.truncated[:, None].clone())
        return result

    # --- observations -------------------------------------------------------------------------

    def _observation_tensordict(self, turn: ExternalTurn | None) -> TensorDict:
        """Entries of all groups; in worlds that just finished, the final observations."""
        groups: dict[str, Any] = {}
        for role, indices in self.simulator.external.items():
            observation = self.simulator.observe(role)[:, indices]
            if turn is not None and turn.final_observation is not None:
                done = (turn.terminated | turn.truncated)[:, None, None]
                final = turn.final_observation[role][:, indices]
                observation = torch.where(done, final, observation)
            shape = (*self.batch_size, len(indices))
            false = torch.zeros(shape, dtype=torch.bool, device=self.device)
            group = {
                "observation": observation,
                "mask": false | (role in self.simulator.acting_roles),
                "projected": false if turn is None else turn.projected.get(role, false),
            }
            if role in self._num_options:
                mask = self.simulator.action_mask(role, self._num_options[role])[:, indices]
                action_spec = self.full_action_spec[role, "action"]
                assert isinstance(action_spec, Categorical)
                action_spec.update_mask(mask)
                group["action_mask"] = mask.clone()
            groups[role] = TensorDict(group, batch_size=shape, device=self.device)
        if self.metric_names:
            groups["metrics"] = TensorDict(self._metrics(), batch_size=self.batch_size)
        return TensorDict(groups, batch_size=self.batch_size, device=self.device)

    def _metrics(self) -> dict[str, Tensor]:
        return resolve.selected_metrics(self.simulator, self.simulator.state, self.metric_names)

    def _all_worlds(self) -> Bool[Tensor, " world"]:
        return torch.ones(self.batch_size, dtype=torch.bool, device=self.device)

    # --- specifications ------------------------------------------------------------------------

    def _make_specs(self) -> None:
        actions, observations, rewards = {}, {}, {}
        for role, indices in self.simulator.external.items():
            shape = torch.Size((*self.batch_size, len(indices)))
            box = self.simulator.roles[role].observation_space
            group: dict[str, TensorSpec] = {
                "observation": self._box_spec(box, shape),
                "mask": self._bool_spec(shape),
                "projected": self._bool_spec(shape),
            }
            if role in self._num_options:
                action: TensorSpec = self._discrete_spec(self._num_options[role], shape)
                length = action.to_one_hot_spec().shape[-1]
                group["action_mask"] = self._bool_spec(torch.Size((*shape, length)))
            else:
                spaces = (phase.action_spaces for phase in self.environment.phases)
                space = next(space[role] for space in spaces if role in space)
                assert isinstance(space, Box)
                action = self._box_spec(space, shape)
            reward = Unbounded(torch.Size((*shape, 1)), device=self.device)
            observations[role] = Composite(group, shape=shape, device=self.device)
            actions[role] = Composite({"action": action}, shape=shape, device=self.device)
            rewards[role] = Composite({"reward": reward}, shape=shape, device=self.device)
        if self.metric_names:
            self.simulator.reset(0)  # shapes of metrics are known from a state only
            metrics = {
                name: Unbounded(metric.shape, device=self.device)
                for name, metric in self._metrics().items()
            }
            observations["metrics"] = Composite(metrics, shape=self.batch_size, device=self.device)
        end_shape = torch.Size((*self.batch_size, 1))
        done = {name: self._bool_spec(end_shape) for name in ("done", "terminated", "truncated")}
        self.observation_spec = Composite(observations, shape=self.batch_size, device=self.device)
        self.action_spec = Composite(actions, shape=self.batch_size, device=self.device)
        self.reward_spec = Composite(rewards, shape=self.batch_size, device=self.device)
        self.done_spec = Composite(done, shape=self.batch_size, device=self.device)

    def _bool_spec(self, shape: torch.Size) -> Categorical:
        return Categorical(2, shape=shape, dtype=torch.bool, device=self.device)

    def _discrete_spec(self, num_options: NumOptions, leading: torch.Size) -> Categorical:
        if isinstance(num_options, int):
            return Categorical(num_options, leading, self.device, torch.int64)
        shape = torch.Size((*leading, len(num_options)))
        return MultiCategorical(num_options, shape, self.device, torch.int64)

    def _box_spec(self, box: Box, leading: torch.Size) -> TensorSpec:
        shape = torch.Size((*leading, box.size))
        low, high = (torch.tensor(bound).expand(shape) for bound in (box.low, box.high))
        if not bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
            return Unbounded(
                shape, device=self.device
            )  # a half-bounded box cannot be sampled uniformly
        return Bounded(low, high, shape, device=self.device, dtype=torch.float32)
