"""Replies and scores of SmolLM2 have the same bits in every batch."""

from __future__ import annotations

import pytest
import torch

from mores.agents.language.coupling import token_gumbel
from mores.agents.language.language_model import GenerateRequest, Message, ScoreRequest
from mores.agents.language.models.smollm2 import SmolLM2
from mores.core.random_streams import RandomStreams

RULES = "You take part in a survey about everyday life. Answer in one short sentence. "
JOBS = ("nurse", "farmer", "teacher", "driver", "retired engineer", "student of law")


def conversation(person: int) -> tuple[Message, ...]:
    persona = f"You are a {JOBS[person % 6]}, {20 + person} years old" + ", from Ohio" * (
        person % 5
    )
    question = "Do you like tea?" if person % 2 else "Should buses be free? Say why."
    return Message("system", RULES + persona), Message("user", question)


def test_scores_are_those_of_plain_forward_passes() -> None:
    engine = SmolLM2().engine()
    requests = [ScoreRequest(conversation(i), ("Yes", "No, never.")) for i in range(4)]
    for request, score in zip(requests, engine.score(requests), strict=True):
        prompt = engine.prompt(request.conversation)
        for text, logp in zip(request.continuations, score.logps, strict=True):
            reply = engine.chat.reply(text, False)
            with torch.no_grad():
                raw = engine.model(torch.tensor([[*prompt, *reply]])).logits[0]
            logps = raw.double().log_softmax(-1)
            plain = sum(float(logps[len(prompt) + i - 1, t]) for i, t in enumerate(reply))
            assert float(logp) == pytest.approx(plain, abs=2e-4)


def test_bits_do_not_depend_on_companions_order_or_the_number_of_rows() -> None:
    engine, few = SmolLM2().engine(), SmolLM2(rows=12).engine()
    people = list(range(20))
    scores = [ScoreRequest(conversation(i), ("Yes", "No, never.")) for i in people]
    replies = [GenerateRequest(conversation(i), 8) for i in people]
    streams = RandomStreams.of(0, 1).child("player/person/answer")
    rows = torch.tensor([[0, i] for i in people])
    width = engine.vocabulary_size
    expected = engine.score(scores)
    drawn = engine.generate(replies, token_gumbel(streams, rows, 0, width))
    for other, order in ((engine, people[::-1]), (few, people[7:] + people[:7])):
        other.store.clear()
        assert other.score([scores[i] for i in order]) == [expected[i] for i in order]
        again = other.generate(
            [replies[i] for i in order], token_gumbel(streams, rows[order], 0, width)
        )
        assert again == [drawn[i] for i in order]
