"""Uniformly random tokens, and the exact expectations of their metrics.

With V tokens in the vocabulary, n of them inappropriate, and t uniform random tokens of L so far:

    score                 - penalty (n / V) (t / L)     utilities of prompts x and -x cancel
    inappropriate_share   n / V
    distinct_1            V (1 - (1 - 1/V)^t) / t       a token is absent with (1 - 1/V)^t
    pairwise_diversity    1 - 1/V
    detection_recall      q + (1 - q) detection_rate    q = (1 - n/V)^(agents t): none inappropriate

Prompts x and -x are equally likely, tokens independent of them, and utility linear in the prompt.
All formulas except the score's also hold for each single prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams, uniform_index
from mores.core.spaces import Box, Discrete, MultiDiscrete
from mores.core.stream_addresses import TOKEN


class RandomTokenPolicy(Policy):
    """Uniformly random tokens; in a review, flags for the tokens named by the critique."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation; the actions must be tokens, or a critique."""
        spaces = [p.action_spaces[role.name] for p in phases if role.name in p.action_spaces]
        if any(isinstance(space, MultiDiscrete) for space in spaces):
            message = f"random_token writes one token at a time; {role.name} makes several choices"
            raise UserError(message, code="unsupported", path=f"policies.{role.name}")
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Sample a token, or look up the own tokens in the critique."""
        space = phase.action_spaces["assistant"]
        if isinstance(space, Discrete):
            u = streams.uniform(TOKEN, observation.shape[1])[..., 0]
            return ActionOutput(uniform_index(space.num_options, u), state)
        assert isinstance(space, Box)
        completion = state.read(observation, "completion").unflatten(-1, (space.size, -1))
        critique = state.read(observation, "critique")
        return ActionOutput(total(completion * critique[..., None, :], -1), state)


def random_policy_metrics(
    vocab_size: int, num_inappropriate: int, completion_length: int, penalty: float, rounds: int
) -> dict[str, Float[np.ndarray, " round"]]:
    """Exact expectations of metrics after 0 ... `rounds` rounds.

    Args:
        vocab_size: V, number of tokens.
        num_inappropriate: n, number of inappropriate tokens.
        completion_length: L, tokens per completion.
        penalty: cost of an inappropriate token.
    """
    length = np.minimum(np.arange(rounds + 1), completion_length)
    started = (length > 0).astype(float)
    share = num_inappropriate / vocab_size
    distinct = vocab_size * (1.0 - (1.0 - 1.0 / vocab_size) ** length)
    return {
        "score": -penalty * share * length / completion_length,
        "inappropriate_share": share * started,
        "distinct_1": np.where(length > 0, distinct / np.maximum(length, 1), 1.0),
        "pairwise_diversity": 1.0 - started / vocab_size,
    }


def random_policy_recall(
    inappropriate_vocab_share: float,
    num_completions: int,
    completion_length: int,
    detection_rate: float,
    rounds: int,
) -> Float[np.ndarray, " round"]:
    """Expected share of inappropriate tokens that are flagged, 1 if there are none, by rounds."""
    length = np.minimum(np.arange(rounds + 1), completion_length)
    none = (1.0 - inappropriate_vocab_share) ** (num_completions * length)
    recall = np.where(length == completion_length, detection_rate, 0.0)  # flags only at the end
    return none + (1.0 - none) * recall
