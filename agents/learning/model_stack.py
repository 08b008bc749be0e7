"""Interface of stacked models: architectures without tensors, and what they are evaluated on.

Learners, their states and updates know this interface only: `StackedModel` implements it with a
network and heads, `mores.agents.language.language_stack` with a language model and adapters.
Parameters are a dict of tensors that lead with the model dimension, made by `init_parameters` and
passed to every method.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.action_distributions import ActionDistribution
from mores.agents.learning.batch import ModelOutput
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Space

Parameters = Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True)
class ModelInputs:
    """Inputs of stacked models: sequences of actions in one phase.

    Attributes:
        phase: phase of the actions.
        observation: observation before each action.
        action: actions, in units of the action distribution.
        action_mask: legal options.
        episode_start: steps that begin an episode; `None`: no sample contains such a step.
        recurrent_state: recurrent state before each sample; `None`: zeros.
        valid: steps that count for the embedding of a sample; `None`: all.
    """

    phase: str
    observation: Float[Tensor, "model sample step size"]
    action: Tensor
    action_mask: Bool[Tensor, "model sample step option"] | None = None
    episode_start: Bool[Tensor, "model sample step"] | None = None
    recurrent_state: Float[Tensor, "model sample recurrent"] | None = None
    valid: Bool[Tensor, "model sample step"] | None = None

    def masked_mean(
        self, x: Float[Tensor, "model sample step size"]
    ) -> Float[Tensor, "model sample size"]:
        """Mean over the valid steps of each sample."""
        if self.valid is None:
            return x.mean(2)
        counts = self.valid.sum(-1, keepdim=True).clamp(min=1)
        return torch.where(self.valid[..., None], x, 0.0).sum(2) / counts


@dataclasses.dataclass(frozen=True)
class ModelStack(ABC):
    """Architecture of a stack of models.

    Attributes:
        encoder: what computes features of an observation; compared where training continues.
        observation_size: length of an observation.
        action_spaces: action space of each phase.
    """

    encoder: Any
    observation_size: int
    action_spaces: Mapping[str, Space]

    @functools.cached_property
    def action_distributions(self) -> Mapping[str, ActionDistribution]:
        """Action distribution of each phase."""
        return {phase: ActionDistribution(space) for phase, space in self.action_spaces.items()}

    @property
    def recurrent_state_size(self) -> int:
        """Length of a recurrent state, over all networks and phases; 0: there is none."""
        return 0

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Number of parameters of a model, without those of negligible number."""

    @abstractmethod
    def init_parameters(
        self, streams: RandomStreams, models_per_replicate: int
    ) -> dict[str, Tensor]:
        """Initial parameters of `models_per_replicate` models in each replicate."""

    @abstractmethod
    def forward_step(
        self,
        parameters: Parameters,
        phase: str,
        observation: Float[Tensor, "model sample size"],
        recurrent_state: Float[Tensor, "model sample recurrent"],
    ) -> tuple[Float[Tensor, "model sample raw"], Float[Tensor, "model sample"] | None, Tensor]:
        """Raw output of the action head, the value (`None` without head), next recurrent state."""

    @abstractmethod
    def evaluate_actions(self, parameters: Parameters, inputs: ModelInputs) -> ModelOutput:
        """Outputs of the models for sequences of actions."""

    @abstractmethod
    def hidden_features(
        self, parameters: Parameters, observation: Float[Tensor, "model sample size"]
    ) -> Float[Tensor, "model sample feature"]:
        """Input of the action heads, of models without a recurrent state."""

    @abstractmethod
    def predict_values(
        self,
        parameters: Parameters,
        observation: Float[Tensor, "model sample size"],
        recurrent_state: Float[Tensor, "model sample recurrent"],
    ) -> Float[Tensor, "model sample"]:
        """Value of an observation in the first phase, without an action."""

    def log_std(self, parameters: Parameters, phase: str) -> Tensor | None:
        """Log standard deviation in a box, `[model, 1, size]`; `None` for discrete spaces."""
        return None

    def initial_recurrent_state(
        self, num_models: int, num_samples: int, device: torch.device
    ) -> Tensor:
        """Recurrent state at the start of an episode: zeros, `[model, sample, recurrent]`."""
        return torch.zeros(num_models, num_samples, self.recurrent_state_size, device=device)
