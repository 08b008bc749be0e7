"""TorchRL environment: the external agents of many worlds at once, without a Python loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from jaxtyping import Bool
from torch import Tensor

from mores.clients import gymnasium_spaces, resolve
from mores.clients.torchrl_groups import AgentGroups, GroupMapType
from mores.core.arguments import check_device, check_names
from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.people import Population
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.registry.specs import Spec
from mores.sim.action_masks import NumOptions
from mores.sim.simulator import ExternalTurn, Simulator

try:
    from tensordict import TensorDict, TensorDictBase
    from torchrl.data import Categorical, Composite, TensorSpec, Unbounded
    from torchrl.envs import EnvBase

    from mores.clients import torchrl_specs
except ImportError as error:
    raise UserError(
        f"TorchRL is not installed ({error}): pip install mores[rl]",
        code="not_installed",
        path="torchrl",
    ) from None


class TorchRLEnv(EnvBase):
    """External agents, in groups, in a multi-agent environment of batch size `[worlds]`.

    One step is one phase in which an external agent acts. A group, by default a role, has
    `observation`, `action` and `reward`, which lead with `[worlds, agents]`; `mask` (the agent acts
    in this phase, else its action is ignored); `projected` (the last action was out of range or
    illegal and was projected to a legal one); and for discrete actions `action_mask` (concatenated
    masks of a multi-discrete action). An episode ends for all agents of a world: `done`,
    `terminated` and `truncated` are at the root, `[worlds, 1]`, and with `group_done` in each group
    too, `[worlds, agents, 1]`. `group_map` holds the agents' names by group.

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
        group_map: names of the agents (`person_3`) of each group, or a
            `torchrl.envs.MarlGroupMapType`; default: a group per role. Agents of a group need
            equally long observations and the same action space.
        group_done: also write `done`, `terminated` and `truncated` of each group, as losses of
            TorchRL read them (`("agents", "done")`).
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
        group_map: Mapping[str, Sequence[str]] | GroupMapType | None = None,
        group_done: bool = False,
        **parameters: Any,
    ) -> None:
        worlds, device = Worlds.of(worlds), check_device(device)
        super().__init__(device=device, batch_size=torch.Size([len(worlds)]))
        people = resolve.resolve_population(population)
        self.environment = resolve.resolve_environment(environment, parameters, people, TorchRLEnv)
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
        self._groups = AgentGroups(agents, group_map, self.simulator.device)
        self.group_map = self._groups.names
        self.group_done = group_done
        self._num_options: dict[str, NumOptions] = {}  # of the groups with discrete actions
        for group in self.group_map:
            options = gymnasium_spaces.num_options(self._action_space(group))
            if options is not None:
                self._num_options[group] = options
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
        turn = self.simulator.step({role: self._action(tensordict, role) for role in acting})
        done = turn.terminated | turn.truncated
        self._at_start = torch.zeros_like(done)
        self._ended = done if self._ended is None else self._ended | done
        result = self._observation_tensordict(turn)
        ends = {"done": done, "terminated": turn.terminated, "truncated": turn.truncated}
        for group, names in self.group_map.items():
            reward = self._groups.of_group(group, self._of_external(turn.reward))
            result.set((group, "reward"), reward[..., None])
            if self.group_done:
                for name, end in ends.items():
                    result.set((group, name), end[:, None, None].repeat(1, len(names), 1))
        for name, end in ends.items():
            result.set(name, end[:, None].clone())
        return result

    def _action(self, tensordict: TensorDictBase, role: str) -> Tensor:
        """Actions of a role's external agents, `[world, agent]` or `[world, agent, size]`."""
        return self._groups.of_role(role, lambda group: tensordict.get((group, "action")))

    def _of_external(self, of_role: Mapping[str, Tensor]) -> Callable[[str], Tensor]:
        """Tensor of the external agents of a role, from that of all its agents."""
        return lambda role: of_role[role][:, self.simulator.external[role]]

    # --- observations -------------------------------------------------------------------------

    def _observation_tensordict(self, turn: ExternalTurn | None) -> TensorDict:
        """Entries of all groups; in worlds that just finished, the final observations."""
        groups: dict[str, Any] = {}
        for group, names in self.group_map.items():
            shape = (*self.batch_size, len(names))
            entries = {
                name: self._groups.of_group(group, of_role)
                for name, of_role in self._observation_entries(turn).items()
            }
            if group in self._num_options:
                mask = self._action_mask(group, turn)
                action_spec = self.full_action_spec[group, "action"]
                assert isinstance(action_spec, Categorical)
                action_spec.update_mask(mask)
                entries["action_mask"] = mask.clone()
            groups[group] = TensorDict(entries, batch_size=shape, device=self.device)
        if self.metric_names:
            groups["metrics"] = TensorDict(self._metrics(), batch_size=self.batch_size)
        return TensorDict(groups, batch_size=self.batch_size, device=self.device)

    def _observation_entries(self, turn: ExternalTurn | None) -> dict[str, Callable[[str], Tensor]]:
        """Functions of a role that return the entries of its external agents."""
        simulator = self.simulator

        def observation(role: str) -> Tensor:
            observation = simulator.observe(role)[:, simulator.external[role]]
            if turn is None or turn.final_observation is None:
                return observation
            done = (turn.terminated | turn.truncated)[:, None, None]
            final = turn.final_observation[role][:, simulator.external[role]]
            return torch.where(done, final, observation)

        def filled(role: str, value: bool) -> Tensor:
            shape = (*self.batch_size, len(simulator.external[role]))
            return torch.full(shape, value, device=self.device)

        def acts(role: str) -> Tensor:
            return filled(role, role in simulator.acting_roles)

        def projected(role: str) -> Tensor:
            flags = None if turn is None else turn.projected.get(role)
            return filled(role, False) if flags is None else flags

        return {"observation": observation, "mask": acts, "projected": projected}

    def _action_mask(
        self, group: str, turn: ExternalTurn | None
    ) -> Bool[Tensor, "world agent option"]:
        """Legal options of the agents of a group; in worlds that just finished, the final ones."""
        options, simulator = self._num_options[group], self.simulator

        def mask(role: str) -> Tensor:
            mask = simulator.action_mask(role, options)
            if turn is not None and turn.final_observation is not None:
                final = simulator.next_action_mask(role, turn.final_state, options)
                mask = torch.where((turn.terminated | turn.truncated)[:, None, None], final, mask)
            return mask[:, simulator.external[role]]

        return self._groups.of_group(group, mask)

    def _metrics(self) -> dict[str, Tensor]:
        return resolve.selected_metrics(self.simulator, self.simulator.state, self.metric_names)

    def _all_worlds(self) -> Bool[Tensor, " world"]:
        return torch.ones(self.batch_size, dtype=torch.bool, device=self.device)

    # --- specifications ------------------------------------------------------------------------

    def _make_specs(self) -> None:
        actions, observations, rewards, ends = {}, {}, {}, {}
        for group, names in self.group_map.items():
            shape = torch.Size((*self.batch_size, len(names)))
            entries: dict[str, TensorSpec] = {
                "observation": self._observation_spec(group, shape),
                "mask": torchrl_specs.bool_spec(shape, self.device),
                "projected": torchrl_specs.bool_spec(shape, self.device),
            }
            space = self._action_space(group)
            if group in self._num_options:
                entries["action_mask"] = torchrl_specs.mask_spec(space, shape, self.device)
            action = torchrl_specs.action_spec(space, shape, self.device)
            reward = Unbounded(torch.Size((*shape, 1)), device=self.device)
            observations[group] = Composite(entries, shape=shape, device=self.device)
            actions[group] = Composite({"action": action}, shape=shape, device=self.device)
            rewards[group] = Composite({"reward": reward}, shape=shape, device=self.device)
            if self.group_done:
                ends[group] = torchrl_specs.done_spec(shape, self.device)
        if self.metric_names:
            self.simulator.reset(0)  # shapes of metrics are known from a state only
            metrics = {
                name: Unbounded(metric.shape, device=self.device)
                for name, metric in self._metrics().items()
            }
            observations["metrics"] = Composite(metrics, shape=self.batch_size, device=self.device)
        done = torchrl_specs.done_spec(self.batch_size, self.device)
        for group, spec in ends.items():
            done[group] = spec
        self.observation_spec = Composite(observations, shape=self.batch_size, device=self.device)
        self.action_spec = Composite(actions, shape=self.batch_size, device=self.device)
        self.reward_spec = Composite(rewards, shape=self.batch_size, device=self.device)
        self.done_spec = done

    def _action_space(self, group: str) -> gymnasium_spaces.ActionSpace:
        """Action space of every agent of a group.

        Raises:
            UserError: the agents have different spaces.
        """
        roles = self._groups.roles(group)
        spaces = [gymnasium_spaces.action_space(self.environment, role) for role in roles]
        sizes = [self.simulator.roles[role].observation_space.size for role in roles]
        for role, space, size in zip(roles, spaces, sizes, strict=True):
            if space != spaces[0] or size != sizes[0]:
                raise UserError(
                    f"group_map.{group}: {roles[0]} observes {sizes[0]} numbers and acts in "
                    f"{spaces[0]}, {role} {size} and {space}: they need separate groups",
                    code="incompatible",
                    path=f"group_map.{group}",
                )
        return spaces[0]

    def _observation_spec(self, group: str, shape: torch.Size) -> TensorSpec:
        """Bounds of each agent of a group."""

        def bound(role: str, side: int) -> Tensor:
            limits = self.simulator.roles[role].observation_space.limits[side]
            return limits.expand(1, len(self.simulator.external[role]), -1).to(self.device)

        low, high = (
            self._groups.of_group(group, lambda role, side=side: bound(role, side))
            for side in (0, 1)
        )
        return torchrl_specs.box_spec(low, high, shape)
