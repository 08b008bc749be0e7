"""A small environment with all forms of a turn, and a model whose replies are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.language.language_model import (
    Conversation,
    Engine,
    GenerateRequest,
    GumbelFunction,
    LanguageModel,
    Message,
    Reply,
    Score,
    ScoreRequest,
)
from mores.agents.language.language_policy import LanguagePolicy
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.turn_text import TurnText, decode_message, message_space

BYTES = 24
STATEMENTS = ("I like it.", "I do not like it.")
FRUITS = ("apple", "pear", "plum")


@dataclasses.dataclass(frozen=True)
class TalkState:
    values: Tensor  # [world, person, 2]
    heard: Tensor  # [world, person, byte]
    chosen: Tensor  # [world, person]
    rating: Tensor  # [world, person]
    attitude: Tensor  # [world, person, 2]
    number: Tensor  # [world, person]
    round: Tensor  # [world, 1]
    traits: dict[str, Tensor]


class Talk(Environment[TalkState]):
    """People who write to the next person, choose a fruit, rate, say what they like, name numbers.

    The last fruit is illegal for the first person; in even rounds the first person has no choice.
    """

    num_people: int = Field(default=2, ge=1)
    phase_names: tuple[str, ...] = ("say", "choose", "rate", "attitude", "number")
    end_world: int = -1  # its episode ends after the first round

    @property
    def roles(self) -> tuple[Role, ...]:
        space = Box.of(values=2, heard=Part(BYTES, 0.0, 256.0), round=1)
        return (Role("person", self.num_people, space),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        spaces = {
            "say": message_space(BYTES),
            "choose": Discrete(3),
            "rate": Discrete(5),
            "attitude": Box.of(probabilities=Part(2, 0.0, 1.0)),
            "number": Box.of(number=Part(1, -2.0, 2.0)),
        }
        return tuple(Phase(name, {"person": spaces[name]}) for name in self.phase_names)

    def reset(self, streams: RandomStreams, people: People | None = None) -> TalkState:
        values = streams.normal("values", self.num_people, 2)
        zero = torch.zeros_like(values[..., 0])
        age = 20.0 + 50 * streams.uniform("age", self.num_people)[..., 0]
        heard = torch.full((*zero.shape, BYTES), 256)
        return TalkState(
            values, heard, zero, zero, torch.zeros_like(values), zero, zero[:, :1], {"age": age}
        )

    def people(self, state: TalkState) -> People:
        groups = (torch.arange(self.num_people) % 2).expand(state.values.shape[:2])
        return People(state.values, state.traits, groups, ("even", "odd"))

    def observe(self, state: TalkState, role: str, phase: str) -> Tensor:
        rounds = state.round[..., None].expand(*state.values.shape[:2], 1)
        return torch.cat([state.values, state.heard.to(torch.float32), rounds], -1)

    def action_mask(self, state: TalkState, role: str, phase: str) -> Tensor | None:
        if phase != "choose":
            return None
        mask = torch.ones(*state.values.shape[:2], 3, dtype=torch.bool)
        mask[:, 0, 2] = False
        mask[:, 0, 1] = state.round[:, 0] % 2 == 1
        return mask

    def step(
        self, state: TalkState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[TalkState]:
        action = actions["person"]
        if phase == "say":
            state = dataclasses.replace(state, heard=action.roll(1, 1))
        elif phase == "choose":
            state = dataclasses.replace(state, chosen=action.to(torch.float32))
        elif phase == "rate":
            state = dataclasses.replace(state, rating=action.to(torch.float32))
        elif phase == "attitude":
            state = dataclasses.replace(state, attitude=action)
        else:
            state = dataclasses.replace(state, number=action[..., 0])
        terminated = None
        if phase == self.phase_names[-1]:
            state = dataclasses.replace(state, round=state.round + 1)
            terminated = streams.world == self.end_world
        return StepResult(state, terminated=terminated)

    def metrics(self, state: TalkState) -> Mapping[str, Tensor]:
        return {
            "chosen": state.chosen,
            "rating": state.rating,
            "liking": state.attitude[..., 0],
            "number": state.number,
        }

    def render(self, state: TalkState, world: int = 0) -> str:
        return "\n".join(map(decode_message, state.heard[world]))  # careless: not escaped

    def role_rules(self, role: str) -> str:
        return "You are one of several people."

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        space = self.roles[0].observation_space
        heard = decode_message(space.read(observation, "heard"))
        situation = f"Round {int(observation[-1])}. You heard: {heard}"
        if phase == "say":
            return TurnText(situation, "What do you say?", "message")
        if phase == "choose":
            return TurnText(situation, "Which fruit?", "choice", FRUITS)
        if phase == "rate":
            options = ("bad", "poor", "fair", "good", "great")
            return TurnText(situation, "How is it?", "choice", options, ordered=True)
        if phase == "attitude":
            return TurnText(situation, "Do you?", "probabilities", ("yes", "no"), STATEMENTS)
        return TurnText(situation, "State a number from -2 to 2.", "numbers")


class GivenEngine(Engine):
    """Replies and scores by functions, and a record of all calls. A token is a byte."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary_size = 4
        self.reply: Callable[[GenerateRequest], str] = lambda request: "1"
        self.logp: Callable[[ScoreRequest, str], float] = lambda request, text: -1.0
        self.calls: list[list[Any]] = []
        self.scores_texts, self.num_tokens = True, 1

    @property
    def scores(self) -> bool:  # type: ignore[override]
        return self.scores_texts

    @property
    def requests(self) -> list[Any]:
        return [request for call in self.calls for request in call]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        self.calls.append(list(requests))
        return [
            Score(
                tuple(self.logp(r, text) for text in r.continuations),
                (self.num_tokens,) * len(r.continuations),
            )
            for r in requests
        ]

    def generate(
        self, requests: Sequence[GenerateRequest], gumbel: GumbelFunction | None
    ) -> list[Reply]:
        self.calls.append(list(requests))
        self.gumbel = gumbel
        texts = [self.reply(request) for request in requests]
        return [Reply(text, tuple(text.encode()), near_ties=1) for text in texts]

    def count_tokens(self, conversation: Conversation) -> int:
        return sum(len(message.text) for message in conversation)

    def reply_message(self, codes: Sequence[int]) -> Message:
        return Message("assistant", bytes(codes).decode(errors="replace"), tuple(codes))


class GivenModel(LanguageModel):
    """A model with a `GivenEngine` by its name."""

    name: str = "a"
    engines: ClassVar[dict[str, GivenEngine]] = {}

    def engine(self) -> GivenEngine:
        return self.engines.setdefault(self.name, GivenEngine())

    def identity(self) -> Mapping[str, str]:
        return {"name": self.name}


def given(name: str = "a", **parameters: Any) -> tuple[LanguagePolicy, GivenEngine]:
    """A policy whose model replies as given, and its new engine."""
    GivenModel.engines[name] = engine = GivenEngine()
    return LanguagePolicy(model=GivenModel(name=name), **parameters), engine


def contents(request: Any) -> list[str]:
    """The messages of a request: first letter of the role, and text."""
    return [f"{message.role[0]}: {message.text}" for message in request.conversation]
