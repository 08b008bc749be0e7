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
from mores.core.environment import ActionOutput, Box, Discrete, Phase, Policy, Role
from mores.core.random_streams import RandomStreams
from mores.envs.feedback.token_supervisors import uniform_index


class RandomTokenPolicy(Policy):
    """Says any word, evenly; in a review flags the words that the judgement names."""

    tags: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """How its sight is laid out."""
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Draw a word; or look each of one's words up in the judgement."""
        space = phase.action_spaces["assistant"]
        if isinstance(space, Discrete):
            chance = streams.uniform("word", observation.shape[1])[..., 0]
            return ActionOutput(uniform_index(space.num_options, chance), state)
        assert isinstance(space, Box)
        answer = state.read(observation, "completion").unflatten(-1, (space.size, -1))
        judgement = state.read(observation, "critique")
        return ActionOutput(total(answer * judgement[..., None, :], -1), state)


def random_policy_metrics(
    vocab_size: int, num_inappropriate: int, completion_length: int, penalty: float, rounds: int
) -> dict[str, Float[np.ndarray, " round"]]:
    """Exact means of measures, after 0 to `rounds` rounds.

    Args:
        vocab_size: that there are.
        num_inappropriate: how many of them are so for a request.
        completion_length: of an answer.
        penalty: of an inappropriate word.
        rounds: how many.
    """
    spoken = np.minimum(np.arange(rounds + 1), completion_length)
    begun = (spoken > 0).astype(float)
    share = num_inappropriate / vocab_size
    different = vocab_size * (1.0 - (1.0 - 1.0 / vocab_size) ** spoken)
    return {
        "score": -penalty * share * spoken / completion_length,
        "inappropriate_share": share * begun,
        "diversity": np.where(spoken > 0, different / np.maximum(spoken, 1), 1.0),
        "variety": 1.0 - begun / vocab_size,
    }


def random_policy_recall(
    inappropriate_vocab_share: float,
    num_completions: int,
    completion_length: int,
    detection_rate: float,
    rounds: int,
) -> Float[np.ndarray, " round"]:
    """Mean share of inappropriate words that are flagged, 1 where there are none, by rounds."""
    spoken = np.minimum(np.arange(rounds + 1), completion_length)
    nothing = (1.0 - inappropriate_vocab_share) ** (num_completions * spoken)
    told = np.where(spoken == completion_length, detection_rate, 0.0)  # flags are raised at the end
    return nothing + (1.0 - nothing) * told
