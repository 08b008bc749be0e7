"""Token feedback: assistants complete a prompt token by token and receive human feedback on it.

A synthetic language with all kinds of feedback on the same completions: rewards of principals with
different utilities, pairwise preferences recorded by annotators with errors, critiques that name
inappropriate tokens, and demonstrations. Learners from different feedback are compared on the same
prompts, and the ground truth is known: inappropriate tokens and the optimal reward. Formulas:
`token_completions` and `mores.agents.channels`; limitations: docs/explanation/token_feedback.md.

Demo: `python -m mores.envs.feedback.token_feedback`.
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

from mores.core.channel import Channel, TokenNaming, give_feedback, require_channel
from mores.core.deterministic_sum import mean, total
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.plain_text import read_parts
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams, Worlds, uniform_index
from mores.core.spaces import Box, Discrete, Part
from mores.core.stream_addresses import (
    INAPPROPRIATE,
    PROMPT,
    RANDOM_COMPLETION,
    SHARED_UTILITY,
    TASK,
    TOKEN_UTILITY,
)
from mores.core.turn_text import TurnText
from mores.envs.feedback import token_completions as completions
from mores.envs.feedback import token_feedback_text as texts
from mores.envs.feedback.random_token_policy import (
    RandomTokenPolicy,
    random_policy_metrics,
    random_policy_recall,
)
from mores.envs.feedback.token_completions import NO_TOKEN
from mores.registry.component import component

ASSISTANT = "assistant"
CHANNEL_OUTPUTS = {  # names of the feedback that each channel gives; the first is required
    "choice": ("preferred", "annotator"),
    "critique": ("critique",),
    "demonstration": ("demonstration", "principal"),
    "rating": ("reward",),
}


@dataclasses.dataclass(frozen=True)
class TokenTask:
    """Weights of utilities, equal in all worlds, stages and episodes of a replicate."""

    preference_weights: Float[Tensor, "world principal token feature"]
    harm_weights: Float[Tensor, "world token feature"]


@dataclasses.dataclass(frozen=True)
class TokenFeedbackState:
    """A prompt, and its completions so far."""

    prompt: Float[Tensor, "world feature"]
    token_utility: Float[Tensor, "world principal token"]
    inappropriate: Bool[Tensor, "world token"]
    tokens: Int[Tensor, "world agent step"]  # indices; NO_TOKEN where missing
    num_tokens: Int[Tensor, " world"]  # so far
    critique: Float[Tensor, "world agent token"]  # of the complete ones; 0 before
    flags: Float[Tensor, "world agent step"]  # of their review; 0 before


MAX_KEPT_WEIGHTS = 2**22  # of tasks, over all replicates


class TokenFeedback(Environment[TokenFeedbackState]):
    """Completion of a prompt token by token, with rewards and feedback on the result.

    Description:
        All agents of a world complete one prompt, one token per round, and receive feedback on the
        complete result. Left out: grammar, meaning, long context, variable length, the end-of-text
        token, learning supervisors, and prompts that depend on earlier completions.

    Roles:
        assistant (`num_completions`, even).

    Observation (L = `completion_length`, V = `vocab_size`, F = `num_prompt_features`):
        prompt      F    any     features of the prompt
        completion  L*V  [0, 1]  own tokens so far, one-hot by step; zeros where there is none
        critique    V    [0, 1]  zeros in `answer`; in `review` of the last round the criticized
                                 tokens of the own completion
        `Role.observation_model` maps an observation and a token to the next observation.

    Action:
        assistant, phase answer: index of a token, below V.
        assistant, phase review (with `review`): `flags`, L numbers in [0, 1], predictions of which
        own tokens were criticized. Only those of the last round count. External clients support
        one kind of action per agent: with `review` policies must be internal.

    Reward (utility units):
        Principal k: (sum of utilities of distinct tokens - penalty * number of inappropriate
        tokens) / L. Agents receive the mean over principals by `principal_weights`, at the end or
        per token with the same sum. A truncated completion gets no feedback.
        With `reward_source: random` all rewards, ratings and preferences are those of completions
        of uniform random tokens, one for each agent: a signal of the usual size without information
        on actions, for ablations. Metrics are of the agents' own completions.

    Feedback (training signals with the last token, `[world, agent, ...]`; K = `num_principals`;
    undefined in worlds that are not at their last token):
        reward [K]                to each principal; with a channel `rating` [1], the rating
        preferred                 whether preferred in the pair of agents 2i and 2i + 1, by the
                                  channel `choice`, whose options have their rewards as utilities
        annotator                 index of the annotator, if the channel gives it
        critique [V]              1 for criticized tokens, by the channel `critique`
        demonstration [L]         tokens of a principal's demonstration for the prompt, by the
                                  channel `demonstration`
        demonstration_reward [K]  its reward to each principal
        demonstration_return      its mean by `principal_weights`
        principal                 index of the demonstrating principal, if the channel gives it

    Dynamics:
        Prompts are independent of completions. Utilities are constant.

    Start:
        Prompt normal, independent between worlds and episodes. Utility and harm weights are equal
        in all worlds, stages and episodes of a replicate and independent of the run's seed;
        `task_seed` changes them.

    End:
        After `completion_length` rounds.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        Designed for mores. Learners compared here: GRAO (arXiv 2508.07750), CUT (2312.14591), ADPA
        (2502.17927), DPO (2305.18290). None of these papers describes this environment.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": "1 or 2",
        "changes": None,
        "stochastic": True,
        "feedback": True,
    }

    num_completions: int = Field(
        default=8, ge=2, le=10_000, multiple_of=2, description="completions (agents), paired"
    )
    vocab_size: int = Field(
        default=12, ge=2, le=1_000, description="number of tokens in the vocabulary"
    )
    completion_length: int = Field(
        default=6, ge=1, le=1_000, description="tokens per completion, at most vocab_size"
    )
    num_prompt_features: int = Field(default=4, ge=1, le=1_000, description="features of a prompt")
    task_seed: int = Field(default=0, ge=0, description="seed of utility and harm weights")

    num_principals: int = Field(default=1, ge=1, le=100, description="number of principals")
    conflict: float = Field(
        default=0.0, ge=0, le=1, description="share of utility variance specific to a principal"
    )
    principal_weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(), description="of principals in the reward; empty: equal"
    )
    inappropriate_vocab_share: float = Field(
        default=0.3, ge=0, le=1, description="share of inappropriate tokens, rounded"
    )
    penalty: float = Field(
        default=1.0, ge=0, le=1e6, description="cost of an inappropriate token, utility units"
    )
    reward_timing: Literal["terminal", "per_token"] = Field(
        default="terminal", description="reward at the end or after each token"
    )
    reward_source: Literal["own", "random"] = Field(
        default="own",
        description="completion that is rewarded: the agent's own, or one of independent uniform "
        "tokens, so that rewards and preferences have no information on actions (an ablation)",
    )

    choice: Annotated[Channel, component("channel")] = Field(
        default="bradley_terry",
        validate_default=True,
        description="channel of preferences in a pair, by reward",
    )
    critique: Annotated[Channel, component("channel")] = Field(
        default="token_critique", validate_default=True, description="channel of critiques"
    )
    demonstration: Annotated[Channel, component("channel")] = Field(
        default="demonstration", validate_default=True, description="channel of demonstrations"
    )
    rating: Annotated[Channel, component("channel")] | None = Field(
        default=None, description="channel of ratings, given in place of exact rewards; null: none"
    )
    review: bool = Field(
        default=False, description="whether assistants predict the criticized tokens"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        if self.completion_length > self.vocab_size:
            raise ParameterError(
                message=f"completion_length exceeds vocab_size, {self.vocab_size}", code="conflict"
            )
        if self.principal_weights and len(self.principal_weights) != self.num_principals:
            raise ParameterError(
                message=f"principal_weights needs {self.num_principals} weights",
                code="wrong_shape",
            )
        if self.principal_weights and sum(self.principal_weights) <= 0:
            raise ParameterError(
                "principal_weights", message="principal_weights are all 0", code="invalid_value"
            )
        if self.reward_source == "random" and self.reward_timing == "per_token":
            raise ParameterError(
                "reward_source",
                message="reward_source: random needs reward_timing: terminal",
                code="conflict",
            )
        latent = ("utility", "completion", "inappropriate", "token_value")
        for field, outputs in CHANNEL_OUTPUTS.items():
            if (channel := getattr(self, field)) is not None:
                require_channel(channel, field, latent, outputs)

    # --- static data -----------------------------------------------------------------------------

    @functools.cached_property
    def _normalized_weights(self) -> tuple[float, ...]:
        """Weight of each principal; sum 1."""
        weights = self.principal_weights or (1.0,) * self.num_principals
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def num_inappropriate_tokens(self) -> int:
        """Number of tokens that are inappropriate for a prompt."""
        return round(self.inappropriate_vocab_share * self.vocab_size)

    @functools.cached_property
    def _observation_space(self) -> Box:
        return Box.of(
            prompt=self.num_prompt_features,
            completion=Part(self.completion_length * self.vocab_size, 0.0, 1.0),
            critique=Part(self.vocab_size, 0.0, 1.0),
        )

    @property
    def roles(self) -> tuple[Role, ...]:
        """`assistant`."""
        space = self._observation_space
        return (Role(ASSISTANT, self.num_completions, space, self.next_observation),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`answer`, then `review` if set."""
        answer = Phase("answer", {ASSISTANT: Discrete(self.vocab_size)})
        flags = Box.of(flags=Part(self.completion_length, 0.0, 1.0))
        return (answer, Phase("review", {ASSISTANT: flags})) if self.review else (answer,)

    @property
    def elements_per_world(self) -> int:
        """See `Environment`: observations, demonstration noise, and the task's weights."""
        per_agent = self._observation_space.size + 3 * self.completion_length * self.vocab_size
        return (
            self.num_completions * per_agent
            + 2 * (self.num_principals + 1) * self.vocab_size * self.num_prompt_features
        )

    def sample_tasks(self, streams: RandomStreams) -> TokenTask:
        """Task of each world's replicate."""
        replicate, device = streams.replicate.cpu(), streams.device
        weights_per_replicate = self.num_principals * self.vocab_size * self.num_prompt_features
        if len(replicate) * weights_per_replicate > MAX_KEPT_WEIGHTS:
            return self._sample_tasks(replicate, device)
        # a copy with other parameters (`model_copy`) has the same dictionary
        sizes = self.num_principals, self.vocab_size, self.num_prompt_features
        key = (device, self.task_seed, self.conflict, *sizes)
        if key not in self._tasks or not torch.isin(replicate, self._tasks[key][0]).all():
            known = replicate.unique()
            self._tasks[key] = known, self._sample_tasks(known, device)
        known, task = self._tasks[key]
        index = torch.searchsorted(known, replicate).to(device)
        return TokenTask(task.preference_weights[index], task.harm_weights[index])

    @functools.cached_property
    def _tasks(self) -> dict[tuple[Any, ...], tuple[Tensor, TokenTask]]:
        """Replicates and their tasks, which are the same in every episode."""
        return {}

    def _sample_tasks(self, replicate: Int[Tensor, " world"], device: torch.device) -> TokenTask:
        replicates = Worlds(replicate, torch.zeros_like(replicate))
        streams = RandomStreams.of(self.task_seed, replicates, device=device)
        streams = streams.child(TASK)
        tokens, features = self.vocab_size, self.num_prompt_features
        shared = streams.normal(SHARED_UTILITY, tokens, features)
        individual = streams.normal(TOKEN_UTILITY, self.num_principals * tokens, features)
        individual = individual.unflatten(1, (self.num_principals, tokens))
        weights = math.sqrt(1.0 - self.conflict) * shared[:, None]
        weights = weights + math.sqrt(self.conflict) * individual
        return TokenTask(weights, streams.normal(INAPPROPRIATE, tokens, features))

    # --- text ------------------------------------------------------------------------------------

    def role_rules(self, role: str) -> str:
        """Prompt, tokens and reward."""
        sizes = (self.vocab_size, self.completion_length, self.num_principals)
        return texts.rules(*sizes, self.penalty, self.reward_timing)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Prompt and completion so far."""
        seen = read_parts(self._observation_space, observation)
        return texts.turn(phase, seen, self.vocab_size, self.completion_length)

    # --- dynamics --------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> TokenFeedbackState:
        """Initial state: a new prompt, empty completions."""
        if people is not None:
            raise UserError(
                "token_feedback accepts no population: its principals have no values",
                code="unsupported",
                path="population",
            )
        prompt = streams.normal(PROMPT, 1, self.num_prompt_features)[:, 0]
        task = self.sample_tasks(streams)
        harm = completions.token_utilities(task.harm_weights, prompt)
        steps = prompt.new_zeros(streams.num_worlds, self.num_completions, self.completion_length)
        return TokenFeedbackState(
            prompt=prompt,
            token_utility=completions.token_utilities(task.preference_weights, prompt),
            inappropriate=completions.top_k_mask(harm, self.num_inappropriate_tokens),
            tokens=torch.full_like(steps, NO_TOKEN, dtype=torch.int64),
            num_tokens=torch.zeros(streams.num_worlds, dtype=torch.int64, device=streams.device),
            critique=prompt.new_zeros(*steps.shape[:2], self.vocab_size),
            flags=steps,
        )

    def observe(self, state: TokenFeedbackState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        critique = state.critique
        return self._observation_space.join(
            prompt=state.prompt[:, None].expand(-1, self.num_completions, -1),
            completion=completions.one_hot_tokens(state.tokens, self.vocab_size).flatten(2),
            critique=critique if phase == "review" else torch.zeros_like(critique),
        )

    def next_observation(
        self, observation: Float[Tensor, "*some size"], token: Tensor
    ) -> Float[Tensor, "*some size"]:
        """Observation after a token `[...]`; unchanged if the completion is complete."""
        space, shape = self._observation_space, (self.completion_length, self.vocab_size)
        completion = space.read(observation, "completion").unflatten(-1, shape)
        return space.join(
            prompt=space.read(observation, "prompt"),
            completion=completions.append_token(completion, token.long()).flatten(-2),
            critique=space.read(observation, "critique"),
        )

    def step(
        self,
        state: TokenFeedbackState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[TokenFeedbackState]:
        """Append a token, with feedback after the last one; or record the flags of a review."""
        complete = state.num_tokens >= self.completion_length
        if phase == "review":
            flags = torch.where(complete[:, None, None], actions[ASSISTANT], state.flags)
            return StepResult(dataclasses.replace(state, flags=flags), terminated=complete)
        steps = torch.arange(self.completion_length, device=state.tokens.device)
        current = (steps == state.num_tokens[:, None])[:, None]
        tokens = torch.where(current, actions[ASSISTANT][..., None].long(), state.tokens)
        next_state = dataclasses.replace(
            state, tokens=tokens, num_tokens=state.num_tokens + (~complete).long()
        )
        terminated = next_state.num_tokens >= self.completion_length
        last = terminated & ~complete
        rewarded = self._rewarded_tokens(next_state, streams)
        score = self._completion_scores(next_state, rewarded)
        if self.reward_timing == "per_token":
            reward = score - self._completion_scores(state, state.tokens)
        else:
            reward = torch.where(last[:, None], score, 0.0)
        feedback: dict[str, Mapping[str, Tensor]] = {}
        if bool(last.any()):
            fields = self._feedback(next_state, rewarded, streams)
            # Worlds that were reset at different times complete in different rounds.
            fields["reward"] = torch.where(last[:, None, None], fields["reward"], 0.0)
            critique = torch.where(last[:, None, None], fields["critique"], state.critique)
            next_state = dataclasses.replace(next_state, critique=critique)
            feedback = {ASSISTANT: fields}
        return StepResult(next_state, {ASSISTANT: reward}, terminated, feedback)

    def _rewarded_tokens(
        self, state: TokenFeedbackState, streams: RandomStreams
    ) -> Int[Tensor, "world agent step"]:
        """Tokens of the completions whose rewards are given; see `reward_source`."""
        if self.reward_source == "own":
            return state.tokens
        u = streams.uniform(RANDOM_COMPLETION, self.num_completions, self.completion_length)
        return uniform_index(self.vocab_size, u)

    def _feedback(
        self,
        state: TokenFeedbackState,
        rewarded: Int[Tensor, "world agent step"],
        streams: RandomStreams,
    ) -> dict[str, Tensor]:
        """All feedback on complete completions, `[world, agent, ...]` by name.

        Args:
            state: state with the completions.
            rewarded: tokens of the completions whose rewards are given.
            streams: random streams.
        """
        score = self._completion_scores(state, rewarded)
        cost = self.penalty * state.inappropriate.to(state.token_utility.dtype)
        latent = {
            "utility": score.unflatten(1, (-1, 2)),  # world pair option
            "completion": completions.one_hot_tokens(state.tokens, self.vocab_size),
            "inappropriate": state.inappropriate,
            "token_value": state.token_utility - cost[:, None],
        }
        fields = {"reward": self._rewards(rewarded, state)}
        for field, outputs in CHANNEL_OUTPUTS.items():
            channel: Channel | None = getattr(self, field)
            if channel is not None:
                given = give_feedback(channel, field, latent, streams)
                fields |= {name: given[name] for name in outputs if name in given}
        fields["preferred"] = fields["preferred"].flatten(1)
        if "annotator" in fields:
            fields["annotator"] = fields["annotator"].repeat_interleave(2, 1)
        if self.rating is not None:
            fields["reward"] = fields["reward"].flatten(1)[..., None]
        reward = self._rewards(fields["demonstration"], state)
        fields["demonstration_reward"] = reward
        fields["demonstration_return"] = self._principal_mean(reward, 2)
        return fields

    def _rewards(
        self, tokens: Int[Tensor, "world agent step"], state: TokenFeedbackState
    ) -> Float[Tensor, "world agent principal"]:
        """Reward of completions to each principal."""
        one_hot = completions.one_hot_tokens(tokens, self.vocab_size)
        return completions.completion_reward(
            one_hot, state.token_utility, state.inappropriate, self.penalty
        )

    def _completion_scores(
        self, state: TokenFeedbackState, tokens: Int[Tensor, "world agent step"]
    ) -> Float[Tensor, "world agent"]:
        """Weighted mean reward of completions over principals."""
        return self._principal_mean(self._rewards(tokens, state), 2)

    def _principal_mean(self, x: Tensor, dim: int) -> Tensor:
        """Weighted mean over principals."""
        weights = torch.tensor(self._normalized_weights, device=x.device)
        return total(x * weights.view(-1, *[1] * (x.dim() - dim - 1)), dim)

    # --- metrics ---------------------------------------------------------------------------------

    def metrics(self, state: TokenFeedbackState) -> Mapping[str, Tensor]:
        """Means over the agents of a world, of the tokens so far.

        score: reward of the completion so far.  score_by_principal: to each principal.
        worst_principal_score: the lowest of these.  inappropriate_share: of tokens.
        optimal_score: largest possible reward for the prompt, exact.  regret: optimal_score minus
        score.  distinct_1: distinct tokens over tokens of a completion.  pairwise_diversity:
        probability that two agents differ at a step. Both are 1 without tokens.
        With `review`, over all agents of the world: flagged_share: share of tokens with a flag
        above .5.  detection_precision: share of inappropriate tokens among flagged ones, 1 without
        flags.  detection_recall: share of flagged tokens among inappropriate ones, 1 without any.
        """
        one_hot = completions.one_hot_tokens(state.tokens, self.vocab_size)
        reward = self._rewards(state.tokens, state)
        by_principal = mean(reward, 1)
        score = self._principal_mean(by_principal, 1)
        utility = self._principal_mean(state.token_utility, 1)
        optimum = completions.optimal_reward(
            utility, state.inappropriate, self.penalty, self.completion_length
        )
        wrong = total(one_hot * state.inappropriate[:, None, None].to(reward.dtype), -1)
        metrics = {
            "score": score,
            "score_by_principal": by_principal,
            "worst_principal_score": by_principal.amin(-1),
            "inappropriate_share": mean(total(wrong, -1), 1) / state.num_tokens.clamp(min=1),
            "optimal_score": optimum,
            "regret": optimum - score,
            "distinct_1": completions.distinct_1(one_hot),
            "pairwise_diversity": completions.pairwise_diversity(one_hot),
        }
        if self.review:
            metrics |= completions.detection_metrics(state.flags > 0.5, wrong)
        return metrics

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares and probabilities lie between 0 and 1."""
        names = ["inappropriate_share", "distinct_1", "pairwise_diversity"]
        if self.review:
            names += ["flagged_share", "detection_precision", "detection_recall"]
        return dict.fromkeys(names, (0.0, 1.0))

    def latent(self, state: TokenFeedbackState) -> Mapping[str, Tensor]:
        """Utility of each token for each principal, and the inappropriate tokens."""
        return {"token_utility": state.token_utility, "inappropriate": state.inappropriate}

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """Exact expectations of metrics of `RandomTokenPolicy`, over prompts, by rounds.

        score, inappropriate_share, distinct_1, pairwise_diversity; with `review` and critiques per
        token also detection_recall.
        """
        if not isinstance(policies.get(ASSISTANT), RandomTokenPolicy):
            return {}
        wrong = self.num_inappropriate_tokens
        values = random_policy_metrics(
            self.vocab_size, wrong, self.completion_length, self.penalty, rounds
        )
        if self.review and isinstance(self.critique, TokenNaming):
            share, agents = wrong / self.vocab_size, self.num_completions
            probability = self.critique.naming_probability
            values["detection_recall"] = random_policy_recall(
                share, agents, self.completion_length, probability, rounds
            )
        return values

    @property
    def min_rounds(self) -> int:
        """The completion length: truncated completions receive no feedback."""
        return self.completion_length

    def default_policies(self) -> Mapping[str, Any]:
        """Uniformly random tokens."""
        return {ASSISTANT: "random_token"}


if __name__ == "__main__":
    from mores.sim.demo import show

    show(TokenFeedback(num_principals=2, conflict=0.5, review=True), rounds=6)
