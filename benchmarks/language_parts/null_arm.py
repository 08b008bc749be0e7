"""Two equal arms of a conversation with personas, computed in different batches.

Every persona answers a question in each round, with its last answer in the context, so that a token
that differs changes later rounds. Tokens are drawn with the same Gumbel numbers in both arms. One
arm is computed with all personas in a call, the other in calls of random sizes with shuffled
personas, by an engine with other numbers of rows; nothing is kept from one arm for the other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import torch

from mores.agents.language.coupling import token_gumbel
from mores.agents.language.language_model import GenerateRequest, Message, Reply
from mores.agents.language.models.local_engine import LocalEngine
from mores.core.random_streams import RandomStreams

RULES = "You take part in a survey about everyday life. Answer in one short sentence. "
JOBS = ("a nurse", "a farmer", "a teacher", "a bus driver", "an engineer", "a student of law")
PLACES = ("in a large city", "in a village", "by the sea", "in the mountains", "abroad")
QUESTIONS = (
    *("Should buses be free?", "Is it right to eat meat?", "Do you trust your neighbors?"),
    *("What would you change in your town?", "Are taxes too high?", "Do you like your work?"),
    *("Should schools begin later?", "Is the news fair?"),
)


class Arm:
    """An arm: its engine, and the last turn of each persona."""

    def __init__(self, engine: LocalEngine, seed: int, personas: int) -> None:
        self.engine, self.streams = engine, RandomStreams.of(seed, 1).child("player/person/answer")
        self.turns: list[tuple[Message, ...]] = [()] * personas
        self.near_ties = self.tokens = 0

    def answer(self, number: int, batches: Sequence[Sequence[int]], new_tokens: int) -> list[Reply]:
        """Replies of all personas in a round, asked in these batches."""
        streams, question = self.streams.at(number), QUESTIONS[number % len(QUESTIONS)]
        replies: dict[int, Reply] = {}
        for batch in batches:
            requests = [
                GenerateRequest((*self._begin(i), Message("user", question)), new_tokens)
                for i in batch
            ]
            rows = torch.tensor([[0, i] for i in batch])
            gumbel = token_gumbel(streams, rows, 0, self.engine.vocabulary_size)
            replies |= zip(batch, self.engine.generate(requests, gumbel), strict=True)
        for i, reply in replies.items():
            said = self.engine.reply_message(reply.token_ids)
            self.turns[i] = Message("user", question), said
            self.near_ties += reply.near_ties
            self.tokens += len(reply.token_ids)
        return [replies[i] for i in range(len(replies))]

    def _begin(self, persona: int) -> tuple[Message, ...]:
        who = f"You are {JOBS[persona % 6]} {PLACES[persona % 5]}, {20 + persona} years old."
        return Message("system", RULES + who), *self.turns[persona]


def shuffled_batches(count: int, generator: random.Random) -> list[list[int]]:
    """All numbers below `count` in random order, in batches of random sizes."""
    order = generator.sample(range(count), count)
    batches = []
    while order:
        size = generator.randint(1, 40)
        batches.append(order[:size])
        order = order[size:]
    return batches


def measure(
    model: Any,
    tokenizer: Any,
    personas: int = 64,
    rounds: int = 16,
    new_tokens: int = 8,
    seed: int = 0,
) -> dict[str, Any]:
    """Number of persona-rounds whose replies have equal tokens in both arms."""
    start = time.process_time()
    arms = [Arm(LocalEngine(model, tokenizer, rows=rows), seed, personas) for rows in (64, 16)]
    generator, equal, explained = random.Random(seed), 0, 0
    for number in range(rounds):
        first = arms[0].answer(number, [list(range(personas))], new_tokens)
        second = arms[1].answer(number, shuffled_batches(personas, generator), new_tokens)
        for one, other in zip(first, second, strict=True):
            equal += one.token_ids == other.token_ids
            explained += one.token_ids != other.token_ids and one.near_ties > 0
    count = personas * rounds
    return {
        "persona_rounds": count,
        "tokens_of_an_arm": arms[0].tokens,
        "equal": equal,
        "different_with_near_tie": explained,
        "different_without": count - equal - explained,
        "near_ties_of_an_arm": arms[0].near_ties,
        "cpu_seconds": round(time.process_time() - start, 1),
    }
