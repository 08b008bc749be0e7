"""Many policies of one make, learning side by side: what they see, what they may do, who they are.

A `StackedModel` is the make: a body, a head for every phase in which the role acts, a value head, heads
that score whole answers. It holds no numbers: parameters are a dict of tensors that lead with the
policy, made by `first` and handed to everything else.

A body that remembers does so phase by phase: in each it knows what it saw in that phase before, so
that what a phase says can be asked about later without the others.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.action_distributions import ActionDistribution, ActionLogProbs
from mores.agents.learning.batch import ModelOutput
from mores.agents.learning.networks.encoders import Encoder
from mores.agents.learning.networks.layers import (
    LinearSpec,
    Parameters,
    init_linear_parameters,
    linear,
)
from mores.core.environment import Box, Space
from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class ModelInputs:
    """What a stack is asked about: stretches of acts in one phase.

    Attributes:
        phase: in which they act.
        observation: sights before each act.
        action: what was done, in units of the head.
        action_mask: open options.
        episode_start: steps that begin an episode; `None`: each stretch is within one.
        recurrent_state: what was remembered before each stretch; `None`: nothing.
        valid: steps that count where a stretch is summed up; `None`: all.
    """

    phase: str
    observation: Float[Tensor, "policy sample step size"]
    action: Tensor
    action_mask: Bool[Tensor, "policy sample step option"] | None = None
    episode_start: Bool[Tensor, "policy sample step"] | None = None
    recurrent_state: Float[Tensor, "policy sample memory"] | None = None
    valid: Bool[Tensor, "policy sample step"] | None = None

    def masked_mean(
        self, x: Float[Tensor, "policy sample step size"]
    ) -> Float[Tensor, "policy sample size"]:
        """Mean over the real steps of each stretch."""
        if self.valid is None:
            return x.mean(2)
        counts = self.valid.sum(-1, keepdim=True).clamp(min=1)
        return torch.where(self.valid[..., None], x, 0.0).sum(2) / counts


@dataclasses.dataclass(frozen=True)
class StackedModel:
    """A make of policies.

    Attributes:
        encoder: what is made of a sight.
        observation_size: length of a sight.
        action_spaces: what may be done, by phase.
        has_value_head: whether a second body of the same kind says what reward is to be expected.
        num_scores: how many numbers a whole answer is scored by (a reward model); 0: none.
        init_std: standard deviation of a box's numbers at first, in half widths.
    """

    encoder: Encoder
    observation_size: int
    action_spaces: Mapping[str, Space]
    has_value_head: bool = False
    num_scores: int = 0
    init_std: float = 0.5

    @functools.cached_property
    def action_distributions(self) -> Mapping[str, ActionDistribution]:
        """How the raw output of each phase is read."""
        return {phase: ActionDistribution(space) for phase, space in self.action_spaces.items()}

    @property
    def recurrent_state_size(self) -> int:
        """How many numbers a sample remembers of its episode, of all bodies in all phases."""
        return self._phase_state_size * len(self.action_spaces)

    @property
    def _phase_state_size(self) -> int:
        """The same in one phase."""
        return self.encoder.recurrent_state_size(self.observation_size) * (
            2 if self.has_value_head else 1
        )

    @functools.cached_property
    def layers(self) -> Mapping[str, LinearSpec]:
        """All layers of a policy, by name."""
        width = self.encoder.features_dim or self.observation_size
        layers = dict(self.encoder.layers("policy", self.observation_size))
        for phase, head in self.action_distributions.items():
            layers[f"act.{phase}"] = LinearSpec(width, head.dist_inputs_size, 0.01)
        if self.has_value_head:
            layers |= self.encoder.layers("critic", self.observation_size)
            layers["value"] = LinearSpec(width, 1, 1.0)
        if self.num_scores:
            layers["score"] = LinearSpec(width, self.num_scores, 1.0)
        return layers

    @property
    def num_parameters(self) -> int:
        """How many parameters a policy has in its layers."""
        return sum((one.in_features + one.bias) * one.out_features for one in self.layers.values())

    def init_parameters(
        self, streams: RandomStreams, models_per_replicate: int
    ) -> dict[str, Tensor]:
        """Parameters to begin with, of `models_per_replicate` policies a replicate; see `init_linear_parameters`."""
        policies = streams.num_worlds * models_per_replicate
        made = init_linear_parameters(self.layers, streams, models_per_replicate)
        for prefix in ("policy", "critic") if self.has_value_head else ("policy",):
            others = self.encoder.extra_parameters(prefix, policies)
            made |= {name: tensor.to(streams.device) for name, tensor in others.items()}
        for phase, space in self.action_spaces.items():
            if isinstance(space, Box):
                std = torch.full((policies, 1, space.size), self.init_std, device=streams.device)
                made[f"act.{phase}.log_std"] = std.log()
        return made

    def initial_recurrent_state(
        self, num_models: int, num_samples: int, device: torch.device
    ) -> Tensor:
        """What is remembered at an episode's beginning: nothing, `[policy, sample, memory]`."""
        return torch.zeros(num_models, num_samples, self.recurrent_state_size, device=device)

    def forward_step(
        self,
        parameters: Parameters,
        phase: str,
        observation: Float[Tensor, "policy sample size"],
        recurrent_state: Float[Tensor, "policy sample memory"],
    ) -> tuple[Float[Tensor, "policy sample raw"], Float[Tensor, "policy sample"] | None, Tensor]:
        """Raw output of the phase's head, the value if there is one, what is remembered then."""
        mine, theirs = self._split_recurrent_state(recurrent_state, phase)
        features, mine = self.encoder.forward_step(parameters, "policy", observation, mine)
        raw = linear(parameters, f"act.{phase}", features)
        value = None
        if self.has_value_head:
            features, theirs = self.encoder.forward_step(parameters, "critic", observation, theirs)
            value = linear(parameters, "value", features)[..., 0]
        return raw, value, self._merge_recurrent_state(recurrent_state, phase, mine, theirs)

    def predict_values(
        self,
        parameters: Parameters,
        observation: Float[Tensor, "policy sample size"],
        recurrent_state: Float[Tensor, "policy sample memory"],
    ) -> Float[Tensor, "policy sample"]:
        """What is expected of a sight in the first phase, without acting on it.

        It may be the one after an episode's last: bodies are asked in a way that has no end.
        """
        _, theirs = self._split_recurrent_state(recurrent_state, next(iter(self.action_spaces)))
        features = self.encoder.forward_sequence(
            parameters, "critic", observation[:, :, None], None, theirs
        )[:, :, 0]
        return linear(parameters, "value", features)[..., 0]

    def log_std(self, parameters: Parameters, phase: str) -> Tensor | None:
        """Spread of a box's numbers, `[policy, 1, size]`; `None` for choices."""
        return parameters.get(f"act.{phase}.log_std")

    def evaluate_actions(self, parameters: Parameters, inputs: ModelInputs) -> ModelOutput:
        """What the policies say of stretches of acts: all that loss terms see."""
        mine = theirs = None
        if inputs.recurrent_state is not None:
            mine, theirs = self._split_recurrent_state(inputs.recurrent_state, inputs.phase)
        features = self.encoder.forward_sequence(
            parameters, "policy", inputs.observation, inputs.episode_start, mine
        )
        said = self._action_log_probs(parameters, inputs, features)
        value = score = summary = None
        if self.has_value_head:
            seen = self.encoder.forward_sequence(
                parameters, "critic", inputs.observation, inputs.episode_start, theirs
            )
            value = linear(parameters, "value", seen.flatten(1, 2)).view(
                inputs.observation.shape[:3]
            )
        if self.num_scores:
            summary = inputs.masked_mean(features)
            score = linear(parameters, "score", summary)
        return ModelOutput(said.logp, said.logits, said.entropy, value, score, summary)

    def _action_log_probs(
        self, parameters: Parameters, inputs: ModelInputs, features: Tensor
    ) -> ActionLogProbs:
        shape = inputs.observation.shape[:3]
        raw = linear(parameters, f"act.{inputs.phase}", features.flatten(1, 2)).unflatten(
            1, shape[1:]
        )
        log_std = self.log_std(parameters, inputs.phase)
        if log_std is not None:
            log_std = log_std[:, :, None]  # policy sample step size
        return self.action_distributions[inputs.phase].log_probs(
            raw, inputs.action, inputs.action_mask, log_std
        )

    def _split_recurrent_state(self, recurrent_state: Tensor, phase: str) -> tuple[Tensor, Tensor]:
        """What the policy's and the critic's body remember of a phase."""
        first = self._phase_state_size * list(self.action_spaces).index(phase)
        size = self.encoder.recurrent_state_size(self.observation_size)
        return recurrent_state[..., first : first + size], recurrent_state[
            ..., first + size : first + self._phase_state_size
        ]

    def _merge_recurrent_state(
        self, recurrent_state: Tensor, phase: str, actor_state: Tensor, critic_state: Tensor
    ) -> Tensor:
        """All that is remembered, with what is remembered of a phase now."""
        if not self._phase_state_size:
            return recurrent_state
        first = self._phase_state_size * list(self.action_spaces).index(phase)
        before, after = (
            recurrent_state[..., :first],
            recurrent_state[..., first + self._phase_state_size :],
        )
        return torch.cat([before, actor_state, critic_state, after], -1)
