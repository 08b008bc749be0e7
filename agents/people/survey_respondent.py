"""Response model of a survey: a person's value plus noise, rounded to the options of a scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.errors import ParameterError
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box
from mores.registry.varying import PersonNumber


class SurveyRespondent(Policy):
    """Person who answers with their value plus noise, rounded to the nearest option of a scale.

    Answers are clamped to the scale. Noise is normal, and independent between questions, values and
    people. Where the observation has the part `relative_volatility`, noise is multiplied by it:
    people who change much between surveys also answer less exactly. `noise_std` is then the root
    mean square over people.

    A scale shorter than the range of values accumulates answers at its ends. Without a scale and
    without noise an answer equals the value.
    """

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    noise_std: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.0, description="standard deviation of the noise of an answer, in value units"
    )
    low: float | None = Field(default=None, description="first option; null: no limit")
    high: float | None = Field(default=None, description="last option; null: no limit")
    option_spacing: float | None = Field(
        default=None, gt=0, description="distance between options, from low on; null: continuous"
    )

    def model_post_init(self, context: Any) -> None:
        """Check the scale."""
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ParameterError(message="low must be below high", code="conflict")
        if self.low is not None and self.high is not None and self.option_spacing is not None:
            options = (self.high - self.low) / self.option_spacing
            if abs(options - round(options)) > 1e-6:
                raise ParameterError(
                    message="high minus low must be a multiple of option_spacing", code="conflict"
                )

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Role:
        """The role, whose observation is read by name."""
        require_observation_parts("survey_respondent", role, "values")
        return role

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Role,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Answer on every value, within the limits of the question."""
        observed, space = state.observation_space, phase.action_spaces[state.name]
        answer = observed.read(observation, "values")
        if self.noise_std:
            noise = self.noise_std * streams.normal("answer", *answer.shape[1:])
            if "relative_volatility" in observed.parts:
                noise = noise * observed.read(observation, "relative_volatility")
            answer = answer + noise
        answer = self.round_to_scale(answer)
        return ActionOutput(space.clamp(answer) if isinstance(space, Box) else answer, state)

    def round_to_scale(self, answer: Tensor) -> Tensor:
        """The option nearest to an answer."""
        if self.option_spacing is not None:
            first = 0.0 if self.low is None else self.low
            answer = first + self.option_spacing * torch.round(
                (answer - first) / self.option_spacing
            )
        if self.low is not None or self.high is not None:
            answer = answer.clamp(self.low, self.high)
        return answer

    @property
    def has_scale(self) -> bool:
        """Whether answers are rounded or clamped: then formulas for normal answers do not hold."""
        return not (self.option_spacing is None and self.low is None and self.high is None)
