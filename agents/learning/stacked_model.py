"""Architecture of stacked models: a network, and heads for actions, value and scores.

A `StackedModel` has one action head for each phase in which the role acts, and optionally a value
head and heads that score whole samples. It holds no tensors: parameters are a dict of tensors that
lead with the model dimension, made by `init_parameters` and passed to every method.

A recurrent network has a separate state for each phase, computed from earlier observations of that
phase only, so the outputs of one phase can be evaluated later without the others.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.action_distributions import ActionLogProbs
from mores.agents.learning.batch import ModelOutput
from mores.agents.learning.model_stack import ModelInputs, ModelStack
from mores.agents.learning.networks.layers import (
    LinearSpec,
    Parameters,
    init_linear_parameters,
    linear,
)
from mores.agents.learning.networks.network import Network
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Space


@dataclasses.dataclass(frozen=True)
class StackedModel(ModelStack):
    """Architecture of a stack of models.

    Attributes:
        encoder: network that encodes an observation.
        observation_size: length of an observation.
        action_spaces: action space of each phase.
        has_value_head: whether a second network of the same kind predicts the return.
        num_scores: number of scores of a whole sample (a reward model); 0: none.
        init_std: initial standard deviation in boxes, in half widths.
    """

    encoder: Network
    observation_size: int
    action_spaces: Mapping[str, Space]
    has_value_head: bool = False
    num_scores: int = 0
    init_std: float = 0.5

    @property
    def recurrent_state_size(self) -> int:
        """Length of a recurrent state, over all networks and phases."""
        return self._phase_state_size * len(self.action_spaces)

    @functools.cached_property
    def _phase_state_size(self) -> int:
        """Length of the recurrent state of one phase."""
        return self.encoder.recurrent_state_size(self.observation_size) * (
            2 if self.has_value_head else 1
        )

    @functools.cached_property
    def layers(self) -> Mapping[str, LinearSpec]:
        """Layers of a model, by name. The names address random streams."""
        width = self.encoder.features_dim(self.observation_size)
        layers = dict(self.encoder.layers("policy", self.observation_size))
        for phase, distribution in self.action_distributions.items():
            layers[f"act.{phase}"] = LinearSpec(width, distribution.dist_inputs_size, 0.01)
        if self.has_value_head:
            layers |= self.encoder.layers("critic", self.observation_size)
            layers["value"] = LinearSpec(width, 1, 1.0)
        if self.num_scores:
            layers["score"] = LinearSpec(width, self.num_scores, 1.0)
        return layers

    @property
    def num_parameters(self) -> int:
        """Number of parameters of a model, without those of negligible number."""
        in_layers = sum((n.in_features + n.bias) * n.out_features for n in self.layers.values())
        other = self.encoder.num_other_parameters(self.observation_size)
        return in_layers + (1 + self.has_value_head) * other

    def init_parameters(
        self, streams: RandomStreams, models_per_replicate: int
    ) -> dict[str, Tensor]:
        """Initial parameters of `models_per_replicate` models in each replicate."""
        num_models = streams.num_worlds * models_per_replicate
        parameters = init_linear_parameters(self.layers, streams, models_per_replicate)
        for prefix in ("policy", "critic") if self.has_value_head else ("policy",):
            parameters |= self.encoder.init_other_parameters(
                prefix, self.observation_size, streams, models_per_replicate
            )
        for phase, space in self.action_spaces.items():
            if isinstance(space, Box):
                std = torch.full((num_models, 1, space.size), self.init_std, device=streams.device)
                parameters[f"act.{phase}.log_std"] = std.log()
        return parameters

    def forward_step(
        self,
        parameters: Parameters,
        phase: str,
        observation: Float[Tensor, "model sample size"],
        recurrent_state: Float[Tensor, "model sample recurrent"],
    ) -> tuple[Float[Tensor, "model sample raw"], Float[Tensor, "model sample"] | None, Tensor]:
        """Raw output of the action head, the value (`None` without head), next recurrent state."""
        actor, critic = self._split_recurrent_state(recurrent_state, phase)
        features, actor = self.encoder.forward_step(parameters, "policy", observation, actor)
        raw = linear(parameters, f"act.{phase}", features)
        value = None
        if self.has_value_head:
            features, critic = self.encoder.forward_step(parameters, "critic", observation, critic)
            value = linear(parameters, "value", features)[..., 0]
        return raw, value, self._merge_recurrent_state(recurrent_state, phase, actor, critic)

    def hidden_features(
        self, parameters: Parameters, observation: Float[Tensor, "model sample size"]
    ) -> Float[Tensor, "model sample feature"]:
        """Input of the action heads, of networks without a recurrent state."""
        return self.encoder.forward_step(parameters, "policy", observation, observation[..., :0])[0]

    def predict_values(
        self,
        parameters: Parameters,
        observation: Float[Tensor, "model sample size"],
        recurrent_state: Float[Tensor, "model sample recurrent"],
    ) -> Float[Tensor, "model sample"]:
        """Value of an observation in the first phase, without an action.

        Evaluated as a sequence, which has no limit: the observation may follow an episode's last.
        """
        _, critic = self._split_recurrent_state(recurrent_state, next(iter(self.action_spaces)))
        features = self.encoder.forward_sequence(
            parameters, "critic", observation[:, :, None], None, critic
        )[:, :, 0]
        return linear(parameters, "value", features)[..., 0]

    def log_std(self, parameters: Parameters, phase: str) -> Tensor | None:
        """Log standard deviation in a box, `[model, 1, size]`; `None` for discrete spaces."""
        return parameters.get(f"act.{phase}.log_std")

    def evaluate_actions(self, parameters: Parameters, inputs: ModelInputs) -> ModelOutput:
        """Outputs of the models for sequences of actions."""
        actor = critic = None
        if inputs.recurrent_state is not None:
            actor, critic = self._split_recurrent_state(inputs.recurrent_state, inputs.phase)
        lead = inputs.observation.shape[1:3]
        features = self._features(parameters, "policy", inputs, actor)
        actions = self._action_log_probs(parameters, inputs, features)
        logits = None if actions.logits is None else actions.logits.unflatten(1, lead)
        value = score = embedding = None
        if self.has_value_head:
            critic_features = self._features(parameters, "critic", inputs, critic)
            value = linear(parameters, "value", critic_features).view(-1, *lead)
        if self.num_scores:
            embedding = inputs.masked_mean(features.unflatten(1, lead))
            score = linear(parameters, "score", embedding)
        return ModelOutput(
            actions.logp.unflatten(1, lead),
            logits,
            actions.entropy.unflatten(1, lead),
            value,
            score,
            embedding,
        )

    def _features(
        self, parameters: Parameters, prefix: str, inputs: ModelInputs, state: Tensor | None
    ) -> Float[Tensor, "model row width"]:
        """Features of all steps of all samples."""
        if not self._phase_state_size:
            rows = inputs.observation.flatten(1, 2)
            return self.encoder.forward_step(parameters, prefix, rows, rows[..., :0])[0]
        return self.encoder.forward_sequence(
            parameters, prefix, inputs.observation, inputs.episode_start, state
        ).flatten(1, 2)

    def _action_log_probs(
        self, parameters: Parameters, inputs: ModelInputs, features: Tensor
    ) -> ActionLogProbs:
        """Log-probabilities of all steps of all samples, `[model, row]`."""
        mask = inputs.action_mask
        return self.action_distributions[inputs.phase].log_probs(
            linear(parameters, f"act.{inputs.phase}", features),
            inputs.action.flatten(1, 2),
            None if mask is None else mask.flatten(1, 2),
            self.log_std(parameters, inputs.phase),
        )

    def _split_recurrent_state(self, recurrent_state: Tensor, phase: str) -> tuple[Tensor, Tensor]:
        """Recurrent states of the policy's and the critic's network in a phase."""
        first = self._phase_state_size * list(self.action_spaces).index(phase)
        middle = first + self.encoder.recurrent_state_size(self.observation_size)
        last = first + self._phase_state_size
        return recurrent_state[..., first:middle], recurrent_state[..., middle:last]

    def _merge_recurrent_state(
        self, recurrent_state: Tensor, phase: str, actor_state: Tensor, critic_state: Tensor
    ) -> Tensor:
        """The recurrent state with new states of a phase."""
        if not self._phase_state_size:
            return recurrent_state
        first = self._phase_state_size * list(self.action_spaces).index(phase)
        last = first + self._phase_state_size
        before, after = recurrent_state[..., :first], recurrent_state[..., last:]
        return torch.cat([before, actor_state, critic_state, after], -1)
