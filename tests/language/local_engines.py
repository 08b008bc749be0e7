"""Engines of tiny random models, and what they should compute, one conversation at a time."""

from __future__ import annotations

import os
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any Hugging Face library reads it

import torch
from torch import Tensor

from mores.agents.language.language_model import (
    Conversation,
    GenerateRequest,
    Message,
    ScoreRequest,
)
from mores.agents.language.models.local_engine import LocalEngine
from mores.agents.language.models.tiny import tiny_model

RULES = "You answer questions about everyday life, in one short sentence."


def engine(rows: int = 8, seed: int = 0, **options: Any) -> LocalEngine:
    """A new engine of a tiny random model."""
    return LocalEngine(*tiny_model(32, 2, seed), rows=rows, **options)


def conversation(person: int, length: int = 0, replies: int = 0) -> Conversation:
    """Common rules, a persona, earlier turns, and a question of some length."""
    turns: list[Message] = []
    for turn in range(replies):
        turns += [Message("user", f"Question {turn}?"), Message("assistant", f"Well, {person}.")]
    system = Message("system", f"{RULES} You are person {person}.")
    return (system, *turns, Message("user", "Do you like tea?" + "!" * length))


def plain_scores(engine: LocalEngine, request: ScoreRequest) -> list[float]:
    """Log-probabilities of the continuations, each by a forward pass without padding."""
    prompt, found = engine.prompt(request.conversation), []
    for text in request.continuations:
        reply = engine.chat.reply(text, request.with_end)
        with torch.no_grad():
            raw = engine.model(torch.tensor([[*prompt, *reply]])).logits[0]
        logps = raw.double().log_softmax(-1)
        found.append(sum(float(logps[len(prompt) + i - 1, t]) for i, t in enumerate(reply)))
    return found


def plain_reply(
    engine: LocalEngine, request: GenerateRequest, index: int = 0
) -> tuple[tuple[int, ...], list[float]]:
    """Tokens of a reply, each by a forward pass over everything before it; and their gaps."""
    prompt, reply, gaps = list(engine.prompt(request.conversation)), list[int](), list[float]()
    for position in range(request.max_new_tokens):
        with torch.no_grad():
            logits = engine.model(torch.tensor([[*prompt, *reply]])).logits[0, -1].float()
        if request.temperature > 0:
            logits = logits / request.temperature + noise([index], position, len(logits))[0]
        first, second = logits.topk(2).values.tolist()
        gaps.append(first - second)
        reply.append(int(logits.argmax()))
        if engine.chat.is_end(reply[-1]):
            break
    return tuple(reply), gaps


def noise(indices: Any, position: int, width: int = 261) -> Tensor:
    """Gumbel numbers of requests, by their indices."""
    rows = []
    for index in indices:
        generator = torch.Generator().manual_seed(1000 * index + position)
        uniform = torch.rand(width, generator=generator).clamp(1e-6, 1 - 1e-6)
        rows.append(-(-uniform.log()).log())
    return torch.stack(rows)
