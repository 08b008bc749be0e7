"""Records what learners report about their updates, by episode, and its labelled dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.learner import Learner
from mores.core.random_streams import Worlds
from mores.sim.simulator import Simulator
from mores.sim.training_status import checked_learning_metrics

if TYPE_CHECKING:
    import xarray


class LearningRecorder:
    """`Learner.learning_metrics` of the learning roles of a simulator, after every episode.

    Args:
        worlds: the worlds.
        num_episodes: number of episodes.

    Attributes:
        replicates: numbers of the replicates, in order.
        tensors: what was recorded, by `ROLE.NAME`: `[episode, replicate, model]`; NaN in episodes
            without update.
    """

    def __init__(self, worlds: Worlds, num_episodes: int = 1) -> None:
        self.replicates: list[int] = worlds.replicate.unique().tolist()
        self.num_episodes = num_episodes
        self.tensors: dict[str, Tensor] = {}

    def record(
        self, episode: int, simulator: Simulator
    ) -> dict[str, Float[Tensor, "replicate model"]]:
        """Record an episode that has ended, and return its numbers by `ROLE.NAME`."""
        recorded, num_replicates = {}, len(self.replicates)
        for role in simulator.learning_roles:
            learner, state = simulator.policies[role], simulator.policy_states[role]
            assert isinstance(learner, Learner)
            values = checked_learning_metrics(role, learner, state, num_replicates)
            for name, value in values.items():
                full_name = f"{role}.{name}"
                value = value.detach().to("cpu", torch.float32).unflatten(0, (num_replicates, -1))
                self._allocated(full_name, value)[episode] = value
                recorded[full_name] = value
        return recorded

    def _allocated(self, name: str, value: Tensor) -> Tensor:
        if name not in self.tensors:
            self.tensors[name] = torch.full((self.num_episodes, *value.shape), torch.nan)
        return self.tensors[name]

    def dataset(self) -> xarray.Dataset:
        """The recorded numbers over `replicate` and `episode`.

        A learner with several models in a replicate, such as one an agent, has a further dimension
        `ROLE_model`; a member of a `per_agent` policy `ROLE.MEMBER_model`.
        """
        import xarray  # slow to import

        data = {}
        for name, values in self.tensors.items():
            by_replicate = values.transpose(0, 1)  # [replicate, episode, model]
            owner = name.rpartition("/")[0] or name.partition(".")[0]
            dimensions = ["replicate", "episode", f"{owner}_model"]
            if by_replicate.shape[2] == 1:
                by_replicate, dimensions = by_replicate[..., 0], dimensions[:2]
            data[name] = (dimensions, by_replicate.numpy())
        coordinates = {"replicate": self.replicates, "episode": range(self.num_episodes)}
        return xarray.Dataset(data, coordinates)
