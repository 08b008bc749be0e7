"""Welfare game: users who write definitely or vaguely, and an assistant that answers or asks.

After GTAlign (arXiv 2510.08872), which trains a language model on the Cobb-Douglas welfare of user
and assistant in such games. Payoffs here come from a model of the task (`welfare_task`), not from
the model that plays; exact values of policies are in `welfare_evaluation`, closed forms in
`welfare_values` and `answer_length`.

Demo: `python -m mores.envs.strategic.welfare_game`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mores import registry
from mores.core.deterministic_sum import mean
from mores.core.environment import Environment, Phase, PolicyQuery, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.person_parameters import (
    PersonParameter,
    add_parameters,
    person_number,
    person_parameters,
)
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.welfare import Welfare
from mores.envs.strategic import welfare_evaluation, welfare_text
from mores.envs.strategic.payoff_matrices import asymmetry_score
from mores.envs.strategic.welfare_optimum import LengthChoice
from mores.envs.strategic.welfare_policies import CueAssistant
from mores.envs.strategic.welfare_task import (
    ANSWER_AND_ASK,
    CLARIFY,
    DIRECT,
    NUM_ACTS,
    Costs,
    WelfareTask,
)
from mores.envs.strategic.welfare_values import best_response_vague_share
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


class WelfareGame(Environment[WelfareState]):
    """Bayesian game of users, who write definitely or vaguely, and an assistant.

    Description:
        Each user makes a request in every round. To write it definitely costs effort, which differs
        between requests; a vague request is answered worse. The assistant sees a noisy cue of the
        request's form and answers at once, asks first, or answers with a follow-up question; then
        it chooses the length of its answers. It is rewarded by a welfare function of both
        utilities. Payoffs follow from accuracy, delay, words and price. Left out: the content of
        requests and answers, users who leave or who do not reply, memory between requests, and
        what an assistant may learn from a user's earlier requests.

    Roles:
        user (`num_users`), assistant (`num_users`: one conversation with each user).

    Observation:
        user       writing_cost  1  [0, inf)  cost of writing the next request definitely, utility
        user       delay_cost    1  [0, inf)  own cost of an additional turn, utility
        user       reading_cost  1  [0, inf)  own cost of reading, utility per hundred words
        assistant  cue           1  [0, 1]    1: the request looks vague; 0 before a request
        assistant  delay_cost, reading_cost: those of its user
        assistant  price         1  [0, inf)  cost of writing, utility per hundred words
        assistant  act           3  [0, 1]    one-hot: its act of this round; zeros before it acts

    Action:
        user, phase write: 0 vaguely, 1 definitely.
        assistant, phase estimate (only with `estimate_accuracy_weight` or `asymmetry_weight`): 12
        payoffs in [-2, 2], in the order of `WelfareTask.payoff_matrix`.
        assistant, phase respond: 0 answer directly, 1 clarify, 2 answer and ask (masked without
        `can_ask`).
        assistant, phase length (only with `choose_length`): answer of 0 to `max_words` hundred
        words; otherwise it has `answer_words`.

    Reward:
        assistant: `welfare` of U and L of the conversation, and the terms of its estimates.
        user: U, minus the cost of writing definitely. U and L: see `welfare_task`. With
        `reward_source: random` both are those of a conversation in which request, act and length
        are uniformly random: nothing can be learned from them.

    Dynamics:
        The cost of writing is uniform on [0, `max_writing_cost`], new for every request. The cue is
        right with probability `cue_accuracy`. Costs of people are constant in an episode.

    Start:
        Costs of people: constants, or a sample for each person.

    End:
        Terminates after `num_requests` rounds.

    Parameters:
        See the fields: each has its range and meaning. `delay_cost`, `reading_cost` and `price` may
        be person parameters. The price is observed: a trained policy can be tested at other prices.

    References:
        GTAlign, arXiv 2510.08872, and its official code (acts, welfare, length windows). Payoffs,
        writing costs and the cue are assumptions made here, not fitted to data.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": "2 to 4",
        "changes": "conversations",
        "stochastic": True,
        "masks": True,
        "paper": "2510.08872",
    }
    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "exact_words_by_price": ("grid_price",)
    }
    solver_values: ClassVar[frozenset[str]] = frozenset({"best_response_vague_share"})

    num_users: int = Field(default=16, ge=1, le=1_000_000, description="number of users")
    num_requests: int = Field(default=1, ge=1, le=1_000_000, description="rounds of an episode")
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
        default=0.8, gt=0, description="K, largest cost of writing a request definitely, utility"
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
        default="own", description="conversations whose utilities are paid; random: no information"
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
            if min(numbers) < 0 or any(b <= a for a, b in zip(numbers, numbers[1:], strict=False)):
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
    def lengths(self) -> LengthChoice:
        """Lengths of answers that the assistant can choose."""
        if not self.choose_length:
            return LengthChoice(self.answer_words, self.answer_words)
        return LengthChoice(0.0, self.max_words)

    @property
    def roles(self) -> tuple[Role, ...]:
        """`user` and `assistant`."""
        cost = Part(1, 0.0)
        own = {"delay_cost": cost, "reading_cost": cost}
        user = Box.of(writing_cost=cost, **own)
        bit = Part(1, 0.0, 1.0)
        assistant = Box.of(cue=bit, **own, price=cost, act=Part(NUM_ACTS, 0.0, 1.0))
        return Role("user", self.num_users, user), Role("assistant", self.num_users, assistant)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """`write`, `estimate` if payoffs are estimated, `respond`, `length` if it is chosen."""
        estimate = Phase("estimate", {"assistant": Box.of(payoffs=Part(NUM_CELLS, -2.0, 2.0))})
        length = Phase("length", {"assistant": Box.of(words=Part(1, 0.0, self.max_words))})
        return (
            Phase("write", {"user": Discrete(2)}),
            *([estimate] if self.estimates_payoffs else []),
            Phase("respond", {"assistant": Discrete(NUM_ACTS)}),
            *([length] if self.choose_length else []),
        )

    @functools.cached_property
    def _differing(self) -> dict[str, PersonParameter]:
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

    def reset(self, streams: RandomStreams, people: People | None = None) -> WelfareState:
        """Initial state: no request yet."""
        if people is not None:
            raise UserError(
                "welfare_game accepts no population: its people have no values",
                code="unsupported",
                path="population",
            )
        cost = self.max_writing_cost * streams.uniform("cost", self.num_users)[..., 0]
        zeros = torch.zeros_like(cost)
        traits: Mapping[str, Tensor] = {}
        if self._differing:
            traits = add_parameters(People(zeros[..., None]), self._differing, streams).traits
        none = zeros.to(torch.int64) - 1
        estimates = zeros[..., None].expand(-1, -1, NUM_CELLS).clone()
        unused = {
            name: zeros
            for name in ("paid_cost", "is_vague", "cue", "words", "user", "assistant", "accuracy")
        }
        return WelfareState(
            traits=traits,
            writing_cost=cost,
            act=none,
            estimates=estimates,
            total_words=zeros,
            requests=torch.zeros_like(none[:, 0]),
            **unused,
        )

    def observe(self, state: WelfareState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        costs = self.costs(state)
        if role == "user":
            return torch.stack([state.writing_cost, costs.delay, costs.reading], -1)
        act = functional.one_hot(state.act + 1, NUM_ACTS + 1)[..., 1:].to(state.cue.dtype)
        own = torch.stack([state.cue, *costs], -1)
        return torch.cat([own, act], -1)

    def action_mask(self, state: WelfareState, role: str, phase: str) -> Tensor | None:
        """No follow-up questions without `can_ask`."""
        if phase != "respond" or self.can_ask:
            return None
        acts = torch.arange(NUM_ACTS, device=state.cue.device) != ANSWER_AND_ASK
        return acts.expand(*state.cue.shape, -1)

    def step(
        self,
        state: WelfareState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[WelfareState]:
        """`write` makes the request and its cue; the last phase ends the conversation."""
        if phase == "write":
            return StepResult(self._write(state, actions["user"], streams))
        if phase == "estimate":
            estimates = actions["assistant"]
            reward = {"assistant": self._estimate_reward(state, estimates)}
            return StepResult(dataclasses.replace(state, estimates=estimates), reward)
        if phase == "respond":
            state = dataclasses.replace(
                state,
                act=actions["assistant"],
                words=torch.full_like(state.words, self.answer_words),
            )
            return StepResult(state) if self.choose_length else self._converse(state, streams)
        words = actions["assistant"][..., 0].clamp(0.0, self.max_words)
        return self._converse(dataclasses.replace(state, words=words), streams)

    def _write(
        self, state: WelfareState, definite: Tensor, streams: RandomStreams
    ) -> WelfareState:
        is_vague = 1.0 - definite.to(state.writing_cost.dtype)
        is_right = streams.uniform("evidence", self.num_users)[..., 0] < self.cue_accuracy
        return dataclasses.replace(
            state,
            is_vague=is_vague,
            paid_cost=state.writing_cost * (1.0 - is_vague),
            cue=torch.where(is_right, is_vague, 1.0 - is_vague),
            act=torch.full_like(state.act, -1),
        )

    def _estimate_reward(self, state: WelfareState, estimates: Tensor) -> Tensor:
        error = estimates - self.task.payoff_matrix(self.answer_words, self.costs(state))
        accuracy = -self.estimate_accuracy_weight * mean(error * error, -1)
        return accuracy + self.asymmetry_weight * asymmetry_score(estimates)

    def _converse(
        self, state: WelfareState, streams: RandomStreams
    ) -> StepResult[WelfareState]:
        """The conversation, its rewards, and the cost of the next request."""
        costs, draws = self.costs(state), None
        if self.drawn_outcomes:
            numbers = streams.uniform("answer", self.num_users, 2)
            draws = (numbers[..., 0], numbers[..., 1])
        outcome = self.task.outcome(state.is_vague, state.act, state.words, costs, draws)
        paid_cost, paid = state.paid_cost, outcome
        if self.reward_source == "random":
            numbers = streams.uniform("option", self.num_users, 3)
            is_vague = (numbers[..., 0] < 0.5).to(numbers.dtype)
            num_acts = NUM_ACTS if self.can_ask else NUM_ACTS - 1
            act = (num_acts * numbers[..., 1]).to(torch.int64)
            low, high = self.lengths
            words = low + (high - low) * numbers[..., 2]
            paid = self.task.outcome(is_vague, act, words, costs, draws)
            paid_cost = state.writing_cost * (1.0 - is_vague)
        reward = {
            "user": paid.user - paid_cost,
            "assistant": self.welfare.value(paid.user, paid.assistant),
        }
        requests = state.requests + 1
        next_cost = streams.uniform("cost", self.num_users)[..., 0]
        next_state = dataclasses.replace(
            state,
            writing_cost=self.max_writing_cost * next_cost,
            user=outcome.user,
            assistant=outcome.assistant,
            accuracy=outcome.accuracy,
            total_words=outcome.words,
            requests=requests,
        )
        return StepResult(next_state, reward, requests >= self.num_requests)

    def metrics(self, state: WelfareState) -> Mapping[str, Tensor]:
        """Means over users of the last conversation.

        user_utility, assistant_utility: U and L.  welfare: of both, by the environment's welfare
        function.  worse_utility: min(U, L).  user_net_utility: U minus the cost of writing.
        accuracy.  words: written by the assistant, hundreds.  vague_share, direct_share,
        clarify_share, answer_and_ask_share.  Where payoffs are estimated, estimate_error: root mean
        square error; asymmetry_score: GTAlign's Pay of the estimates.
        """
        shares = {
            f"{name}_share": mean((state.act == act).to(state.cue.dtype), 1)
            for name, act in (
                ("direct", DIRECT),
                ("clarify", CLARIFY),
                ("answer_and_ask", ANSWER_AND_ASK),
            )
        }
        estimates: dict[str, Tensor] = {}
        if self.estimates_payoffs:
            truth = self.task.payoff_matrix(self.answer_words, self.costs(state))
            error = state.estimates - truth
            estimates["estimate_error"] = mean(mean(error * error, 2), 1).sqrt()
            estimates["asymmetry_score"] = mean(asymmetry_score(state.estimates), 1)
        return {
            "user_utility": mean(state.user, 1),
            "assistant_utility": mean(state.assistant, 1),
            "welfare": mean(self.welfare.value(state.user, state.assistant), 1),
            "worse_utility": mean(torch.minimum(state.user, state.assistant), 1),
            "user_net_utility": mean(state.user - state.paid_cost, 1),
            "accuracy": mean(state.accuracy, 1),
            "words": mean(state.total_words, 1),
            "vague_share": mean(state.is_vague, 1),
            **shares,
            **estimates,
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares, accuracies and rank correlations."""
        own = ("accuracy", "vague_share", "direct_share", "clarify_share", "answer_and_ask_share")
        bounds = dict.fromkeys((*own, "asymmetry_score"), (0.0, 1.0))
        return bounds | welfare_evaluation.metric_bounds()

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """See `welfare_evaluation`."""
        return welfare_evaluation.metric_names(self.estimates_payoffs)

    def policy_queries(self, state: WelfareState) -> Mapping[str, PolicyQuery]:
        """See `welfare_evaluation`."""
        return welfare_evaluation.queries(self, state)

    def policy_metrics(
        self, state: WelfareState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Exact values of policies: see `welfare_evaluation.metrics`."""
        return welfare_evaluation.metrics(self, state, answers)

    @property
    def elements_per_world(self) -> int:
        """Exact metrics evaluate all lengths of the grid for every user, cue, request and act."""
        return self.num_users * welfare_evaluation.ELEMENTS_PER_USER

    def latent(self, state: WelfareState) -> Mapping[str, Tensor]:
        """The form of each request, and its true payoffs."""
        truth = self.task.payoff_matrix(self.answer_words, self.costs(state))
        return {"is_vague": state.is_vague, "payoffs": truth}

    def render(self, state: WelfareState, world: int = 0) -> str:
        """The last conversation of the first users, and the means of all."""
        return welfare_text.describe(self, state, world)

    def analytic_values(self, policies: Mapping[str, Any], rounds: int) -> Mapping[str, float]:
        """Closed forms for a `cue_assistant`.

        best_response_vague_share: share of vague requests if users, equal in their costs, respond
        best to it (`mores.envs.strategic.welfare_values`).
        """
        assistant = policies.get("assistant")
        if not isinstance(assistant, CueAssistant) or self._differing:
            return {}
        words = assistant.words if self.choose_length else self.answer_words
        share = best_response_vague_share(
            self.task,
            (assistant.on_definite, assistant.on_vague),
            min(words, self.max_words) if self.choose_length else words,
            (self.delay_cost, self.reading_cost),
            self.cue_accuracy,
            self.max_writing_cost,
        )
        return {"best_response_vague_share": share}

    def default_policies(self) -> Mapping[str, Any]:
        """Users with a threshold, and the assistant that is optimal against them."""
        threshold = 0.2
        low, high = self.lengths
        planner = {
            "kind": "welfare_planner",
            "task": self.task.model_dump(mode="json"),
            "welfare": registry.to_spec("welfare", self.welfare),
            "vague_share": 1.0 - min(threshold / self.max_writing_cost, 1.0),
            "cue_accuracy": self.cue_accuracy,
            "shortest": low,
            "longest": high,
            "can_ask": self.can_ask,
            "task_words": self.answer_words,
        }
        user = {"kind": "threshold_writer", "threshold": threshold}
        return {"user": user, "assistant": planner}


if __name__ == "__main__":
    from mores.sim.demo import show

    show(WelfareGame())
