"""Requests: an assistant answers word by word, and supervisors say what they think of it.

A toy language in which everything that people can say of an answer is there at once: rewards by
principals who may value words differently, choices between two answers by annotators who err,
judgements that name what is wrong with an answer, and demonstrations of better ones. Learners from
any of these meet on the same requests, and the truth is known: which words are inappropriate, and
what the best answer is worth. Rules are in `mores.envs.dynamics`, by name `answers`, `supervisors`;
what the world is and what it is not: docs/explanation/requests.md.

Run `python -m mores.envs.feedback.token_feedback` to watch it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import Box, Discrete, Environment, Part, Phase, Policy, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.feedback import token_completions as rules
from mores.envs.feedback.random_token_policy import (
    RandomTokenPolicy,
    random_policy_metrics,
    random_policy_recall,
)
from mores.envs.feedback.token_completions import NO_TOKEN
from mores.envs.feedback.token_supervisors import Supervisors

ASSISTANT = "assistant"


@dataclasses.dataclass(frozen=True)
class TokenTask:
    """What is learned: the same in all worlds, stages and episodes of a replicate."""

    preference_weights: Float[Tensor, "world principal word feature"]
    harm_weights: Float[Tensor, "world word feature"]


@dataclasses.dataclass(frozen=True)
class TokenFeedbackState:
    """A request, and the answers to it so far."""

    prompt: Float[Tensor, "world feature"]
    token_utility: Float[Tensor, "world principal word"]
    inappropriate: Bool[Tensor, "world word"]
    tokens: Int[Tensor, "world agent step"]  # words by number; UNSAID where there is none yet
    num_tokens: Int[Tensor, " world"]  # words so far
    critique: Float[Tensor, "world agent word"]  # of complete answers; 0 before
    flags: Float[Tensor, "world agent step"]  # of the review of complete answers; 0 before


class TokenFeedback(Environment[TokenFeedbackState]):
    """Seats that answer a request word by word, and are told what others think of the answers.

    Description:
        All seats of a world answer one request, a word a round. They are spoken of once complete.

    Roles:
        assistant (`num_completions`).

    Observation:
        `prompt`: its features, no bounds.  `answer`: one's own words so far, `completion_length` times a mark
        at one of `words`, step by step.  `judgement`: a number in [0, 1] a word, 0 while answering;
        in the phase `review` of the last round what was criticised in one's answer.
        `Role.observation_model` gives the next sight from this one and one's word.

    Action:
        assistant, phase `answer`: the number of a word.
        assistant, phase `review` (with `review`): `flags` in [0, 1], one for each of one's words in
        order: whether one takes it to have been criticised. Only those of the last round count.
        No outside client takes choices and numbers in one seat: with `review`, players sit inside.

    Reward:
        A principal's reward of an answer is the mean over its words of the principal's liking, as
        far as a word is new in the answer, minus `penalty` times the share of its words that are
        inappropriate. A seat earns the mean of that over principals by `weights`, at the end, or
        word by word with the same sum. An answer that is cut off before its end earns what was
        paid until then, and hears nothing.

    Feedback:
        With an answer's last word, by names, `[world, agent, ...]`. Where worlds are not all at
        their last word it means nothing in the others.
        reward [K]: to each principal.
        preferred: whether it was preferred to the other one of its pair, seats 2i and 2i + 1. A
        supervisor chooses by `rationality` and the seats' rewards; an annotator writes that down,
        or, with an error rate, the other one.
        annotator: the number of that annotator.
        judgement [words]: 1 for each word criticised in the answer; with `judgement: bit` all of
        them are 1 if any was, else 0.
        demonstration [length]: words by which a principal would have answered the request.
        demonstration_reward [K], demonstration_worth: what that is worth to each principal, and
        what a seat would have earned with it.
        principal: the number of who demonstrated, drawn evenly.

    Dynamics:
        Requests do not depend on answers. Nobody's tastes move.

    Start:
        Request normal, independent from one world and episode to the next. Tastes and harms of
        words are the same in all worlds, stages and episodes of a replicate, and whatever the
        run's seed is: another `task_seed` draws others.

    End:
        After `completion_length` rounds.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        A world of our own. Learners that meet here: GRAO (arXiv 2508.07750), CUT (2312.14591), ADPA
        (2502.17927), DPO (2305.18290). None of these papers describes this world.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": "1 or 2",
        "moves": None,
        "stochastic": True,
        "feedback": True,
    }

    num_completions: int = Field(
        default=8, ge=2, le=10_000, multiple_of=2, description="answers to a request: seats, paired"
    )
    vocab_size: int = Field(default=12, ge=2, le=1_000, description="words that there are")
    completion_length: int = Field(
        default=6, ge=1, le=1_000, description="words of an answer, at most all"
    )
    num_prompt_features: int = Field(
        default=4, ge=1, le=1_000, description="numbers that describe a request"
    )
    task_seed: int = Field(default=0, ge=0, description="which tastes and harms replicates have")

    num_principals: int = Field(default=1, ge=1, le=100, description="whom answers are for")
    conflict: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the variance of tastes that is a principal's own",
    )
    principal_weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(), description="of the principals in a seat's reward; none given: all alike"
    )
    inappropriate_vocab_share: float = Field(
        default=0.3, ge=0, le=1, description="share of words, rounded, inappropriate for a request"
    )
    penalty: float = Field(
        default=1.0, ge=0, le=1e6, description="cost of an inappropriate word, in units of liking"
    )
    reward_timing: Literal["terminal", "per_token"] = Field(
        default="terminal", description="whether rewards are paid at the end or word by word"
    )

    rationality: float = Field(
        default=5.0, ge=0, le=1e9, description="of choices between answers, 1/reward"
    )
    annotator_error_rates: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.1,), min_length=1, description="how often each annotator writes the other answer"
    )
    critique_detail: Literal["per_token", "binary"] = Field(
        default="per_token", description="whether judgements name words, or say only that some is wrong"
    )
    detection_rate: float = Field(
        default=0.9, ge=0, le=1, description="probability that an inappropriate word is criticised"
    )
    false_alarm_rate: float = Field(
        default=0.05, ge=0, le=1, description="probability that another word is criticised"
    )
    demonstration_rationality: float = Field(
        default=5.0, ge=0, le=1e9, description="of the words of demonstrations, 1/liking"
    )
    demonstration_error_rate: float = Field(
        default=0.1, ge=0, le=1, description="probability that any word takes one's place in them"
    )
    review: bool = Field(
        default=False, description="whether assistants say which of their words were criticised"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        if self.completion_length > self.vocab_size:
            raise ParameterError(
                message=f"length is at most the number of words, {self.vocab_size}", code="conflict"
            )
        if self.principal_weights and len(self.principal_weights) != self.num_principals:
            raise ParameterError(
                message=f"weights: one for each of {self.num_principals} principals",
                code="wrong_shape",
            )
        if self.principal_weights and sum(self.principal_weights) <= 0:
            raise ParameterError("principal_weights", message="weights are not all 0", code="invalid_value")

    # --- what is fixed ---------------------------------------------------------------------------

    @functools.cached_property
    def _normalized_weights(self) -> tuple[float, ...]:
        """How much each principal counts; sums to 1."""
        weights = self.principal_weights or (1.0,) * self.num_principals
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def num_inappropriate_tokens(self) -> int:
        """How many words are inappropriate for a request."""
        return round(self.inappropriate_vocab_share * self.vocab_size)

    @functools.cached_property
    def _observation_space(self) -> Box:
        mark = Part(self.completion_length * self.vocab_size, 0.0, 1.0)
        return Box.of(
            prompt=self.num_prompt_features, completion=mark, critique=Part(self.vocab_size, 0.0, 1.0)
        )

    @functools.cached_property
    def _supervisors(self) -> Supervisors:
        return Supervisors(
            penalty=self.penalty,
            rationality=self.rationality,
            annotator_error_rates=self.annotator_error_rates,
            critique_per_token=self.critique_detail == "per_token",
            detection_rate=self.detection_rate,
            false_alarm_rate=self.false_alarm_rate,
            demonstration_rationality=self.demonstration_rationality,
            demonstration_error_rate=self.demonstration_error_rate,
        )

    @property
    def roles(self) -> tuple[Role, ...]:
        """`assistant`."""
        return (
            Role(ASSISTANT, self.num_completions, self._observation_space, self.next_observation),
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`answer`, then `review` where there is one."""
        answer = Phase("answer", {ASSISTANT: Discrete(self.vocab_size)})
        flags = Box.of(flags=Part(self.completion_length, 0.0, 1.0))
        return (answer, Phase("review", {ASSISTANT: flags})) if self.review else (answer,)

    @property
    def elements_per_world(self) -> int:
        """Sights, the noise of demonstrations, and the task as it is drawn."""
        per_answer = self._observation_space.size + 3 * self.completion_length * self.vocab_size
        return (
            self.num_completions * per_answer
            + 2 * (self.num_principals + 1) * self.vocab_size * self.num_prompt_features
        )

    def sample_tasks(self, streams: RandomStreams) -> TokenTask:
        """The task of each world's replicate."""
        replicates = Worlds(streams.replicate, torch.zeros_like(streams.replicate))
        own = RandomStreams.of(self.task_seed, replicates, device=streams.device).child("requests")
        words, features = self.vocab_size, self.num_prompt_features
        shared = own.normal("shared taste", words, features)
        apart = own.normal("taste", self.num_principals * words, features)
        apart = apart.unflatten(1, (self.num_principals, words))
        common, private = math.sqrt(1.0 - self.conflict), math.sqrt(self.conflict)
        tastes = common * shared[:, None] + private * apart
        return TokenTask(tastes, own.normal("harm", words, features))

    # --- the game --------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> TokenFeedbackState:
        """A new request, and nothing said."""
        if people is not None:
            raise UserError(
                "requests takes no people from a population: principals have tastes",
                code="unsupported",
                path="people",
            )
        request = streams.normal("request", 1, self.num_prompt_features)[:, 0]
        task = self.sample_tasks(streams)
        harm = rules.token_utilities(task.harm_weights, request)
        steps = request.new_zeros(streams.num_worlds, self.num_completions, self.completion_length)
        return TokenFeedbackState(
            prompt=request,
            token_utility=rules.token_utilities(task.preference_weights, request),
            inappropriate=rules.top_k_mask(harm, self.num_inappropriate_tokens),
            tokens=torch.full_like(steps, NO_TOKEN, dtype=torch.int64),
            num_tokens=torch.zeros(streams.num_worlds, dtype=torch.int64, device=streams.device),
            critique=request.new_zeros(*steps.shape[:2], self.vocab_size),
            flags=steps,
        )

    def observe(self, state: TokenFeedbackState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        judgement = state.critique
        return self._observation_space.join(
            prompt=state.prompt[:, None].expand(-1, self.num_completions, -1),
            completion=rules.one_hot_tokens(state.tokens, self.vocab_size).flatten(2),
            critique=judgement if phase == "review" else torch.zeros_like(judgement),
        )

    def next_observation(
        self, observation: Float[Tensor, "*some size"], token: Tensor
    ) -> Float[Tensor, "*some size"]:
        """What one sees after a word, `[...]`, when one saw that; a complete answer stays."""
        answer = self._observation_space.read(observation, "completion").unflatten(
            -1, (self.completion_length, self.vocab_size)
        )
        return self._observation_space.join(
            prompt=self._observation_space.read(observation, "prompt"),
            completion=rules.append_token(answer, token.long()).flatten(-2),
            critique=self._observation_space.read(observation, "critique"),
        )

    def step(
        self,
        state: TokenFeedbackState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[TokenFeedbackState]:
        """One more word; after the last one supervisors speak, and flags may be raised."""
        complete = state.num_tokens >= self.completion_length
        if phase == "review":
            flags = torch.where(complete[:, None, None], actions[ASSISTANT], state.flags)
            return StepResult(dataclasses.replace(state, flags=flags), terminated=complete)
        here = (
            torch.arange(self.completion_length, device=state.tokens.device)
            == state.num_tokens[:, None]
        )
        said = torch.where(here[:, None], actions[ASSISTANT][..., None].long(), state.tokens)
        after = dataclasses.replace(
            state, tokens=said, num_tokens=state.num_tokens + (~complete).long()
        )
        over = after.num_tokens >= self.completion_length
        last = over & ~complete
        earned = self._completion_scores(after)
        if self.reward_timing == "per_token":
            reward = earned - self._completion_scores(state)
        else:
            reward = torch.where(last[:, None], earned, 0.0)
        feedback: dict[str, Mapping[str, Tensor]] = {}
        if bool(last.any()):
            answer = rules.one_hot_tokens(said, self.vocab_size)
            told = self._supervisors.feedback(
                answer, state.token_utility, state.inappropriate, earned, streams
            )
            told["demonstration_return"] = self._principal_mean(told["demonstration_reward"], 2)
            judgement = torch.where(last[:, None, None], told["critique"], state.critique)
            after = dataclasses.replace(after, critique=judgement)
            feedback = {ASSISTANT: told}
        return StepResult(after, {ASSISTANT: reward}, over, feedback)

    def _completion_scores(self, state: TokenFeedbackState) -> Float[Tensor, "world agent"]:
        """What the seats' answers are worth so far."""
        answer = rules.one_hot_tokens(state.tokens, self.vocab_size)
        worth = rules.completion_reward(
            answer, state.token_utility, state.inappropriate, self.penalty
        )
        return self._principal_mean(worth, 2)

    def _principal_mean(self, x: Tensor, dim: int) -> Tensor:
        """Weighted mean over the principals."""
        shares = torch.tensor(self._normalized_weights, device=x.device)
        return total(x * shares.view(-1, *[1] * (x.dim() - dim - 1)), dim)

    # --- what is reported ------------------------------------------------------------------------

    def metrics(self, state: TokenFeedbackState) -> Mapping[str, Tensor]:
        """Means over the seats of a world; of the words so far, where answers are not complete.

        score: reward of a seat if nothing more were said.  principal_scores: to each principal.
        worst_principal: the lowest of these.  inappropriate_share: of the words said.  optimum: the
        most that an answer to this request can earn, exactly.  regret: optimum less score.
        diversity: different words by words said, within an answer.  variety: probability that two
        seats say different words at the same step. Both are 1 before any word is said.
        With `review`: flagged, share of words whose flag is above .5; detection_precision, share of
        flagged words that are inappropriate, 1 if none is flagged; detection_recall, share of
        inappropriate words that are flagged, 1 if none was said: both over all seats of the world.
        """
        answer = rules.one_hot_tokens(state.tokens, self.vocab_size)
        worth = rules.completion_reward(
            answer, state.token_utility, state.inappropriate, self.penalty
        )
        principals = mean(worth, 1)
        score = self._principal_mean(principals, 1)
        liking = self._principal_mean(state.token_utility, 1)
        best = rules.optimal_reward(
            liking, state.inappropriate, self.penalty, self.completion_length
        )
        wrong = total(answer * state.inappropriate[:, None, None].to(worth.dtype), -1)
        found = {
            "score": score,
            "score_by_principal": principals,
            "worst_principal_score": principals.amin(-1),
            "inappropriate_share": mean(total(wrong, -1), 1) / state.num_tokens.clamp(min=1),
            "optimal_score": best,
            "regret": best - score,
            "distinct_1": rules.distinct_1(answer),
            "pairwise_diversity": rules.pairwise_diversity(answer),
        }
        return found | (rules.detection_metrics(state.flags > 0.5, wrong) if self.review else {})

    def latent(self, state: TokenFeedbackState) -> Mapping[str, Tensor]:
        """How much each principal likes each word, and which words are inappropriate."""
        return {"token_utility": state.token_utility, "inappropriate": state.inappropriate}

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """Exact means over requests of a `RandomTokenPolicy`'s measures, after each number of rounds.

        score, inappropriate_share, diversity, variety; with `review` and judgements that name
        words, detection_recall.
        """
        if not isinstance(policies.get(ASSISTANT), RandomTokenPolicy):
            return {}
        wrong = self.num_inappropriate_tokens
        found = random_policy_metrics(
            self.vocab_size, wrong, self.completion_length, self.penalty, rounds
        )
        if self.review and self.critique_detail == "per_token":
            share, seats = wrong / self.vocab_size, self.num_completions
            found["detection_recall"] = random_policy_recall(
                share, seats, self.completion_length, self.detection_rate, rounds
            )
        return found

    def min_rounds_message(self, rounds: int) -> str:
        """Of an answer that is cut off nothing is said."""
        shorter = f"{rounds} is shorter than an answer, length {self.completion_length}"
        return shorter if rounds < self.completion_length else ""

    def default_policies(self) -> Mapping[str, Policy]:
        """Assistants that say anything."""
        return {ASSISTANT: RandomTokenPolicy()}


if __name__ == "__main__":
    from mores.sim.demo import show

    show(TokenFeedback(num_principals=2, conflict=0.5, review=True), rounds=6)
