"""Supervisors: noisy human feedback on completions.

    preference between two        P(first) = 1 / (1 + exp(-rationality (R_1 - R_2)))
    critique of a completion      each inappropriate token in it is named with probability
                                  `detection_rate`, each other token with `false_alarm_rate`
    demonstration                 token by token, P(v) in proportion to
                                  exp(rationality (utility_v - penalty [v inappropriate])) among
                                  unused tokens; with `demonstration_error_rate` a uniform token

The preference follows Bradley and Terry 1952, Biometrika 39, 324, with log strength
`rationality * R`; annotators record the opposite with individual error rates. A demonstration
without errors is a draw from the model of Plackett 1975, Applied Statistics 24, 193. Rewards of
completions: `mores.envs.feedback.token_completions`.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.random_streams import RandomStreams
from mores.core.stream_addresses import CRITIQUE, OTHER_TOKEN
from mores.envs.feedback import token_completions


def prefers_first(
    first: Float[Tensor, "world pair"],
    second: Float[Tensor, "world pair"],
    rationality: float,
    uniform: Float[Tensor, "world pair"],
) -> Bool[Tensor, "world pair"]:
    """Whether a supervisor prefers the first of two completions, given both rewards."""
    return uniform < 1.0 / (1.0 + torch.exp(-rationality * (first - second)))


def criticized_tokens(
    completion: Float[Tensor, "world agent step token"],
    inappropriate: Bool[Tensor, "world token"],
    detection_rate: float,
    false_alarm_rate: float,
    uniform: Float[Tensor, "world agent token"],
) -> Float[Tensor, "world agent token"]:
    """1 for each token of a completion that is criticized, however often it occurs."""
    rate = torch.where(inappropriate, detection_rate, false_alarm_rate)[:, None]
    return completion.amax(2) * (uniform < rate).to(completion.dtype)


def sample_demonstration(
    logits: Float[Tensor, "world agent token"],
    gumbel: Float[Tensor, "world agent step token"],
    replace: Bool[Tensor, "world agent step"],
    replacement: Int[Tensor, "world agent step"],
) -> Int[Tensor, "world agent step"]:
    """Sample completions token by token, without repetition except by errors.

    Args:
        logits: utilities minus penalties, times the demonstrator's rationality.
        gumbel: standard Gumbel noise; the argmax of logits plus noise is a softmax sample.
        replace: steps with an error.
        replacement: tokens written at these steps.
    """
    unused = torch.ones_like(logits, dtype=torch.bool)
    indices = torch.arange(logits.shape[-1], device=logits.device)
    tokens = []
    for step in range(gumbel.shape[2]):
        scores = torch.where(unused, logits + gumbel[:, :, step], -torch.inf)
        token = torch.where(replace[..., step], replacement[..., step], scores.argmax(-1))
        unused = unused & (indices != token[..., None])
        tokens.append(token)
    return torch.stack(tokens, -1)


def uniform_index(n: int, uniform: Tensor) -> Tensor:
    """Uniform index below `n`, from uniform numbers in [0, 1)."""
    return (uniform * n).long().clamp(max=n - 1)


@dataclasses.dataclass(frozen=True)
class Supervisors:
    """Sources of feedback; parameters as in `mores.envs.feedback.token_feedback.TokenFeedback`."""

    penalty: float
    rationality: float
    annotator_error_rates: tuple[float, ...]
    critique_per_token: bool
    detection_rate: float
    false_alarm_rate: float
    demonstration_rationality: float
    demonstration_error_rate: float

    def feedback(
        self,
        completion: Float[Tensor, "world agent step token"],
        token_utility: Float[Tensor, "world principal token"],
        inappropriate: Bool[Tensor, "world token"],
        score: Float[Tensor, "world agent"],
        streams: RandomStreams,
    ) -> dict[str, Tensor]:
        """All feedback on complete completions, `[world, agent, ...]` by name.

        Args:
            completion: one-hot tokens.
            token_utility: utility of each token for each principal.
            inappropriate: mask of inappropriate tokens.
            score: weighted mean reward of each completion over principals.
            streams: random streams.
        """
        reward = token_completions.completion_reward(
            completion, token_utility, inappropriate, self.penalty
        )
        preferred, annotator = self.preferences(score, streams)
        tokens, principal = self.demonstrations(completion, token_utility, inappropriate, streams)
        one_hot = token_completions.one_hot_tokens(tokens, completion.shape[3])
        return {
            "reward": reward,
            "preferred": preferred,
            "annotator": annotator,
            "critique": self.critiques(completion, inappropriate, streams),
            "demonstration": tokens,
            "demonstration_reward": token_completions.completion_reward(
                one_hot, token_utility, inappropriate, self.penalty
            ),
            "principal": principal,
        }

    def preferences(
        self, score: Float[Tensor, "world agent"], streams: RandomStreams
    ) -> tuple[Bool[Tensor, "world agent"], Int[Tensor, "world agent"]]:
        """Recorded preference in each pair (2i, 2i + 1), and index of its annotator."""
        first, second = score[:, 0::2], score[:, 1::2]
        pairs = first.shape[1]
        u = streams.uniform("preference", pairs)[..., 0]
        preferred = prefers_first(first, second, self.rationality, u)
        u = streams.uniform("annotator", pairs)[..., 0]
        annotator = uniform_index(len(self.annotator_error_rates), u)
        error_rate = torch.tensor(self.annotator_error_rates, device=score.device)[annotator]
        recorded = preferred ^ (streams.uniform("error", pairs)[..., 0] < error_rate)
        both = torch.stack([recorded, ~recorded], -1).flatten(1)
        return both, annotator.repeat_interleave(2, 1)

    def critiques(
        self,
        completion: Float[Tensor, "world agent step token"],
        inappropriate: Bool[Tensor, "world token"],
        streams: RandomStreams,
    ) -> Float[Tensor, "world agent token"]:
        """Criticized tokens; all or none of the vocabulary if not `critique_per_token`."""
        u = streams.uniform(CRITIQUE, completion.shape[1], completion.shape[3])
        tokens = criticized_tokens(
            completion, inappropriate, self.detection_rate, self.false_alarm_rate, u
        )
        some = tokens.amax(-1, keepdim=True).expand(tokens.shape)
        return tokens if self.critique_per_token else some

    def demonstrations(
        self,
        completion: Float[Tensor, "world agent step token"],
        token_utility: Float[Tensor, "world principal token"],
        inappropriate: Bool[Tensor, "world token"],
        streams: RandomStreams,
    ) -> tuple[Int[Tensor, "world agent step"], Int[Tensor, "world agent"]]:
        """Tokens of one demonstration per completion, and index of its principal."""
        _, agents, length, vocab_size = completion.shape
        u = streams.uniform("principal", agents)[..., 0]
        principal = uniform_index(token_utility.shape[1], u)
        cost = self.penalty * inappropriate.to(token_utility.dtype)
        index = principal[..., None].expand(-1, -1, vocab_size)
        value = (token_utility - cost[:, None]).gather(1, index)
        gumbel = streams.gumbel("demonstration", agents, length * vocab_size)
        tokens = sample_demonstration(
            self.demonstration_rationality * value,
            gumbel.unflatten(-1, (length, vocab_size)),
            streams.uniform("slip", agents, length) < self.demonstration_error_rate,
            uniform_index(vocab_size, streams.uniform(OTHER_TOKEN, agents, length)),
        )
        return tokens, principal
