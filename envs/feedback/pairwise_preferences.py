"""Pairwise preferences: people choose between two options and may rate them.

Used for calibration of choice noise: the share of choices of the better option, by the difference
of rewards.

Demo: `python -m mores.envs.feedback.pairwise_preferences`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.analytic_policies import AnnotatingPolicy
from mores.core.deterministic_sum import total
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.person_parameters import person_parameters
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.stream_addresses import INITIAL_PAIR
from mores.core.turn_text import TurnText
from mores.envs.feedback import pairwise_preferences_text as texts


@dataclasses.dataclass(frozen=True)
class PairwisePreferencesState:
    """Present pairs, and statistics of the answers so far."""

    option_rewards: Float[Tensor, "world agent option"]  # of the two present options
    margin_index: Int[Tensor, "world agent"]  # index of their difference in `margins`
    num_shown: Float[Tensor, "world margin"]  # pairs answered
    num_better_chosen: Float[Tensor, "world margin"]  # choices of the better option
    rating_cross_product: Float[
        Tensor, " world"
    ]  # sum of reward difference times rating difference
    margin_sum_of_squares: Float[
        Tensor, " world"
    ]  # sum of squared reward differences of rated pairs


class PairwisePreferences(Environment[PairwisePreferencesState]):
    """Choices of people between two options of known rewards.

    Description:
        Each round every person observes two options whose rewards differ by one of `margins` (with
        equal probability, in random order) and chooses one; with `collect_ratings` they rate both.
        Left out: content of options, dependence between answers, order effects, learning.

    Roles:
        person (`num_people`).

    Observation:
        option_rewards  2  [-m/2, m/2]  rewards of both options, m the largest of `margins`

    Action:
        person, phase choose: 0 the first option, 1 the second.
        person, phase rate (with `collect_ratings`): `rating`, 2 unbounded numbers.

    Reward:
        person: reward of the chosen option.

    Dynamics:
        None: pairs are independent of each other and of answers.

    Start:
        New pairs, no answers.

    End:
        Never (truncation only).

    Parameters:
        See the fields.

    References:
        Choice models are channels of the policy `annotator` (`mores.agents.channels.choices`).
    """

    tags: ClassVar[Mapping[str, object]] = {"phases": "1 or 2", "changes": None, "stochastic": True}

    num_people: int = Field(default=100, ge=1, le=10_000_000, description="number of people")
    margins: tuple[float, ...] = Field(
        default=(0.5, 1.0, 2.0),
        min_length=1,
        description="differences of the options' rewards, each above 0",
    )
    collect_ratings: bool = Field(default=False, description="whether people also rate the options")

    def model_post_init(self, context: Any) -> None:
        """Refuse margins that are not positive."""
        if min(self.margins) <= 0:
            raise ParameterError(
                "margins",
                message="margins must be above 0",
                code="out_of_range",
            )

    @property
    def roles(self) -> tuple[Role, ...]:
        """`person`."""
        limit = max(self.margins) / 2
        return (Role("person", self.num_people, Box.of(option_rewards=Part(2, -limit, limit))),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`choose`, then `rate` with `collect_ratings`."""
        choose = Phase("choose", {"person": Discrete(2)})
        rate = Phase("rate", {"person": Box.of(rating=2)})
        return (choose, rate) if self.collect_ratings else (choose,)

    def reset(
        self, streams: RandomStreams, people: People | None = None
    ) -> PairwisePreferencesState:
        """Initial state: new pairs, no answers."""
        if people is not None:
            raise UserError(
                "pairwise_preferences accepts no population: its people have no values",
                code="unsupported",
                path="population",
            )
        index, rewards = self._sample_pairs(streams.child(INITIAL_PAIR))
        counts = rewards.new_zeros(len(rewards), len(self.margins))
        return PairwisePreferencesState(rewards, index, counts, counts, counts[:, 0], counts[:, 0])

    def _sample_pairs(self, streams: RandomStreams) -> tuple[Tensor, Tensor]:
        """New pairs: index of the margin, and rewards of both options."""
        u = streams.uniform("pair", self.num_people, 2)
        index = (u[..., 0] * len(self.margins)).long().clamp(max=len(self.margins) - 1)
        half = torch.tensor(self.margins, device=u.device)[index] / 2
        first = torch.where(u[..., 1] < 0.5, half, -half)
        return index, torch.stack([first, -first], -1)

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
        """Update the statistics; the last phase samples new pairs."""
        answer = actions["person"]
        reward = {}
        if phase == "choose":
            chosen = state.option_rewards.gather(-1, answer[..., None].long())[..., 0]
            margins = torch.arange(len(self.margins), device=chosen.device)
            shown = (state.margin_index[..., None] == margins).to(
                chosen.dtype
            )  # world agent margin
            better = shown * (chosen > 0).to(chosen.dtype)[..., None]
            state = dataclasses.replace(
                state,
                num_shown=state.num_shown + total(shown, 1),
                num_better_chosen=state.num_better_chosen + total(better, 1),
            )
            reward = {"person": chosen}
        else:
            difference = state.option_rewards[..., 0] - state.option_rewards[..., 1]
            rated = answer[..., 0] - answer[..., 1]
            squares = state.margin_sum_of_squares + total(difference * difference, 1)
            state = dataclasses.replace(
                state,
                rating_cross_product=state.rating_cross_product + total(difference * rated, 1),
                margin_sum_of_squares=squares,
            )
        if phase == self.phases[-1].name:
            index, rewards = self._sample_pairs(streams)
            state = dataclasses.replace(state, margin_index=index, option_rewards=rewards)
        return StepResult(state, reward)

    def metrics(self, state: PairwisePreferencesState) -> Mapping[str, Tensor]:
        """Statistics of the answers so far; NaN without answers.

        choice_accuracy_by_margin: share of choices of the better option `[world, margin]`.
        rating_slope: slope of ratings on rewards, least squares through the origin.
        """
        return {
            "choice_accuracy_by_margin": state.num_better_chosen / state.num_shown,
            "rating_slope": state.rating_cross_product / state.margin_sum_of_squares,
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares lie between 0 and 1."""
        return {"choice_accuracy_by_margin": (0.0, 1.0)}

    def role_rules(self, role: str) -> str:
        """Choices and ratings of two options."""
        return texts.rules(self.collect_ratings)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Rewards of both options."""
        return texts.turn(phase, observation.tolist())

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, float]:
        """Closed forms for an `AnnotatingPolicy`, by the names of metrics.

        From the expectations that its channels know. The slope of ratings is known if it is equal
        at all margins.
        """
        policy = policies.get("person")
        if not isinstance(policy, AnnotatingPolicy):
            return {}
        if isinstance(policy, Policy) and person_parameters({"": policy}):
            return {}  # parameters differ between people
        person = policy.annotation
        margins = torch.tensor(self.margins, dtype=torch.float64)
        half = torch.stack([margins, -margins])[..., None] / 2  # order margin 1
        utility = person.utility_scale * torch.cat([half, -half], -1)  # order margin option
        values: dict[str, float] = {}
        preferred = person.choice.expected({"utility": utility}).get("preferred")
        if preferred is not None:
            accuracy = (preferred[0, :, 0] + preferred[1, :, 1]) / 2
            names = [f"choice_accuracy_by_margin[{i}]" for i in range(len(self.margins))]
            values |= dict(zip(names, accuracy.tolist(), strict=True))
        rating = person.rating.expected({"utility": utility}).get("reward")
        if rating is not None and self.collect_ratings:
            difference = rating[..., 0] - rating[..., 1]
            slope = (difference[0] - difference[1]) / (2 * margins)
            if bool(torch.isclose(slope, slope[0]).all()):
                values["rating_slope"] = float(slope[0])
        return values

    def default_policies(self) -> Mapping[str, Any]:
        """People that choose the better option."""
        return {"person": {"kind": "annotator", "choice": "best_option"}}


if __name__ == "__main__":
    from mores.sim.demo import show

    show(PairwisePreferences(collect_ratings=True))
