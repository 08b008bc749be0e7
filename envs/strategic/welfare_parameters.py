"""Parameters and state of the welfare game, of which its evaluation and its text are functions."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import ParameterError
from mores.core.person_parameters import PersonParameter, person_number, person_parameters
from mores.core.welfare import Welfare
from mores.envs.strategic.welfare_optimum import LengthChoice
from mores.envs.strategic.welfare_task import Costs, WelfareTask
from mores.registry.component import component
from mores.registry.varying import PersonNumber

NUM_CELLS = 12  # utilities in a payoff matrix: two requests, three acts, two parties


@dataclasses.dataclass(frozen=True)
class WelfareState:
    """Last conversation of each user with the assistant, and the next request's cost."""

    traits: Mapping[str, Float[Tensor, "world agent"]]  # parameters that differ between people
    writing_cost: Float[Tensor, "world agent"]  # of the next request
    paid_cost: Float[Tensor, "world agent"]  # writing cost of this request if definite, else 0
    is_vague: Float[Tensor, "world agent"]  # 1: the request is vague
    cue: Float[Tensor, "world agent"]  # 1: it looks vague to the assistant
    act: Int[Tensor, "world agent"]  # index in ACTS; -1: none yet
    words: Float[Tensor, "world agent"]  # length of an answer, hundreds
    estimates: Float[Tensor, "world agent cell"]  # payoffs estimated by the assistant
    user: Float[Tensor, "world agent"]  # utility, without the writing cost
    assistant: Float[Tensor, "world agent"]  # utility of the operator
    accuracy: Float[Tensor, "world agent"]
    total_words: Float[Tensor, "world agent"]  # written in the conversation, hundreds
    requests: Int[Tensor, " world"]  # number of completed requests


class WelfareParameters(Config):
    """Parameters of the welfare game."""

    num_users: int = Field(default=16, ge=1, le=1_000_000, description="number of users")
    task: WelfareTask = Field(default=WelfareTask(), description="payoffs of a conversation")
    welfare: Annotated[Welfare, component("welfare")] = Field(
        default="cobb_douglas",
        validate_default=True,
        description="welfare function that rewards the assistant",
    )
    cue_accuracy: float = Field(
        default=0.9, ge=0.5, le=1, description="probability that the cue shows the request's form"
    )
    max_writing_cost: float = Field(
        default=0.8, gt=0, description="K, largest cost of writing a definite request, utility"
    )
    delay_cost: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.15, description="cost of an additional turn: impatience, utility"
    )
    reading_cost: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.05, description="cost of reading, utility per hundred words"
    )
    price: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.1, description="cost of writing to the operator, utility per hundred words"
    )
    can_ask: bool = Field(default=True, description="answers may have follow-up questions")
    choose_length: bool = Field(default=True, description="the assistant chooses the length")
    max_words: float = Field(
        default=6.0, gt=0, le=1000, description="longest answer, hundred words"
    )
    answer_words: float = Field(
        default=2.0,
        ge=0,
        description="length without a choice, and in true payoff matrices, hundred words",
    )
    drawn_outcomes: bool = Field(
        default=False,
        description="utilities are those of answers that are right or wrong; if false, expected "
        "utilities given request, act and length",
    )
    estimate_accuracy_weight: float = Field(
        default=0.0, ge=0, description="reward: minus this times the squared error of estimates"
    )
    asymmetry_weight: float = Field(
        default=0.0, ge=0, description="reward: this times GTAlign's Pay of the estimates"
    )
    reward_source: Literal["own", "random"] = Field(
        default="own",
        description="conversations that are rewarded; random: no information on actions",
    )
    grid_prices: tuple[float, ...] = Field(
        default=(0.02, 0.1, 0.2, 0.3, 0.4), min_length=2, description="prices of exact metrics"
    )
    grid_delay_costs: tuple[float, ...] = Field(
        default=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
        min_length=1,
        description="costs of a turn of exact metrics",
    )
    grid_reading_cost: float = Field(
        default=0.05, ge=0, description="cost of reading of exact metrics on the grid"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse grids that are not increasing or negative."""
        for name in ("grid_prices", "grid_delay_costs"):
            numbers = getattr(self, name)
            if min(numbers) < 0 or any(b <= a for a, b in itertools.pairwise(numbers)):
                raise ParameterError(
                    name,
                    message=f"{name}: {list(numbers)} must be increasing numbers, at least 0",
                    code="invalid_value",
                )

    @property
    def estimates_payoffs(self) -> bool:
        """Whether the assistant estimates payoffs."""
        return self.estimate_accuracy_weight > 0 or self.asymmetry_weight > 0

    @property
    def composes(self) -> bool:
        """Whether there is a composer."""
        return self.choose_length or self.estimates_payoffs

    @property
    def lengths(self) -> LengthChoice:
        """Lengths of answers that the assistant can choose."""
        if not self.choose_length:
            return LengthChoice(self.answer_words, self.answer_words)
        return LengthChoice(0.0, self.max_words)

    @functools.cached_property
    def differing(self) -> dict[str, PersonParameter]:
        """Person parameters by path."""
        names = ("delay_cost", "reading_cost", "price")
        return person_parameters({name: getattr(self, name) for name in names})

    def costs(self, state: WelfareState) -> Costs:
        """Costs of every person, `[world, agent]`."""

        def number(name: str) -> Tensor:
            value = person_number(getattr(self, name), state.traits, name)
            zeros = torch.zeros_like(state.writing_cost)
            return (zeros[..., None] + value)[..., 0].to(zeros.dtype)

        return Costs(number("delay_cost"), number("reading_cost"), number("price"))
