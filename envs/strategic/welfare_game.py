"""Welfare game: users write definite or vague requests, an assistant answers or asks.

After GTAlign (arXiv 2510.08872), which trains a language model on the Cobb-Douglas welfare of user
and assistant in such games. Payoffs here come from a model of the task (`welfare_task`), not from
the model that plays; exact values of policies are in `welfare_evaluation`, closed forms in
`welfare_values` and `answer_length`.

Demo: `python -m mores.envs.strategic.welfare_game`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mores import registry
from mores.core.deterministic_sum import mean
from mores.core.environment import Environment, Phase, PolicyQuery, Role, StepResult
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.person_parameters import add_parameters
from mores.core.plain_text import read_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.turn_text import TurnText
from mores.envs.strategic import welfare_evaluation, welfare_text
from mores.envs.strategic import welfare_turn_text as texts
from mores.envs.strategic.payoff_matrices import asymmetry_score
from mores.envs.strategic.welfare_parameters import NUM_CELLS, WelfareParameters, WelfareState
from mores.envs.strategic.welfare_policies import CueAssistant
from mores.envs.strategic.welfare_task import ACTS, ANSWER_AND_ASK, NUM_ACTS
from mores.envs.strategic.welfare_values import best_response_vague_share


class WelfareGame(WelfareParameters, Environment[WelfareState]):
    """Bayesian game of users, who write definite or vague requests, and an assistant.

    Description:
        Each user makes a request in every round. A definite request costs effort, which differs
        between requests; a vague request is answered worse. The assistant observes a noisy cue of
        the request's form and answers at once, asks first, or answers with a follow-up question;
        then it chooses the length of its answers. It is rewarded by a welfare function of both
        utilities. Payoffs follow from accuracy, delay, words and price. Left out: the content of
        requests and answers, users who leave or who do not reply, memory between requests, and
        what an assistant may learn from a user's earlier requests.

    Roles:
        user (`num_users`), assistant (`num_users`: one conversation with each user) and composer
        (`num_users`): the part of the assistant that determines the length of answers and, where
        payoffs are estimated, the estimates. It exists if one of them is chosen. A role has one
        action space, so the assistant is two roles.

    Observation:
        user       writing_cost  1  [0, inf)  cost of making the next request definite, utility
        user       delay_cost    1  [0, inf)  own cost of an additional turn, utility
        user       reading_cost  1  [0, inf)  own cost of reading, utility per hundred words
        assistant  cue           1  [0, 1]    1: the request looks vague; 0 before a request
        assistant  delay_cost, reading_cost: those of its user
        assistant  price         1  [0, inf)  cost of writing, utility per hundred words
        composer   act           3  [0, 1]    one-hot: act of the assistant; zeros before it acts
        composer   cue, delay_cost, reading_cost, price: as the assistant

    Action:
        user, phase write: 0 a vague request, 1 a definite one.
        assistant, phase respond: 0 answer directly, 1 clarify, 2 answer and ask (masked without
        `can_ask`).
        composer, phase compose: `words` (with `choose_length`; else `answer_words`), length of an
        answer, 0 to `max_words` hundred; `payoffs` (with `estimate_accuracy_weight` or
        `asymmetry_weight`), 12 numbers in [-2, 2] in the order of `WelfareTask.payoff_matrix`.

    Reward:
        user: U, minus the cost of a definite request. assistant and composer: `welfare` of U and L.
        composer also: minus `estimate_accuracy_weight` times the mean squared error of its
        estimates, plus `asymmetry_weight` times GTAlign's `Pay` of them. U and L: see
        `welfare_task`. With `reward_source: random` they are those of a conversation in which
        request, act, length and estimates are uniformly random: nothing can be learned from them.

    Dynamics:
        The cost of writing is uniform on [0, `max_writing_cost`], new for every request. The cue is
        right with probability `cue_accuracy`. Costs of people are constant in an episode.

    Start:
        Costs of people: constants, or a sample for each person.

    End:
        Never (truncation only).

    Parameters:
        See the fields: each has its range and meaning. `delay_cost`, `reading_cost` and `price` may
        be person parameters. The price is observed: a trained policy can be tested at other prices.

    References:
        GTAlign, arXiv 2510.08872, and its official code (acts, welfare, length windows). Payoffs,
        writing costs and the cue are assumptions made here, not fitted to data.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": "2 or 3",
        "changes": "conversations",
        "stochastic": True,
        "masks": True,
        "paper": "2510.08872",
    }
    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "exact_words_by_price": ("grid_price",)
    }
    solver_values: ClassVar[frozenset[str]] = frozenset({"best_response_vague_share"})

    @property
    def roles(self) -> tuple[Role, ...]:
        """`user`, `assistant`, and `composer` if there is something to compose."""
        cost, bit = Part(1, 0.0), Part(1, 0.0, 1.0)
        own = {"delay_cost": cost, "reading_cost": cost}
        user = Role("user", self.num_users, Box.of(writing_cost=cost, **own))
        seen = {"cue": bit, **own, "price": cost}
        assistant = Role("assistant", self.num_users, Box.of(**seen))
        act = Part(NUM_ACTS, 0.0, 1.0)
        composer = Role("composer", self.num_users, Box.of(**seen, act=act))
        return (user, assistant, composer) if self.composes else (user, assistant)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`write`, `respond`, and `compose` if there is something to compose."""
        parts: dict[str, Part] = {}
        if self.choose_length:
            parts["words"] = Part(1, 0.0, self.max_words)
        if self.estimates_payoffs:
            parts["payoffs"] = Part(NUM_CELLS, -2.0, 2.0)
        compose = Phase("compose", {"composer": Box.of(**parts)})
        return (
            Phase("write", {"user": Discrete(2)}),
            Phase("respond", {"assistant": Discrete(NUM_ACTS)}),
            *([compose] if parts else []),
        )

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
        if self.differing:
            traits = add_parameters(People(zeros[..., None]), self.differing, streams).traits
        none = zeros.to(torch.int64) - 1
        estimates = zeros[..., None].expand(-1, -1, NUM_CELLS).clone()
        unused = dict.fromkeys(
            ("paid_cost", "is_vague", "cue", "words", "user", "assistant", "accuracy"), zeros
        )
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
        seen = torch.stack([state.cue, *costs], -1)
        if role == "assistant":
            return seen
        act = functional.one_hot(state.act + 1, NUM_ACTS + 1)[..., 1:].to(seen.dtype)
        return torch.cat([seen, act], -1)

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
        if phase == "respond":
            state = dataclasses.replace(
                state,
                act=actions["assistant"].to(torch.int64),
                words=torch.full_like(state.words, self.answer_words),
            )
            return StepResult(state) if self.composes else self._converse(state, streams)
        composed = actions["composer"]
        if self.choose_length:
            words = composed[..., 0].clamp(0.0, self.max_words)
            state = dataclasses.replace(state, words=words)
        if self.estimates_payoffs:
            estimates = composed[..., -NUM_CELLS:].clamp(-2.0, 2.0)
            state = dataclasses.replace(state, estimates=estimates)
        return self._converse(state, streams)

    def _write(self, state: WelfareState, definite: Tensor, streams: RandomStreams) -> WelfareState:
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
        """Reward of payoff estimates."""
        truth = self.task.payoff_matrix(self.answer_words, self.costs(state))
        error = estimates - truth
        accuracy = -self.estimate_accuracy_weight * mean(error * error, -1)
        return accuracy + self.asymmetry_weight * asymmetry_score(estimates)

    def _converse(self, state: WelfareState, streams: RandomStreams) -> StepResult[WelfareState]:
        """The conversation, its rewards, and the cost of the next request."""
        costs, draws, paid_estimates = self.costs(state), None, state.estimates
        if self.drawn_outcomes:
            numbers = streams.uniform("answer", self.num_users, 2)
            draws = (numbers[..., 0], numbers[..., 1])
        outcome = self.task.outcome(state.is_vague, state.act, state.words, costs, draws)
        paid_cost, paid = state.paid_cost, outcome
        if self.reward_source == "random":
            size = 3 + (NUM_CELLS if self.estimates_payoffs else 0)
            numbers = streams.uniform("option", self.num_users, size)
            is_vague = (numbers[..., 0] < 0.5).to(numbers.dtype)
            num_acts = NUM_ACTS if self.can_ask else NUM_ACTS - 1
            act = (num_acts * numbers[..., 1]).to(torch.int64)
            low, high = self.lengths
            words = low + (high - low) * numbers[..., 2]
            paid = self.task.outcome(is_vague, act, words, costs, draws)
            paid_cost = state.writing_cost * (1.0 - is_vague)
            paid_estimates = 4.0 * numbers[..., 3:] - 2.0
        welfare = self.welfare.value(paid.user, paid.assistant)
        reward = {"user": paid.user - paid_cost, "assistant": welfare}
        if self.composes:
            reward["composer"] = welfare
            if self.estimates_payoffs:
                reward["composer"] = welfare + self._estimate_reward(state, paid_estimates)
        next_cost = streams.uniform("cost", self.num_users)[..., 0]
        next_state = dataclasses.replace(
            state,
            writing_cost=self.max_writing_cost * next_cost,
            user=outcome.user,
            assistant=outcome.assistant,
            accuracy=outcome.accuracy,
            total_words=outcome.words,
            requests=state.requests + 1,
        )
        return StepResult(next_state, reward)

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
            for act, name in enumerate(ACTS)
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

    def role_rules(self, role: str) -> str:
        """Requests, answers, costs and the reward."""
        if role == "user":
            return texts.user_rules(self.task, self.can_ask, self.max_writing_cost)
        estimates = (self.estimate_accuracy_weight, self.asymmetry_weight)
        settings = (self.welfare, self.cue_accuracy, estimates)
        return texts.assistant_rules(role, self.task, *settings)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Costs and the look of the request, and request, act or length."""
        spaces = {each.name: each.observation_space for each in self.roles}
        seen = read_parts(spaces[role], observation)
        if role == "user":
            return texts.user_turn(seen)
        if role == "assistant":
            return texts.assistant_turn(seen)
        max_words = self.max_words if self.choose_length else None
        return texts.composer_turn(seen, max_words, self.estimates_payoffs)

    def render(self, state: WelfareState, world: int = 0) -> str:
        """The last conversation of the first users, and the means of all."""
        return welfare_text.describe(self, state, self.metrics(state), world)

    def analytic_values(self, policies: Mapping[str, Any], rounds: int) -> Mapping[str, float]:
        """Closed forms for a `cue_assistant`.

        best_response_vague_share: share of vague requests if users, equal in their costs, respond
        best to it (`mores.envs.strategic.welfare_values`).
        """
        assistant = policies.get("assistant")
        if not isinstance(assistant, CueAssistant) or self.differing:
            return {}
        words, composer = self.answer_words, policies.get("composer")
        if self.choose_length:
            if not isinstance(composer, CueAssistant):
                return {}
            words = min(composer.words, self.max_words)
        share = best_response_vague_share(
            self.task,
            (assistant.on_definite, assistant.on_vague),
            words,
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
            "drawn_outcomes": self.drawn_outcomes,
        }
        user = {"kind": "threshold_writer", "threshold": threshold}
        policies: dict[str, Any] = {"user": user, "assistant": planner}
        return {**policies, "composer": planner} if self.composes else policies


if __name__ == "__main__":
    from mores.sim.demo import show

    show(WelfareGame())
