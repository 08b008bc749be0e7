"""Scripted policies of `WeakToStrong`: the truth, and a threshold on visible features."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Discrete
from mores.envs.oversight.weak_to_strong import TOPIC, WeakToStrong

Weight = Annotated[float, Field(ge=-1e6, le=1e6)]


@dataclasses.dataclass(frozen=True)
class TrueLabelState:
    """Replicate of each world, which determines its task."""

    replicate: Int[Tensor, " world"]


class TrueLabel(Policy):
    """Knows the task: gives the true topic and the true label of every item."""

    environment: WeakToStrong = Field(
        default=WeakToStrong(), description="environment whose task it knows, with its parameters"
    )

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> TrueLabelState:
        """The replicates. Refuses roles that do not observe all features."""
        require_observation_parts("true_label", role, "features")
        size, needed = role.observation_space.size, self.environment.num_features
        if size != needed:
            raise UserError(
                f"true_label needs all {needed} features of an item; {role.name} observes {size}",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        return TrueLabelState(streams.replicate)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: TrueLabelState,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """The truth."""
        return ActionOutput(self._truth(phase, observation, state), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: TrueLabelState,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """Probability 1 of the truth."""
        truth = self._truth(phase, observation.flatten(1, 2), state)
        one_hot = torch.nn.functional.one_hot(truth, _num_options(phase)).to(observation.dtype)
        return one_hot.unflatten(1, observation.shape[1:3])

    def _truth(
        self, phase: Phase, items: Float[Tensor, "world item feature"], state: TrueLabelState
    ) -> Int[Tensor, "world item"]:
        """True topic or label of each item."""
        config = self.environment.task_config
        labels = config.label(config.tasks(state.replicate, items.device), items)
        return labels.topic if phase.name == TOPIC else labels.harmless.long()


class LinearLabel(Policy):
    """Calls an item harmless if a weighted sum of its visible features exceeds a threshold.

    The probability of that answer is 1 / (1 + exp(-s (w x - threshold))) with the sharpness s. Its
    topic is always 0.
    """

    weights: tuple[Weight, ...] = Field(
        default=(), description="weight of each visible feature, the first first; empty: all 1"
    )
    threshold: float = Field(default=0.0, ge=-1e6, le=1e6, description="threshold of the sum")
    sharpness: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="s, 1 / units of the sum: how sharply the probability rises; null: a step",
    )

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> None:
        """Refuse a role with another number of visible features."""
        require_observation_parts("linear_label", role, "features")
        size = role.observation_space.size
        if self.weights and len(self.weights) != size:
            raise UserError(
                f"linear_label has {len(self.weights)} weights; {role.name} observes {size} "
                "features",
                code="wrong_shape",
                path=f"policies.{role.name}.weights",
            )

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: None,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """A label drawn with its probability; with `search`, the likelier one."""
        excess = self._excess(observation)
        if phase.name == TOPIC:
            return ActionOutput(torch.zeros_like(excess, dtype=torch.int64), state)
        if self.sharpness is None or search:
            return ActionOutput((excess > 0).long(), state)
        u = streams.uniform("answer", observation.shape[1])[..., 0]
        return ActionOutput((u < _logistic(self.sharpness * excess)).long(), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: None,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """Probability of either label; probability 1 of topic 0."""
        excess = self._excess(observation)
        if phase.name == TOPIC:
            topic = torch.zeros_like(excess, dtype=torch.int64)
            return torch.nn.functional.one_hot(topic, _num_options(phase)).to(observation.dtype)
        if self.sharpness is None or search:
            harmless = (excess > 0).to(observation.dtype)
        else:
            harmless = _logistic(self.sharpness * excess)
        return torch.stack([1.0 - harmless, harmless], -1)

    def _excess(self, features: Float[Tensor, "*lead feature"]) -> Float[Tensor, "*lead"]:
        """Weighted sum of the features above the threshold."""
        if self.weights:
            features = features * features.new_tensor(self.weights)
        return total(features, -1) - self.threshold


def _num_options(phase: Phase) -> int:
    """Options of a phase, the same for all roles."""
    space = next(iter(phase.action_spaces.values()))
    assert isinstance(space, Discrete)
    return space.num_options


def _logistic(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), the same in every batch (torch's sigmoid is not)."""
    return 1.0 / (1.0 + torch.exp(-x))
