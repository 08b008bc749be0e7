"""Records what learners report about their updates, by episode, and its labelled dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.learner import Learner
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.sim.simulator import Simulator
from mores.sim.training_status import checked_learning_metrics

if TYPE_CHECKING:
    import xarray


def learning_metrics(
    learners: Mapping[str, Policy], policy_states: Mapping[str, Any], num_replicates: int
) -> dict[str, Float[Tensor, "replicate model"]]:
    """`Learner.learning_metrics` of learners by `ROLE.NAME`, on the CPU.

    Args:
        learners: by role.
        policy_states: by role.
        num_replicates: number of replicates.

    Raises:
        UserError: a learner returns something else.
    """
    metrics = {}
    for role, learner in learners.items():
        assert isinstance(learner, Learner)
        values = checked_learning_metrics(role, learner, policy_states[role], num_replicates)
        for name, value in values.items():
            on_cpu = value.detach().to("cpu", torch.float32)
            metrics[f"{role}.{name}"] = on_cpu.unflatten(0, (num_replicates, -1))
    return metrics


class LearningRecorder:
    """`Learner.learning_metrics` of the learning roles of a simulator, after every episode.

    Args:
        worlds: the worlds.
        num_episodes: number of episodes.

    Attributes:
        replicates: numbers of the replicates, in order; of each draw of uncertain parameters.
        tensors: what was recorded, by `ROLE.NAME`: `[episode, replicate, model]`; NaN in episodes
            without update.
    """

    def __init__(self, worlds: Worlds, num_episodes: int = 1) -> None:
        first = torch.zeros_like(worlds.repetition.unique())
        first[worlds.repetition] = worlds.replicate
        self.replicates: list[int] = first.tolist()
        self.num_episodes = num_episodes
        self.tensors: dict[str, Tensor] = {}

    def record(
        self, episode: int, simulator: Simulator
    ) -> dict[str, Float[Tensor, "replicate model"]]:
        """Record an episode that has ended, and return its numbers by `ROLE.NAME`."""
        learners = {role: simulator.policies[role] for role in simulator.learning_roles}
        num_replicates = len(self.replicates)
        recorded = learning_metrics(learners, simulator.policy_states, num_replicates)
        for name, value in recorded.items():
            if name not in self.tensors:
                self.tensors[name] = torch.full((self.num_episodes, *value.shape), torch.nan)
            self.tensors[name][episode] = value
        return recorded

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
