"""Searches for a message with a high score at the time of decoding, without training.

The agent knows a score of its message (`Environment.message_score`) and spends more tokens to find
a message with a higher one:

    best of n    n messages are drawn, and the one with the highest score is sent;
    look-ahead   token by token: of the k likeliest tokens y the one with the largest

                     log p(y | y_<t) + weight * score(text of y_<t, y and l further greedy tokens)

                 (DeAL, Huang et al. 2024, arXiv 2402.06147, equation for token-level decoding, with
                 log p of the tokens so far left out: it is the same for all candidates).

The metric `reply_tokens` counts all generated tokens, also of messages that are not sent, so that
searches can be compared at equal numbers of tokens. Turns that are no messages are as in
`LanguagePolicy`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.language.coupling import token_gumbel
from mores.agents.language.engine_calls import EngineCall, GenerateCall
from mores.agents.language.language_model import (
    Conversation,
    GenerateRequest,
    Message,
    Reply,
    TokenCandidate,
)
from mores.agents.language.language_policy import LanguagePolicy
from mores.agents.language.language_settings import MAX_ATTEMPTS, LanguageState
from mores.agents.language.language_turn import EngineSteps, LanguageTurn, Row
from mores.agents.language.memory import RememberedReply
from mores.core.environment import Phase, Role
from mores.core.errors import ParameterError, UserError
from mores.core.random_streams import RandomStreams
from mores.core.turn_text import is_message_space


class SearchTurn(LanguageTurn):
    """A turn whose messages are searched for. Subclasses define the search."""

    def _generate(self, rows: Sequence[Row]) -> EngineSteps:
        messages = [row for row in rows if self.asked[row].turn.form == "message"]
        others = [row for row in rows if self.asked[row].turn.form != "message"]
        if others:
            yield from super()._generate(others)
        if messages:
            yield from self.search(messages)

    def search(self, rows: Sequence[Row]) -> EngineSteps:
        """Find the messages of these agents, and set their actions."""
        raise NotImplementedError

    def conversation(self, row: Row) -> Conversation:
        """The conversation up to the message."""
        asked = self.asked[row]
        return (*asked.conversation, Message("user", self.settings.generation_text(asked)))

    def score(self, row: Row, text: str) -> float:
        """Score of a message; the environment gives one (`LanguageSearch.initial_state`)."""
        observation = self._observation[row].cpu()
        value = self.state.text.message_score(self.phase.name, observation, text)
        assert value is not None
        return float(value)

    def generate_call(
        self, requests: Sequence[GenerateRequest], pairs: Sequence[tuple[Row, int]]
    ) -> GenerateCall:
        """A call with requests of several candidates, each with Gumbel noise of its own.

        The number of a candidate takes the place of the number of the call in its random stream.

        Args:
            requests: the requests.
            pairs: agent and number of the candidate of each.
        """
        width = self.engine.vocabulary_size

        def gumbel(indices: Sequence[int], position: int) -> Tensor:
            by_candidate: dict[int, list[int]] = {}
            for place, index in enumerate(indices):
                by_candidate.setdefault(pairs[index][1], []).append(place)
            numbers: list[Tensor | None] = [None] * len(indices)
            for candidate, places in by_candidate.items():
                rows = torch.tensor([pairs[indices[place]][0] for place in places])
                function = token_gumbel(self.streams, rows, candidate, width)
                for place, each in zip(places, function(range(len(rows)), position), strict=True):
                    numbers[place] = each
            return torch.stack([each for each in numbers if each is not None])

        return GenerateCall(self.engine, requests, gumbel)

    def send(self, row: Row, reply: Reply) -> None:
        """Set the action of an agent, and let it remember the turn."""
        self._parse(row, reply)
        message = self.settings.generation_text(self.asked[row])
        self._remember(row, message, RememberedReply(tuple(self.engine.reply_codes(reply))))


class BestOfNTurn(SearchTurn):
    """A turn with the best of several drawn messages."""

    def search(self, rows: Sequence[Row]) -> EngineSteps:
        """Draw the messages of all agents in one call; of equal scores the first is sent."""
        settings = self.settings
        assert isinstance(settings, LanguageBestOfN)
        pairs = [(row, n) for row in rows for n in range(settings.num_candidates)]
        conversations = {row: self.conversation(row) for row in rows}
        tokens = settings.max_new_tokens
        requests = [self._request(conversations[row], row, n, tokens) for row, n in pairs]
        replies: list[Reply] = yield self.generate_call(requests, pairs)
        found: dict[Row, list[Reply]] = {row: [] for row in rows}
        for (row, _), request, reply in zip(pairs, requests, replies, strict=True):
            self._count_reply(row, request, reply)
            found[row].append(reply)
        for row, candidates in found.items():
            scores = [self.score(row, reply.text) for reply in candidates]
            self.send(row, candidates[scores.index(max(scores))])


class LookaheadTurn(SearchTurn):
    """A turn with messages that are built token by token, with look-ahead."""

    def search(self, rows: Sequence[Row]) -> EngineSteps:
        """Build the messages of all agents side by side."""
        conversations = {row: self.conversation(row) for row in rows}
        for row in rows:
            self._count(row, prompt_tokens=self._num_tokens(conversations[row]))
        built: dict[Row, tuple[int, ...]] = dict.fromkeys(rows, ())
        active = list(rows)
        for _ in range(self.settings.max_new_tokens):
            candidates = self._candidates(active, conversations, built)
            texts = yield from self._ahead(candidates, conversations, built)
            ended = set()
            for row in active:
                best = self._best(row, candidates[row], texts)
                built[row] = (*built[row], best.token)
                if best.is_end:
                    ended.add(row)
            active = [row for row in active if row not in ended]
            if not active:
                break
        for row in rows:
            self.send(row, Reply(self._text(built[row]), built[row]))

    def _candidates(
        self,
        rows: Sequence[Row],
        conversations: Mapping[Row, Conversation],
        built: Mapping[Row, tuple[int, ...]],
    ) -> dict[Row, list[TokenCandidate]]:
        """The likeliest next tokens of each agent."""
        assert isinstance(self.settings, LanguageLookahead)
        requests = [self._greedy(row, conversations[row], 1, built[row]) for row in rows]
        found = self.engine.next_tokens(requests, self.settings.num_candidates)
        return dict(zip(rows, found, strict=True))

    def _ahead(
        self,
        candidates: Mapping[Row, Sequence[TokenCandidate]],
        conversations: Mapping[Row, Conversation],
        built: Mapping[Row, tuple[int, ...]],
    ) -> Generator[EngineCall, list[Any], dict[tuple[Row, int], str]]:
        """Text of the message with each candidate and the tokens after it."""
        assert isinstance(self.settings, LanguageLookahead)
        starts = {
            (row, n): (*built[row], each.token)
            for row, own in candidates.items()
            for n, each in enumerate(own)
        }
        for row, own in candidates.items():
            self._count(row, reply_tokens=len(own))
        texts = {key: self._text(start) for key, start in starts.items()}
        going = [(row, n) for row, n in starts if not candidates[row][n].is_end]
        if self.settings.depth == 0 or not going:
            return texts
        depth = self.settings.depth
        requests = [
            self._greedy(row, conversations[row], depth, starts[row, n]) for row, n in going
        ]
        replies: list[Reply] = yield self.generate_call(requests, going)
        for (row, n), reply in zip(going, replies, strict=True):
            tokens = len(reply.token_ids)  # the prompt is counted once for a message
            self._count(row, requests=1, reply_tokens=tokens, near_ties=reply.near_ties)
            texts[row, n] = self._text((*starts[row, n], *reply.token_ids))
        return texts

    def _best(
        self,
        row: Row,
        candidates: Sequence[TokenCandidate],
        texts: Mapping[tuple[Row, int], str],
    ) -> TokenCandidate:
        """The candidate with the largest sum; of equal ones the likeliest."""
        assert isinstance(self.settings, LanguageLookahead)
        weight = self.settings.weight
        values = [
            each.logp + weight * self.score(row, texts[row, n]) for n, each in enumerate(candidates)
        ]
        return candidates[values.index(max(values))]

    def _greedy(
        self, row: Row, conversation: Conversation, max_tokens: int, start: tuple[int, ...]
    ) -> GenerateRequest:
        """Request for greedy tokens after the start of a message."""
        adapter = self.asked[row].adapter
        return GenerateRequest(conversation, max_tokens, 0.0, adapter=adapter, reply_start=start)

    def _text(self, tokens: Sequence[int]) -> str:
        return self.engine.reply_message(tokens).text if tokens else ""


class LanguageSearch(LanguagePolicy):
    """A language model that searches for messages with a high score."""

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> LanguageState:
        """See `LanguagePolicy`.

        Raises:
            UserError: the environment gives no score of the messages of the role.
        """
        state = super().initial_state(role, phases, streams)
        empty = torch.zeros(role.observation_space.size)
        for phase in phases:
            space = phase.action_spaces.get(role.name)
            if space is None or not is_message_space(space):
                continue
            if state.text.message_score(phase.name, empty, "") is None:
                raise UserError(
                    f"{role.name}: a search needs a score of messages in {phase.name!r}: the "
                    "environment has no message_score",
                    code="unsupported",
                    path=f"policies.{role.name}",
                )
        return state


class LanguageBestOfN(LanguageSearch):
    """A language model that draws several messages and sends the one with the highest score."""

    tags: ClassVar[Mapping[str, object]] = {"language": True, "stochastic": True, "searches": True}
    turn_class: ClassVar[type[LanguageTurn]] = BestOfNTurn

    num_candidates: int = Field(
        default=4, ge=1, le=MAX_ATTEMPTS, description="messages that are drawn"
    )

    def model_post_init(self, context: object) -> None:
        """Refuse equal candidates."""
        super().model_post_init(context)
        if self.temperature == 0 and self.num_candidates > 1:
            message = "temperature: 0 draws equal messages; num_candidates must be 1"
            raise ParameterError("temperature", message=message, code="conflict")


class LanguageLookahead(LanguageSearch):
    """A language model that builds a message token by token, with greedy look-ahead.

    It draws nothing: `temperature` has no effect on messages.
    """

    tags: ClassVar[Mapping[str, object]] = {"language": True, "searches": True}
    turn_class: ClassVar[type[LanguageTurn]] = LookaheadTurn

    num_candidates: int = Field(
        default=3, ge=1, le=1024, description="likeliest tokens that are compared (k)"
    )
    depth: int = Field(default=4, ge=0, le=1024, description="greedy tokens after each (l)")
    weight: float = Field(
        default=4.0, ge=0, description="weight of the score against the log-probability, in nats"
    )
