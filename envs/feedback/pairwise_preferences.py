"""Pairs: people choose between two options, again and again, and may be asked to rate them.

The instrument by which the noise in people's choices is calibrated: which share of them picks the
better option, by how much better it is.

Run `python -m mores.envs.feedback.pairwise_preferences` to watch it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.core.environment import (
    ActionOutput,
    Box,
    Discrete,
    Environment,
    Part,
    Phase,
    Policy,
    Role,
    StepResult,
)
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class PairwisePreferencesState:
    """What was asked last, and what was answered so far."""

    option_rewards: Float[Tensor, "world agent option"]  # of the two options now shown
    margin_index: Int[Tensor, "world agent"]  # which of the margins they have
    num_shown: Float[Tensor, "world margin"]  # pairs answered, by margin
    num_better_chosen: Float[Tensor, "world margin"]  # of them, the better one
    rating_cross_product: Float[Tensor, " world"]  # sum of margin times difference of ratings
    margin_sum_of_squares: Float[Tensor, " world"]  # sum of squared margins that were rated


@runtime_checkable
class LogisticChoiceModel(Protocol):
    """A person who chooses by a logistic rule, and answers the other option now and then."""

    rationality: float
    utility_scale: float
    flip_probability: float


class PairwisePreferences(Environment[PairwisePreferencesState]):
    """People who are shown two options at a time.

    Description:
        Every round each person is shown two options whose worth differs by one of `margins` (each
        as often, the better one first or second by chance), and picks one; with `collect_ratings` they rate
        both as well.

    Roles:
        person (`people`).

    Observation:
        person: `worth` of the two options, in [-m/2, m/2] for the largest margin m.

    Action:
        person, phase `choose`: 0 the first option, 1 the second.
        person, phase `rate` (with `collect_ratings`): `rating` of both, any numbers.

    Reward:
        person: the worth of the option picked.

    Dynamics:
        None: pairs are independent of each other and of what was picked.

    Start:
        The first pairs are drawn; nothing is answered.

    End:
        Never by itself.

    Parameters:
        See the fields.

    References:
        Boltzmann choice: Luce 1959; Bradley and Terry 1952, Biometrika 39, 324.
    """

    tags: ClassVar[Mapping[str, object]] = {"phases": "1 or 2", "moves": None, "stochastic": True}

    num_people: int = Field(default=100, ge=1, le=10_000_000, description="number of people")
    margins: tuple[float, ...] = Field(
        default=(0.5, 1.0, 2.0),
        min_length=1,
        description="by how much the better option is worth more, each above 0",
    )
    collect_ratings: bool = Field(default=False, description="whether options are rated, too")

    def model_post_init(self, context: Any) -> None:
        """Refuse margins that are none."""
        if min(self.margins) <= 0:
            raise ParameterError(
                "margins",
                message="margins are above 0: by how much the better option is better",
                code="out_of_range",
            )

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`."""
        most = max(self.margins) / 2
        return (Role("person", self.num_people, Box.of(option_rewards=Part(2, -most, most))),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`choose`, then `rate` where options are rated."""
        choose = Phase("choose", {"person": Discrete(2)})
        rate = Phase("rate", {"person": Box.of(rating=2)})
        return (choose, rate) if self.collect_ratings else (choose,)

    def reset(
        self, streams: RandomStreams, people: People | None = None
    ) -> PairwisePreferencesState:
        """The first pairs."""
        if people is not None:
            raise UserError(
                "pairs takes no people from a population: they have no values",
                code="unsupported",
                path="num_people",
            )
        margin, worth = self._sample_pairs(streams.child("first"))
        counts = worth.new_zeros(len(worth), len(self.margins))
        return PairwisePreferencesState(worth, margin, counts, counts, counts[:, 0], counts[:, 0])

    def _sample_pairs(self, streams: RandomStreams) -> tuple[Tensor, Tensor]:
        """Fresh pairs: which margin each has, and the worth of both options."""
        u = streams.uniform("pair", self.num_people, 2)
        margin = (u[..., 0] * len(self.margins)).long().clamp(max=len(self.margins) - 1)
        half = torch.tensor(self.margins, device=u.device)[margin] / 2
        first = torch.where(u[..., 1] < 0.5, half, -half)
        return margin, torch.stack([first, -first], -1)

    def observe(self, state: PairwisePreferencesState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        return state.option_rewards

    def step(
        self,
        state: PairwisePreferencesState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[PairwisePreferencesState]:
        """Answers are counted; after the last phase there are new pairs."""
        answer = actions["person"]
        reward = {}
        if phase == "choose":
            worth = state.option_rewards.gather(-1, answer[..., None].long())[..., 0]
            margins = torch.arange(len(self.margins), device=worth.device)
            here = (state.margin_index[..., None] == margins).to(worth.dtype)  # world agent margin
            better = here * (worth > 0).to(worth.dtype)[..., None]
            state = dataclasses.replace(
                state,
                num_shown=state.num_shown + total(here, 1),
                num_better_chosen=state.num_better_chosen + total(better, 1),
            )
            reward = {"person": worth}
        else:
            apart = state.option_rewards[..., 0] - state.option_rewards[..., 1]
            rated = answer[..., 0] - answer[..., 1]
            state = dataclasses.replace(
                state,
                rating_cross_product=state.rating_cross_product + total(apart * rated, 1),
                margin_sum_of_squares=state.margin_sum_of_squares + total(apart * apart, 1),
            )
        if phase == self.phases[-1].name:
            margin, worth = self._sample_pairs(streams)
            state = dataclasses.replace(state, margin_index=margin, option_rewards=worth)
        return StepResult(state, reward)

    def metrics(self, state: PairwisePreferencesState) -> Mapping[str, Tensor]:
        """What was answered so far; nan before it was.

        picked: share who picked the better option, one number a margin.  rating_slope: rise of the
        rating with worth, least squares through the origin.
        """
        return {
            "choice_accuracy_by_margin": state.num_better_chosen / state.num_shown,
            "rating_slope": state.rating_cross_product / state.margin_sum_of_squares,
        }

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, float]:
        """Where people choose by a logistic rule with flips, the shares that pick the better."""
        person = policies.get("person")
        if not isinstance(person, LogisticChoiceModel):
            return {}
        found = {}
        for number, margin in enumerate(self.margins):
            right = 1.0 / (1.0 + math.exp(-person.rationality * person.utility_scale * margin))
            found[f"picked[{number}]"] = (
                1.0 - 2.0 * person.flip_probability
            ) * right + person.flip_probability
        return found | ({"rating_slope": person.utility_scale} if self.collect_ratings else {})

    def default_policies(self) -> Mapping[str, Policy]:
        """People who pick what is worth more."""
        return {"person": GreedyAnnotator()}


class GreedyAnnotator(Policy):
    """Picks the option that is worth most, and rates options at their worth."""

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        """The option, or the ratings."""
        return ActionOutput(
            observation.argmax(-1) if phase.name == "choose" else observation, state
        )


if __name__ == "__main__":
    from mores.sim.demo import show

    show(PairwisePreferences(collect_ratings=True))
