"""Records observations, actions and rewards of agents by round, and their labelled dataset."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mores.core.arguments import check_integer, check_names
from mores.core.environment import Environment, Phase
from mores.core.random_streams import Worlds
from mores.sim.recorder import Recorder
from mores.sim.round_recorder import RoundRecorder

if TYPE_CHECKING:
    import xarray

QUANTITIES = ("action_masks", "actions", "observations", "rewards")


class AgentRecorder(Recorder):
    """Quantities of every agent in every round of the first worlds: memory grows with each.

    Args:
        environment: the environment.
        quantities: some of `QUANTITIES`.
        worlds: the simulated worlds.
        num_worlds: number of worlds to record, from the first on; `None`: all.
        rounds: limit of rounds of an episode.
        num_episodes: number of episodes.

    Raises:
        UserError: an unknown quantity, or a wrong number of worlds.
    """

    def __init__(
        self,
        environment: Environment[Any],
        quantities: Collection[str],
        worlds: Worlds,
        num_worlds: int | None,
        rounds: int,
        num_episodes: int = 1,
    ) -> None:
        self._quantities = frozenset(check_names("record", quantities, QUANTITIES))
        count = len(worlds)
        if num_worlds is not None:
            count = min(check_integer("record_worlds", num_worlds), count)
        self._worlds = worlds.take(slice(count))
        self._recorder = RoundRecorder(tuple(range(1, rounds + 1)), count, num_episodes)
        self._phases = {
            role.name: [p.name for p in environment.phases if role.name in p.action_spaces]
            for role in environment.roles
        }
        self._roles: dict[str, str] = {}  # by name of a quantity
        self._round = 1
        self._reward: dict[str, Tensor] = {}

    def start_episode(self, episode: int) -> None:
        """Record the following rounds as those of an episode, by its index."""
        self._recorder = self._recorder.at(0, episode)
        self._round, self._reward = 1, {}

    def record_action(
        self,
        role: str,
        phase: Phase,
        observation: Tensor,
        action: Tensor,
        action_mask: Tensor | None = None,
    ) -> None:
        """See `Recorder`."""
        self._write("observations", role, phase.name, observation)
        self._write("actions", role, phase.name, action)
        if action_mask is not None:
            self._write("action_masks", role, phase.name, action_mask)

    def record_reward(self, role: str, reward: Tensor) -> None:
        """See `Recorder`. Rewards of a round add up over its phases."""
        known = self._reward.get(role)
        self._reward[role] = reward if known is None else known + reward

    def record_round(self, done: Tensor, finished: Tensor) -> None:
        """See `Recorder`."""
        for role, reward in self._reward.items():
            self._write("rewards", role, "", reward)
        self._allocate("active", finished)
        self._recorder.write(self._round, {"active": ~finished[: len(self._worlds)]})
        self._round, self._reward = self._round + 1, {}

    def _write(self, quantity: str, role: str, phase: str, value: Tensor) -> None:
        if quantity not in self._quantities:
            return
        name = f"{quantity}_{role}"
        if phase and len(self._phases[role]) > 1:
            name = f"{name}_{phase}"
        self._roles[name] = role
        self._allocate(name, value)
        self._recorder.write(self._round, {name: value[: len(self._worlds)]})

    def _allocate(self, name: str, value: Tensor) -> None:
        """Allocate a quantity at its first write; after an episode's end it is NaN, or 0."""
        recorder = self._recorder
        if name not in recorder.tensors:
            lead = (len(self._worlds), recorder.num_episodes, len(recorder.rounds))
            fill = torch.nan if value.is_floating_point() else 0
            shape = (*lead, *value.shape[1:])
            recorder.tensors[name] = torch.full(shape, fill, dtype=value.dtype)

    def agent_dataset(self) -> xarray.Dataset:
        """The records over `world`, `episode` and `round`, from 1.

        `actions_ROLE`, `observations_ROLE` and, where options may be illegal, `action_masks_ROLE`,
        or `actions_ROLE_PHASE` ... of a role that acts in several phases; `rewards_ROLE`. They have
        the dimension `ROLE_agent` and, if they are vectors, `NAME_component`. `active`: rounds of a
        world before its episode ended.
        """
        import xarray  # slow to import

        coordinates = self._recorder.dataset(self._worlds).coords
        data = {}
        for name, values in self._recorder.tensors.items():
            dimensions = ["world", "episode", "round"]
            if name in self._roles:
                dimensions += [f"{self._roles[name]}_agent", f"{name}_component"]
            data[name] = (dimensions[: values.ndim], values.numpy())
        return xarray.Dataset(data, coordinates)


def with_records(metrics: xarray.Dataset, recorder: AgentRecorder) -> xarray.Dataset:
    """Metrics and records in one dataset; worlds that were not recorded are NaN and not active."""
    records = recorder.agent_dataset()
    padding = {"world": (0, metrics.sizes["world"] - records.sizes["world"])}
    records = records.drop_vars(["replicate", "world"])
    active = records["active"].astype(int).pad(padding, constant_values=0).astype(bool)
    others = records.drop_vars("active")
    padded = others.pad(padding) if padding["world"][1] else others
    return metrics.assign(padded.assign(active=active).variables)
