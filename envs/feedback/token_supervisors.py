"""Supervisors: what is said of answers, with the noise of those who say it.

    which of two answers is better    P(first) = 1 / (1 + exp(-rationality (R_1 - R_2)))
    what is wrong with an answer      each inappropriate word said is named with probability
                                      `detection_rate`, each other word said with `false_alarm_rate`
    how one would have answered       word after word, P(v) in proportion to
                                      exp(rationality (liking_v - penalty [v inappropriate])) among
                                      the words not said yet; then any word, with `noise`

The choice between two is that of Bradley and Terry 1952, Biometrika 39, 324, where the logarithm of
an option's strength is `rationality * R`; annotators write the other one down with error rates of
their own. A demonstration without noise is a draw from the model of Plackett 1975, Applied
Statistics 24, 193. What answers are worth is in `mores.envs.feedback.token_completions`.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.random_streams import RandomStreams
from mores.envs.feedback import token_completions


def prefers_first(
    first: Float[Tensor, "world pair"],
    second: Float[Tensor, "world pair"],
    rationality: float,
    uniform: Float[Tensor, "world pair"],
) -> Bool[Tensor, "world pair"]:
    """Whether a supervisor finds the first of two answers better, by what both are worth."""
    return uniform < 1.0 / (1.0 + torch.exp(-rationality * (first - second)))


def criticized_tokens(
    completion: Float[Tensor, "world agent step word"],
    inappropriate: Bool[Tensor, "world word"],
    detection_rate: float,
    false_alarm_rate: float,
    uniform: Float[Tensor, "world agent word"],
) -> Float[Tensor, "world agent word"]:
    """1 for each word that a supervisor names as wrong in an answer, however often it is said."""
    rate = torch.where(inappropriate, detection_rate, false_alarm_rate)[:, None]
    return completion.amax(2) * (uniform < rate).to(completion.dtype)


def sample_demonstration(
    logits: Float[Tensor, "world agent word"],
    gumbel: Float[Tensor, "world agent step word"],
    replace: Bool[Tensor, "world agent step"],
    replacement: Int[Tensor, "world agent step"],
) -> Int[Tensor, "world agent step"]:
    """Answers given word after word, none twice but by a slip.

    Args:
        logits: what words are worth, times the rationality of who demonstrates.
        gumbel: standard Gumbel numbers, which make the largest sum a draw by softmax.
        replace: where another word comes out than was chosen.
        replacement: that other word.
    """
    unsaid = torch.ones_like(logits, dtype=torch.bool)
    numbers = torch.arange(logits.shape[-1], device=logits.device)
    said = []
    for step in range(gumbel.shape[2]):
        tried = torch.where(unsaid, logits + gumbel[:, :, step], -torch.inf)
        word = torch.where(replace[..., step], replacement[..., step], tried.argmax(-1))
        unsaid = unsaid & (numbers != word[..., None])
        said.append(word)
    return torch.stack(said, -1)


def uniform_index(n: int, uniform: Tensor) -> Tensor:
    """A number below `n`, from a number in [0, 1)."""
    return (uniform * n).long().clamp(max=n - 1)


@dataclasses.dataclass(frozen=True)
class Supervisors:
    """Those who say something of answers. What the numbers are: `mores.envs.feedback.token_feedback.TokenFeedback`."""

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
        completion: Float[Tensor, "world agent step word"],
        token_utility: Float[Tensor, "world principal word"],
        inappropriate: Bool[Tensor, "world word"],
        score: Float[Tensor, "world agent"],
        streams: RandomStreams,
    ) -> dict[str, Tensor]:
        """All that is said of complete answers, `[world, agent, ...]` by name.

        Args:
            completion: marks of the words said.
            token_utility: of words, by principal.
            inappropriate: words that are.
            score: what each answer is worth, all principals weighed.
            streams: chance.
        """
        worth = token_completions.completion_reward(
            completion, token_utility, inappropriate, self.penalty
        )
        preferred, annotator = self.preferences(score, streams)
        said, principal = self.demonstrations(completion, token_utility, inappropriate, streams)
        shown = token_completions.one_hot_tokens(said, completion.shape[3])
        return {
            "reward": worth,
            "preferred": preferred,
            "annotator": annotator,
            "critique": self.critiques(completion, inappropriate, streams),
            "demonstration": said,
            "demonstration_reward": token_completions.completion_reward(
                shown, token_utility, inappropriate, self.penalty
            ),
            "principal": principal,
        }

    def preferences(
        self, score: Float[Tensor, "world agent"], streams: RandomStreams
    ) -> tuple[Bool[Tensor, "world agent"], Int[Tensor, "world agent"]]:
        """Which answer of each pair (2i, 2i + 1) is preferred, and who wrote that down."""
        first, second = score[:, 0::2], score[:, 1::2]
        pairs = first.shape[1]
        chance = streams.uniform("preference", pairs)[..., 0]
        truly = prefers_first(first, second, self.rationality, chance)
        annotator = uniform_index(
            len(self.annotator_error_rates), streams.uniform("annotator", pairs)[..., 0]
        )
        rates = torch.tensor(self.annotator_error_rates, device=score.device)[annotator]
        written = truly ^ (streams.uniform("error", pairs)[..., 0] < rates)
        both = torch.stack([written, ~written], -1).flatten(1)
        return both, annotator.repeat_interleave(2, 1)

    def critiques(
        self,
        completion: Float[Tensor, "world agent step word"],
        inappropriate: Bool[Tensor, "world word"],
        streams: RandomStreams,
    ) -> Float[Tensor, "world agent word"]:
        """Which words are criticised; if not `critique_per_token`, whether any is, at all of them."""
        chance = streams.uniform("judgement", completion.shape[1], completion.shape[3])
        named = criticized_tokens(
            completion, inappropriate, self.detection_rate, self.false_alarm_rate, chance
        )
        return (
            named if self.critique_per_token else named.amax(-1, keepdim=True).expand(named.shape)
        )

    def demonstrations(
        self,
        completion: Float[Tensor, "world agent step word"],
        token_utility: Float[Tensor, "world principal word"],
        inappropriate: Bool[Tensor, "world word"],
        streams: RandomStreams,
    ) -> tuple[Int[Tensor, "world agent step"], Int[Tensor, "world agent"]]:
        """Words of demonstrations, and whose they are: one for each answer, as long as it."""
        _, seats, length, words = completion.shape
        whose = uniform_index(token_utility.shape[1], streams.uniform("principal", seats)[..., 0])
        cost = self.penalty * inappropriate.to(token_utility.dtype)
        value = (token_utility - cost[:, None]).gather(1, whose[..., None].expand(-1, -1, words))
        gumbel = streams.gumbel("demonstration", seats, length * words)
        said = sample_demonstration(
            self.demonstration_rationality * value,
            gumbel.unflatten(-1, (length, words)),
            streams.uniform("slip", seats, length) < self.demonstration_error_rate,
            uniform_index(words, streams.uniform("other word", seats, length)),
        )
        return said, whose
