"""Rambler: somebody who answers with any words, and what that comes to.

With V words, n of them inappropriate, t said, each drawn evenly:

    score                 - penalty (n / V) (t / L)     likings of x and of -x cancel, so that over
                                                        requests only penalties are left
    inappropriate_share   n / V
    diversity             V (1 - (1 - 1/V)^t) / t       a word is missing with (1 - 1/V)^t
    variety               1 - 1/V
    detection_recall      q + (1 - q) detection         q = (1 - n/V)^(seats t): nothing is wrong

The likings cancel because a request x is as likely as -x, the word is drawn in ignorance of it, and
liking is linear in it. All but the score hold for each request, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.core.environment import Act, Box, Discrete, Phase, Player, Role
from mores.core.random_streams import Draws
from mores.envs.feedback.token_supervisors import any_of


class Rambler(Player):
    """Says any word, evenly; in a review flags the words that the judgement names."""

    traits: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Box:
        """How its sight is laid out."""
        return role.sees

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Box, draws: Draws
    ) -> Act:
        """Draw a word; or look each of one's words up in the judgement."""
        space = phase.acts["assistant"]
        if isinstance(space, Discrete):
            chance = draws.uniform("word", seen.shape[1])[..., 0]
            return Act(any_of(space.options, chance), memory)
        assert isinstance(space, Box)
        answer = memory.read(seen, "answer").unflatten(-1, (space.size, -1))
        judgement = memory.read(seen, "judgement")
        return Act(total(answer * judgement[..., None, :], -1), memory)


def of_rambler(
    words: int, inappropriate: int, length: int, penalty: float, rounds: int
) -> dict[str, Float[np.ndarray, " round"]]:
    """Exact means of measures, after 0 to `rounds` rounds.

    Args:
        words: that there are.
        inappropriate: how many of them are so for a request.
        length: of an answer.
        penalty: of an inappropriate word.
        rounds: how many.
    """
    spoken = np.minimum(np.arange(rounds + 1), length)
    begun = (spoken > 0).astype(float)
    share = inappropriate / words
    different = words * (1.0 - (1.0 - 1.0 / words) ** spoken)
    return {
        "score": -penalty * share * spoken / length,
        "inappropriate_share": share * begun,
        "diversity": np.where(spoken > 0, different / np.maximum(spoken, 1), 1.0),
        "variety": 1.0 - begun / words,
    }


def recall_of_rambler(
    share: float, seats: int, length: int, detection: float, rounds: int
) -> Float[np.ndarray, " round"]:
    """Mean share of inappropriate words that are flagged, 1 where there are none, by rounds."""
    spoken = np.minimum(np.arange(rounds + 1), length)
    nothing = (1.0 - share) ** (seats * spoken)
    told = np.where(spoken == length, detection, 0.0)  # flags are raised at the end
    return nothing + (1.0 - nothing) * told
