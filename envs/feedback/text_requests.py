"""Requests for a sentence that uses certain words: a task in which the score of a text is exact.

For searches at the time of decoding (DeAL, arXiv 2402.06147): a writer knows what it is scored by
and may search for a text with a higher score, without training.

Demo: `python -m mores.envs.feedback.text_requests`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field, field_validator
from torch import Tensor

from mores.core.deterministic_sum import mean
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import ParameterError, printable
from mores.core.people import People
from mores.core.policy import (
    ActionOutput,
    Policy,
    require_message_actions,
    require_observation_parts,
)
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, MultiDiscrete, Part
from mores.core.turn_text import (
    END_OF_MESSAGE,
    TurnText,
    decode_message,
    encode_message,
    message_space,
)
from mores.envs.feedback.requested_words import WORD_SETS, covered_words

MAX_WORD_BYTES = 80  # of all words of a request, in the observation
MAX_RENDERED = 4  # requests


@dataclasses.dataclass(frozen=True)
class TextRequestsState:
    """Requests of this round, and the texts of the last one."""

    request: Int[Tensor, "world agent"]  # index of the set of words
    answered: Int[Tensor, "world agent"]  # index of the set of the last text
    messages: Int[Tensor, "world agent byte"]
    covered: Float[Tensor, "world agent"]  # share of the words, in the last text
    totals: Float[Tensor, "world agent 3"]  # share of words, complete, bytes: sums over rounds
    rounds_elapsed: Int[Tensor, " world"]


class TextRequests(Environment[TextRequestsState]):
    """Requests for one sentence with certain words, scored by the share of the words used.

    Description:
        Every round each writer gets a set of words and writes one sentence. The score is the share
        of the words that the sentence contains, in any regular form (`requested_words`). The writer
        knows the score, and can compute it for a text before it sends the text
        (`Environment.message_score`). Left out: quality of the sentence other than its words;
        irregular forms; requesters with different wishes about style.

    Roles:
        writer (`num_writers`): writes a sentence for one request.

    Observation (codes are bytes, and 256 after the end):
        writer  words  80  [0, 256]  the words, separated by spaces

    Action:
        writer  phase write: `message_space(max_bytes)`.

    Reward:
        writer: share of the words of its request that its sentence contains, in [0, 1].

    Dynamics:
        Each round draws a set of words for each writer, with equal probabilities.

    Start:
        First requests; no texts.

    End:
        Never (truncation only).

    Parameters:
        See the fields.

    References:
        Lin et al. 2020, arXiv 1911.03705 (CommonGen); Huang et al. 2024, arXiv 2402.06147 (DeAL).
    """

    tags: ClassVar[Mapping[str, object]] = {"phases": 1, "stochastic": True, "text": True}

    num_writers: int = Field(default=4, ge=1, le=1000, description="number of requests in a round")
    max_bytes: int = Field(default=160, ge=1, le=10_000, description="largest size of a sentence")
    word_sets: tuple[tuple[str, ...], ...] = Field(
        default=WORD_SETS, min_length=1, max_length=10_000, description="sets of words to draw from"
    )

    @field_validator("word_sets")
    @classmethod
    def _check_words(cls, sets: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        for index, words in enumerate(sets):
            if not words or not all(word.isalpha() and word.isascii() for word in words):
                message = "a set consists of words of English letters"
                raise ParameterError(index, message=message, code="invalid_value")
            if len(" ".join(words)) > MAX_WORD_BYTES:
                message = f"the words of a set have at most {MAX_WORD_BYTES} letters and spaces"
                raise ParameterError(index, message=message, code="too_large")
        return sets

    @property
    def roles(self) -> tuple[Role, ...]:
        """The role writer."""
        words = Part(MAX_WORD_BYTES, 0.0, float(END_OF_MESSAGE))
        return (Role("writer", self.num_writers, Box.of(words=words)),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phase write."""
        return (Phase("write", {"writer": message_space(self.max_bytes)}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> TextRequestsState:
        """First requests."""
        zeros = torch.zeros(streams.num_worlds, self.num_writers, device=streams.device)
        empty = torch.full((*zeros.shape, self.max_bytes), END_OF_MESSAGE, device=zeros.device)
        return TextRequestsState(
            self._draw_requests(streams),
            torch.zeros_like(zeros, dtype=torch.int64),
            empty,
            zeros,
            torch.zeros(*zeros.shape, 3, device=zeros.device),
            torch.zeros(streams.num_worlds, dtype=torch.int64, device=zeros.device),
        )

    def _draw_requests(self, streams: RandomStreams) -> Int[Tensor, "world agent"]:
        uniform = streams.uniform("requested words", self.num_writers)[..., 0]
        index = (uniform * len(self.word_sets)).long()
        return index.clamp(max=len(self.word_sets) - 1)

    def observe(self, state: TextRequestsState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        codes = [encode_message(" ".join(words), MAX_WORD_BYTES) for words in self.word_sets]
        table = torch.stack(codes).to(state.request.device, torch.float32)
        return table[state.request]

    def step(
        self,
        state: TextRequestsState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[TextRequestsState]:
        """Score the sentences, and draw the next requests."""
        messages = actions["writer"]
        found = [
            [covered_words(decode_message(codes), self.word_sets[n]) for codes, n in pairs]
            for pairs in (
                zip(texts, numbers.tolist(), strict=True)
                for texts, numbers in zip(messages, state.request, strict=True)
            )
        ]
        share = [[sum(each) / len(each) for each in row] for row in found]
        covered = torch.tensor(share, dtype=torch.float32, device=messages.device)
        num_bytes = (messages != END_OF_MESSAGE).sum(-1).float()
        new = TextRequestsState(
            self._draw_requests(streams),
            state.request,
            messages.long(),
            covered,
            state.totals + torch.stack([covered, (covered == 1.0).float(), num_bytes], -1),
            state.rounds_elapsed + 1,
        )
        return StepResult(new, {"writer": covered})

    def metrics(self, state: TextRequestsState) -> Mapping[str, Tensor]:
        """Means over the sentences of the episode so far; 0 before the first.

        coverage: share of the words; complete_share: share of sentences with all words;
        sentence_bytes: length of a sentence.
        """
        rounds = state.rounds_elapsed.clamp(min=1)[:, None, None]
        means = mean(state.totals / rounds, 1)
        names = ("coverage", "complete_share", "sentence_bytes")
        return dict(zip(names, means.unbind(-1), strict=True))

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Of shares."""
        return {"coverage": (0.0, 1.0), "complete_share": (0.0, 1.0)}

    def default_policies(self) -> Mapping[str, Any]:
        """Writers that list the words."""
        return {"writer": {"kind": "word_list"}}

    # --- text -------------------------------------------------------------------------------------

    def role_rules(self, role: str) -> str:
        """See `Environment`."""
        return (
            "You write one short English sentence that uses all words that you are given. You may "
            "change the form of a word (walk, walks, walked). Write the sentence and nothing else."
        )

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """The words."""
        words = requested_words(observation)
        return TurnText(
            f"Words: {', '.join(words)}", "Write one sentence that uses all of them.", "message"
        )

    def message_score(
        self, role: str, phase: str, observation: Float[Tensor, " size"], message: str
    ) -> float | None:
        """The reward of a sentence."""
        found = covered_words(message, requested_words(observation))
        return sum(found) / max(1, len(found))

    def render(self, state: TextRequestsState, world: int = 0) -> str:
        """Words and sentence of the first requests of the last round."""
        if not state.rounds_elapsed[world]:
            return ""
        lines = []
        for n in range(min(self.num_writers, MAX_RENDERED)):
            words = ", ".join(self.word_sets[int(state.answered[world, n])])
            text = printable(decode_message(state.messages[world, n]), 200)
            lines.append(f"{words}: {text!r}, {float(state.covered[world, n]):.0%} of the words")
        return "\n".join(lines)


def requested_words(observation: Float[Tensor, " size"]) -> Sequence[str]:
    """The words of a request in an observation."""
    return decode_message(observation).split()


class WordList(Policy):
    """Writer that lists the words: full coverage, and no sentence."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": False}

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Role:
        """The role; its observation has words, and its actions must be messages."""
        require_observation_parts("word_list", role, "words")
        require_message_actions("word_list", role, phases)
        return role

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Role,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """The words, as they are observed."""
        space = phase.action_spaces[state.name]
        assert isinstance(space, MultiDiscrete)
        flat = observation.flatten(0, 1).cpu()
        texts = [encode_message(" ".join(requested_words(row)), space.size) for row in flat]
        action = torch.stack(texts).unflatten(0, observation.shape[:2])
        return ActionOutput(action.to(observation.device), state)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(TextRequests(), rounds=8)
