"""Supervisors: what is said of answers, with the noise of those who say it.

    which of two answers is better    P(first) = 1 / (1 + exp(-rationality (R_1 - R_2)))
    what is wrong with an answer      each inappropriate word said is named with probability
                                      `detection`, each other word said with `false_alarm`
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

from mores.core.random_streams import Draws
from mores.envs.feedback import token_completions


def prefers_first(
    first: Float[Tensor, "world pair"],
    second: Float[Tensor, "world pair"],
    rationality: float,
    chance: Float[Tensor, "world pair"],
) -> Bool[Tensor, "world pair"]:
    """Whether a supervisor finds the first of two answers better, by what both are worth."""
    return chance < 1.0 / (1.0 + torch.exp(-rationality * (first - second)))


def criticised(
    answer: Float[Tensor, "world agent step word"],
    inappropriate: Bool[Tensor, "world word"],
    detection: float,
    false_alarm: float,
    chance: Float[Tensor, "world agent word"],
) -> Float[Tensor, "world agent word"]:
    """1 for each word that a supervisor names as wrong in an answer, however often it is said."""
    rate = torch.where(inappropriate, detection, false_alarm)[:, None]
    return answer.amax(2) * (chance < rate).to(answer.dtype)


def demonstrate(
    logits: Float[Tensor, "world agent word"],
    gumbel: Float[Tensor, "world agent step word"],
    slips: Bool[Tensor, "world agent step"],
    instead: Int[Tensor, "world agent step"],
) -> Int[Tensor, "world agent step"]:
    """Answers given word after word, none twice but by a slip.

    Args:
        logits: what words are worth, times the rationality of who demonstrates.
        gumbel: standard Gumbel numbers, which make the largest sum a draw by softmax.
        slips: where another word comes out than was chosen.
        instead: that other word.
    """
    unsaid = torch.ones_like(logits, dtype=torch.bool)
    numbers = torch.arange(logits.shape[-1], device=logits.device)
    said = []
    for step in range(gumbel.shape[2]):
        tried = torch.where(unsaid, logits + gumbel[:, :, step], -torch.inf)
        word = torch.where(slips[..., step], instead[..., step], tried.argmax(-1))
        unsaid = unsaid & (numbers != word[..., None])
        said.append(word)
    return torch.stack(said, -1)


def any_of(many: int, chance: Tensor) -> Tensor:
    """A number below `many`, from a number in [0, 1)."""
    return (chance * many).long().clamp(max=many - 1)


@dataclasses.dataclass(frozen=True)
class Supervisors:
    """Those who say something of answers. What the numbers are: `mores.envs.feedback.token_feedback.Requests`."""

    penalty: float
    rationality: float
    error_rates: tuple[float, ...]
    by_word: bool
    detection: float
    false_alarm: float
    demonstration_rationality: float
    demonstration_noise: float

    def feedback(
        self,
        answer: Float[Tensor, "world agent step word"],
        liking: Float[Tensor, "world principal word"],
        inappropriate: Bool[Tensor, "world word"],
        earned: Float[Tensor, "world agent"],
        draws: Draws,
    ) -> dict[str, Tensor]:
        """All that is said of complete answers, `[world, agent, ...]` by name.

        Args:
            answer: marks of the words said.
            liking: of words, by principal.
            inappropriate: words that are.
            earned: what each answer is worth, all principals weighed.
            draws: chance.
        """
        worth = token_completions.worth(answer, liking, inappropriate, self.penalty)
        preferred, annotator = self.preferences(earned, draws)
        said, principal = self.demonstrations(answer, liking, inappropriate, draws)
        shown = token_completions.marks(said, answer.shape[3])
        return {
            "reward": worth,
            "preferred": preferred,
            "annotator": annotator,
            "judgement": self.judgement(answer, inappropriate, draws),
            "demonstration": said,
            "demonstration_reward": token_completions.worth(
                shown, liking, inappropriate, self.penalty
            ),
            "principal": principal,
        }

    def preferences(
        self, earned: Float[Tensor, "world agent"], draws: Draws
    ) -> tuple[Bool[Tensor, "world agent"], Int[Tensor, "world agent"]]:
        """Which answer of each pair (2i, 2i + 1) is preferred, and who wrote that down."""
        first, second = earned[:, 0::2], earned[:, 1::2]
        pairs = first.shape[1]
        chance = draws.uniform("preference", pairs)[..., 0]
        truly = prefers_first(first, second, self.rationality, chance)
        annotator = any_of(len(self.error_rates), draws.uniform("annotator", pairs)[..., 0])
        rates = torch.tensor(self.error_rates, device=earned.device)[annotator]
        written = truly ^ (draws.uniform("error", pairs)[..., 0] < rates)
        both = torch.stack([written, ~written], -1).flatten(1)
        return both, annotator.repeat_interleave(2, 1)

    def judgement(
        self,
        answer: Float[Tensor, "world agent step word"],
        inappropriate: Bool[Tensor, "world word"],
        draws: Draws,
    ) -> Float[Tensor, "world agent word"]:
        """Which words are criticised; if not `by_word`, whether any is, at all of them."""
        chance = draws.uniform("judgement", answer.shape[1], answer.shape[3])
        named = criticised(answer, inappropriate, self.detection, self.false_alarm, chance)
        return named if self.by_word else named.amax(-1, keepdim=True).expand(named.shape)

    def demonstrations(
        self,
        answer: Float[Tensor, "world agent step word"],
        liking: Float[Tensor, "world principal word"],
        inappropriate: Bool[Tensor, "world word"],
        draws: Draws,
    ) -> tuple[Int[Tensor, "world agent step"], Int[Tensor, "world agent"]]:
        """Words of demonstrations, and whose they are: one for each answer, as long as it."""
        _, seats, length, words = answer.shape
        whose = any_of(liking.shape[1], draws.uniform("principal", seats)[..., 0])
        cost = self.penalty * inappropriate.to(liking.dtype)
        value = (liking - cost[:, None]).gather(1, whose[..., None].expand(-1, -1, words))
        gumbel = draws.gumbel("demonstration", seats, length * words)
        said = demonstrate(
            self.demonstration_rationality * value,
            gumbel.unflatten(-1, (length, words)),
            draws.uniform("slip", seats, length) < self.demonstration_noise,
            any_of(words, draws.uniform("other word", seats, length)),
        )
        return said, whose
