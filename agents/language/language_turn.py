"""One turn of the agents of a role: what is asked, read, drawn, generated and parsed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.language.choice_draws import choice_logps, draw_choice
from mores.agents.language.coupling import token_gumbel
from mores.agents.language.engine_calls import ActSteps, EngineCall, GenerateCall, ScoreCall
from mores.agents.language.language_model import (
    Conversation,
    GenerateRequest,
    Message,
    Reply,
    Score,
    ScoreRequest,
)
from mores.agents.language.language_settings import (
    MAX_ATTEMPTS,
    METRICS,
    LanguageSettings,
    LanguageState,
    no_counts,
)
from mores.agents.language.memory import MemoryReader, RememberedReply
from mores.agents.language.readouts.expected_rating import ExpectedRating, expected_point
from mores.agents.language.readouts.readout import Asked, Readout
from mores.agents.scripted.uniform_random import UniformRandom
from mores.core.environment import Phase
from mores.core.errors import UserError, printable
from mores.core.policy import ActionOutput
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Space
from mores.core.turn_text import TurnText, format_number, parse_probabilities

FALLBACK = "unparsable"  # scope of the streams of actions in place of unparsable replies
SUMMARY = MAX_ATTEMPTS  # number of the call of a summary, after those of replies
Row = tuple[int, int]  # world, agent
EngineSteps = Generator[EngineCall, list[Any], None]


class LanguageTurn:
    """A turn of all agents of a role.

    Args:
        settings: the policy.
        phase: the phase.
        observation: of every agent.
        action_mask: legal options; `None`: all.
        state: state of the policy.
        streams: random numbers of this phase.
        finished: worlds whose actions are not used; `None`: no world.
    """

    def __init__(
        self,
        settings: LanguageSettings,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: LanguageState,
        streams: RandomStreams,
        finished: Bool[Tensor, " world"] | None = None,
    ) -> None:
        self.settings, self.phase, self.state, self.streams = settings, phase, state, streams
        self.engine = settings.engine_for(state)
        self.space: Space = phase.action_spaces[state.role.name]
        self.device, self.leading = observation.device, tuple(observation.shape[:2])
        self.mask = None if action_mask is None else action_mask.cpu()
        self._action_mask, self._observation = action_mask, observation
        self.asked: dict[Row, Asked] = {}
        self.actions = self._single_actions()
        self.counts = no_counts(self.leading, "cpu")
        self.fallback = torch.zeros(self.leading, dtype=torch.bool)
        self.logps: dict[Row, Tensor] = {}
        self._near_tie = torch.zeros(self.leading, dtype=torch.float64)
        self._token_counts: dict[Conversation, int] = {}
        self.memory: MemoryReader | None = None
        if state.memory is not None:
            self.memory = MemoryReader(state.memory, settings.memory_settings, self.engine)
        self._ask(observation.cpu(), finished)

    def _ask(self, observation: Tensor, finished: Tensor | None) -> None:
        """Write the turns of the agents that are asked: those with several legal actions."""
        turns: dict[tuple[bytes, bytes], TurnText] = {}
        skipped = set() if finished is None else set(finished.nonzero()[:, 0].tolist())
        for world in range(self.leading[0]):
            for agent in range(self.leading[1]):
                row = world, agent
                if world in skipped or not self._has_choice(row):
                    continue
                obs, mask = observation[row], self._mask(row)
                key = obs.numpy().tobytes(), b"" if mask is None else mask.numpy().tobytes()
                if key not in turns:
                    turns[key] = self.state.text.describe(self.phase.name, obs, mask)
                self.asked[row] = self.settings.ask(
                    self.phase, obs, mask, self.state, world, agent, turns[key]
                )

    def _mask(self, row: Row) -> Tensor | None:
        return None if self.mask is None else self.mask[row]

    def _has_choice(self, row: Row) -> bool:
        """Whether an agent has more than one legal action."""
        if isinstance(self.space, Box) or self.mask is None:
            return True
        options = self.space.num_options
        parts = self.mask[row].split((options,) if isinstance(options, int) else options)
        return any(int(part.sum()) > 1 for part in parts)

    def _single_actions(self) -> Tensor:
        """The first legal action of every agent; of a box its lower limit, or 0."""
        if isinstance(self.space, Box):
            low, high = self.space.limits
            action = torch.zeros(self.space.size).clamp(low, high)
            return action.expand(*self.leading, -1).clone()
        options = self.space.num_options
        sizes = (options,) if isinstance(options, int) else options
        if self.mask is None:
            action = torch.zeros(*self.leading, len(sizes), dtype=torch.int64)
        else:
            parts = self.mask.split(sizes, -1)
            action = torch.stack([part.to(torch.int8).argmax(-1) for part in parts], -1)
        return action[..., 0] if isinstance(self.space, Discrete) else action

    # --- steps -----------------------------------------------------------------------------------

    def steps(self) -> ActSteps:
        """Read and generate, and return the output."""
        readouts: dict[Row, Readout] = {}
        generated = []
        for row, asked in self.asked.items():
            readout = self.settings.readout_for(asked.turn, self.space, self.engine)
            if readout is None or readout.generates:
                generated.append(row)
            else:
                readouts[row] = readout
        if self.memory is not None:
            yield from self._summarize()
            for row, asked in self.asked.items():
                remembered = self.memory.conversation(row)
                self.asked[row] = dataclasses.replace(
                    asked,
                    conversation=(*asked.conversation, *remembered),
                    baseline=(*asked.baseline, *remembered),
                )
        if readouts:
            yield from self._read(readouts)
        if generated:
            yield from self._generate(generated)
        return self._output()

    def _is_remembered(self, row: Row) -> bool:
        """Whether a turn is part of what happened; answers that only measure are not."""
        return self.asked[row].turn.form != "probabilities"

    def _summarize(self) -> EngineSteps:
        """Let agents whose memory is full summarize the older part of it."""
        memory = self.memory
        assert memory is not None
        full = [row for row in self.asked if self._is_remembered(row) and memory.summary_turns(row)]
        if not full:
            return
        settings, requests = self.settings, list[GenerateRequest]()
        for row in full:
            conversation = (*self.asked[row].conversation, *memory.summary_conversation(row))
            requests.append(self._request(conversation, row, SUMMARY, settings.summary_tokens))
        gumbel = token_gumbel(
            self.streams, torch.tensor(full), SUMMARY, self.engine.vocabulary_size
        )
        replies: list[Reply] = yield GenerateCall(self.engine, requests, gumbel)
        for row, request, reply in zip(full, requests, replies, strict=True):
            self._count_reply(row, request, reply)
            memory.summarize(row, self.engine.reply_codes(reply))

    def _remember(self, row: Row, message: str, reply: RememberedReply) -> None:
        if self.memory is not None and self._is_remembered(row):
            self.memory.remember(row, message, reply)

    def _output(self) -> ActionOutput:
        counts = {
            name: self.state.counts[name] + self.counts[name].to(self.device) for name in METRICS
        }
        extra = {"unparsable": self.fallback.to(self.device)}
        if self.logps and isinstance(self.space, Discrete):
            extra["log_probabilities"] = self._grid(self.logps).to(self.device)
        memory = None if self.memory is None else self.memory.memory
        state = dataclasses.replace(self.state, counts=counts, memory=memory)
        return ActionOutput(self.actions.to(self.device), state, extra)

    def _count(self, row: Row, **counts: int | float) -> None:
        for name, number in counts.items():
            self.counts[name][row] += number

    def _num_tokens(self, conversation: Conversation) -> int:
        if conversation not in self._token_counts:
            self._token_counts[conversation] = self.engine.count_tokens(conversation)
        return self._token_counts[conversation]

    # --- reading ---------------------------------------------------------------------------------

    def _read(self, readouts: Mapping[Row, Readout]) -> EngineSteps:
        """Read choices from scores, and draw those that act."""
        requests: dict[Row, list[ScoreRequest]] = {
            row: readout.requests(self.asked[row]) for row, readout in readouts.items()
        }
        scores = yield ScoreCall(self.engine, [each for own in requests.values() for each in own])
        results = iter(scores)
        for row, readout in readouts.items():
            own = [next(results) for _ in requests[row]]
            self.logps[row] = readout.read(self.asked[row], own)
            # rounding errors of tokens are independent: those of a sum grow with the root
            self._near_tie[row] = self.engine.near_tie * math.sqrt(readout.num_summed(own))
            for request, score in zip(requests[row], own, strict=True):
                self._count_score(row, request, score)
        draws = isinstance(self.space, Discrete)
        if draws:
            self._draw(list(readouts))
        else:
            self._measure(readouts)
        for row, readout in readouts.items():
            asked, action = self.asked[row], self.actions[row]
            text = (
                readout.reply_text(asked.turn, int(action))
                if draws
                else " ".join(map(format_number, action.tolist()))
            )
            message = readout.user_text(asked.turn, asked.legal)
            self._remember(row, message, RememberedReply(text=text))

    def _count_score(self, row: Row, request: ScoreRequest, score: Score) -> None:
        if (counted := score.counted) is not None:
            prompt = counted.prompt_tokens
            self._count(row, reply_tokens=counted.reply_tokens, cost=counted.cost)
        else:
            prompt = self._num_tokens(request.conversation) + sum(score.num_tokens)
        self._count(row, requests=1, prompt_tokens=prompt)

    def _draw(self, rows: Sequence[Row]) -> None:
        """Draw a choice of each of these agents."""
        ordered = torch.zeros(self.leading, dtype=torch.bool)
        for row in rows:
            ordered[row] = self.asked[row].turn.ordered
        temperature = self.settings.temperature
        grid = self._grid(self.logps).to(self.device)
        drawn = draw_choice(
            grid,
            ordered.to(self.device),
            temperature,
            self._near_tie.to(self.device),
            self.streams,
        )
        action, near = drawn.action.cpu(), drawn.is_near_tie.cpu()
        for row in rows:
            self.actions[row] = action[row]
            self._count(row, near_ties=int(near[row]))

    def _measure(self, readouts: Mapping[Row, Readout]) -> None:
        """Probabilities, and expected points of scales, as actions; nothing is drawn."""
        for row, readout in readouts.items():
            logps = choice_logps(self.logps[row], self.settings.temperature)
            action = read_action(readout, self.asked[row], self.space, logps)
            self.actions[row][: len(action)] = action  # a box may have room for more options

    def _grid(self, by_row: Mapping[Row, Tensor]) -> Float[Tensor, "world agent option"]:
        """Log-probabilities of all agents; one that was not asked takes its action for certain."""
        options = len(next(iter(by_row.values())))
        grid = torch.full((*self.leading, options), -torch.inf, dtype=torch.float64)
        grid.scatter_(-1, self.actions[..., None], 0.0)
        for row, logps in by_row.items():
            grid[row] = logps
        return grid

    # --- generating ------------------------------------------------------------------------------

    def _generate(self, rows: Sequence[Row]) -> EngineSteps:
        """Generate and parse replies; ask again, or act at random, where one states no action."""
        conversations: dict[Row, Conversation] = {}
        for row in rows:
            asked = self.asked[row]
            message = Message("user", self.settings.generation_text(asked))
            conversations[row] = (*asked.conversation, message)
        waiting, last_replies = list(rows), dict[Row, Reply]()
        retries = self.settings.on_unparsable == "retry"
        for call in range(self.settings.max_attempts if retries else 1):
            tokens = self.settings.max_new_tokens
            requests = [self._request(conversations[row], row, call, tokens) for row in waiting]
            gumbel = token_gumbel(
                self.streams, torch.tensor(waiting), call, self.engine.vocabulary_size
            )
            replies: list[Reply] = yield GenerateCall(self.engine, requests, gumbel)
            unparsed = []
            for row, request, reply in zip(waiting, requests, replies, strict=True):
                self._count_reply(row, request, reply)
                last_replies[row] = reply
                if self._parse(row, reply):
                    continue
                unparsed.append(row)
                self._count(row, unparsable=1)
                correction = Message("user", self.settings.correction_text(self.asked[row]))
                said = self.engine.reply_message(self.engine.reply_codes(reply))
                conversations[row] = (*conversations[row], said, correction)
            waiting = unparsed
            if not waiting:
                break
        if waiting:
            self._act_at_random(waiting)
        for row, reply in last_replies.items():
            message = self.settings.generation_text(self.asked[row])
            self._remember(row, message, RememberedReply(tuple(self.engine.reply_codes(reply))))

    def _request(
        self, conversation: Conversation, row: Row, call: int, max_new_tokens: int
    ) -> GenerateRequest:
        return GenerateRequest(
            conversation,
            max_new_tokens,
            self.settings.temperature,
            self.asked[row].adapter,
            address=f"{self.streams.address(row[0])} agent {row[1]} call {call}",
        )

    def _count_reply(self, row: Row, request: GenerateRequest, reply: Reply) -> None:
        if (counted := reply.counted) is not None:
            prompt, generated = counted.prompt_tokens, counted.reply_tokens
            self._count(row, cost=counted.cost)
        else:
            prompt = self._num_tokens(request.conversation)
            generated = len(reply.token_ids)
        self._count(row, requests=1, prompt_tokens=prompt, reply_tokens=generated)
        self._count(row, near_ties=reply.near_ties)

    def _parse(self, row: Row, reply: Reply) -> bool:
        """Set the action that a reply states; whether it states one.

        Raises:
            UserError: it states none, and `on_unparsable` is error.
        """
        turn, text = self.asked[row].turn, reply.text
        if turn.form == "probabilities" and isinstance(self.space, Box):
            action = parse_probabilities(self.space, text, len(turn.options))
        else:
            action = self.state.text.parse_reply(self.phase.name, text, self._mask(row))
        if action is not None:
            self.actions[row] = action
            return True
        if self.settings.on_unparsable == "error":
            raise UserError(
                f"{self.state.role.name}_{row[1]}: the reply {printable(reply.text)!r} states no "
                f"action in {self.phase.name!r}",
                code="invalid_value",
                path=f"policies.{self.state.role.name}",
            )
        return False

    def _act_at_random(self, rows: Sequence[Row]) -> None:
        """Uniform random legal actions of these agents, with shared random numbers."""
        policy, streams = UniformRandom(), self.streams.child(FALLBACK)
        name = policy.initial_state(self.state.role, (self.phase,), streams)
        output = policy.act(self.phase, self._observation, self._action_mask, name, streams)
        random = output.action.cpu()
        for row in rows:
            self.actions[row] = random[row]
            self.fallback[row] = True
            self._count(row, fallbacks=1)


def read_action(
    readout: Readout, asked: Asked, space: Space, logps: Float[Tensor, " option"]
) -> Float[Tensor, " size"]:
    """The action of a turn that measures: probabilities, or the expected point of a scale."""
    if isinstance(readout, ExpectedRating) and asked.turn.form == "choice":
        assert isinstance(space, Box)
        return expected_point(logps, readout.scale(space)).float()
    return logps.exp().float()
