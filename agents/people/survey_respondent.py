"""A respondent: says where they stand, give or take a slip, in the options a survey offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.core.environment import ActionOutput, Box, Phase, Policy, Role
from mores.core.errors import ParameterError, UserError
from mores.core.random_streams import RandomStreams


class SurveyRespondent(Policy):
    """Answers with normal noise, rounded to the nearest option of the scale and kept within it.

    Slips are independent between questions, values and people. Where a role sees how restless a
    person is (`restlessness`, relative to the root mean square over people), slips are as much
    larger: who changes much between surveys also answers less exactly. `noise_std` is then the root
    mean square over people.

    A scale that is shorter than the range of values piles answers up at its ends. Without a scale
    and without noise everybody says exactly where they stand.
    """

    tags: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    noise_std: float = Field(
        default=0.0, ge=0, description="standard deviation of an answer, in value units"
    )
    low: float | None = Field(default=None, description="first option; none: no limit")
    high: float | None = Field(default=None, description="last option; none: no limit")
    option_spacing: float | None = Field(
        default=None, gt=0, description="distance between options, counted from low; none: any"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse a scale that is none."""
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ParameterError(message="low must be below high", code="conflict")
        if self.low is not None and self.high is not None and self.option_spacing is not None:
            options = (self.high - self.low) / self.option_spacing
            if abs(options - round(options)) > 1e-6:
                raise ParameterError(
                    message="high must be a whole number of steps above low", code="conflict"
                )

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """How its sight is laid out."""
        if "values" not in role.observation_space.parts:
            raise UserError(
                "respondent needs a role that sees its own 'values'",
                code="unsupported",
                path=f"players.{role.name}",
            )
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Answer the question about one's values."""
        answer = state.read(observation, "values")
        if self.noise_std:
            slip = self.noise_std * streams.normal("answer", *answer.shape[1:])
            if "relative_volatility" in state.parts:
                slip = slip * state.read(observation, "relative_volatility")
            answer = answer + slip
        return ActionOutput(self.round_to_scale(answer), state)

    def round_to_scale(self, answer: Tensor) -> Tensor:
        """The option nearest to a position."""
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
        """Whether answers are rounded or limited: then formulas for normal answers do not hold."""
        return not (self.option_spacing is None and self.low is None and self.high is None)
