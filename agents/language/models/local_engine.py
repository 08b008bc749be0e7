"""Scores and replies of a model in this process, many requests at a time.

Three properties carry the rest of the package:

Exact.   A result depends on its request alone. Passes have few shapes, and those of a row depend on
         its own lengths: prompts in whole blocks, replies after the prompt in whole columns. Other
         rows of a pass do not change the bits of a row.
Shared.  Equal prompts are computed once, common beginnings of prompts once, continuations of a
         prompt use its keys and values, and beginnings stay for later calls (`local_prefixes`).
Coupled. Tokens are drawn by Gumbel numbers of the caller over the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from mores.agents.language.adapter_set import AdapterSet
from mores.agents.language.language_model import (
    Conversation,
    Engine,
    GenerateRequest,
    GumbelFunction,
    Message,
    Reply,
    Score,
    ScoreRequest,
    TokenCandidate,
)
from mores.agents.language.models.chat_tokens import ChatTokens
from mores.agents.language.models.local_forward import Forward
from mores.agents.language.models.local_generation import Drawn, generate_batch
from mores.agents.language.models.local_prefill import Prompt, prefill
from mores.agents.language.models.local_prefixes import BlockStore
from mores.agents.language.models.local_scoring import score_batch
from mores.agents.language.models.model_check import check_model
from mores.core.errors import UserError, printable

Item = TypeVar("Item")
# `Engine.near_tie` by precision. Measured between two of the eight likeliest tokens of
# SmolLM2-135M: in 32 bits at most 5e-5 against 64 bits; in 16 bits .06 (median) and .39 (largest)
# against 64 bits, and .25 (largest) between batches of two shapes.
NEAR_TIES = {torch.float32: 1e-4, torch.bfloat16: 0.3}


class LocalEngine(Engine):
    """Forward passes of a model of transformers.

    Args:
        model: causal, of transformers, in eval mode.
        tokenizer: its tokenizer.
        rows: largest number of rows of a pass.
        full: whether every pass has exactly this number of rows.
        block: tokens of a block, in which prompts are computed and beginnings shared.
        columns: prompts are padded to multiples of it before a reply.
        kept_bytes: largest size of kept keys and values.
        batch_bytes: largest size of the keys and values of a batch.

    Attributes:
        adapters: adapters of the model; set them before requests name one.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        rows: int = 64,
        full: bool = False,
        block: int = 16,
        columns: int = 64,
        kept_bytes: int = 2**28,
        batch_bytes: int = 2**31,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.block, self.columns = block, columns
        self.forward = Forward(model, rows, full, block, batch_bytes)
        self.vocabulary_size = self.forward.vocabulary_size
        ends = _end_tokens(model, self.vocabulary_size)
        self.chat = ChatTokens(tokenizer, ends, self.vocabulary_size)
        check_model(self.forward)
        self.store = BlockStore(kept_bytes)
        self.near_tie = NEAR_TIES.get(self.forward.dtype, NEAR_TIES[torch.bfloat16])

    @property
    def adapters(self) -> AdapterSet | None:
        """Adapters of the model."""
        return self.forward.adapters

    @adapters.setter
    def adapters(self, adapters: AdapterSet | None) -> None:
        self.forward.adapters = adapters

    def prompt(self, conversation: Conversation) -> tuple[int, ...]:
        """Tokens of a conversation up to the start of the reply."""
        return self.chat.prompt(conversation)

    def count_tokens(self, conversation: Conversation) -> int:
        """See `Engine`."""
        return len(self.prompt(conversation))

    def reply_message(self, codes: Sequence[int]) -> Message:
        """See `Engine`."""
        return Message("assistant", self.chat.decode(codes), tuple(codes))

    @torch.inference_mode()
    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """See `Engine`."""
        prompts, wanted = list[Prompt](), dict[Prompt, dict[tuple[int, ...], float]]()
        texts = list[list[tuple[int, ...]]]()
        for index, request in enumerate(requests):
            if not request.continuations:
                raise UserError(
                    "a request needs a continuation to score",
                    code="missing",
                    path="continuations",
                )
            prompt = self._prompt(request)
            continuations = [self.chat.reply(c, request.with_end) for c in request.continuations]
            longest = max(map(len, continuations))
            self._check_length(len(prompt.tokens) + max(longest - 1, 0), index)
            prompts.append(prompt)
            texts.append(continuations)
            wanted.setdefault(prompt, {}).update(dict.fromkeys(continuations, 0.0))
        for batch, columns in self._batches(wanted):
            done = prefill(self.forward, self.store, batch, columns)
            self.usage.computed_tokens += done.computed_tokens
            self.usage.computed_tokens += score_batch(self.forward, done, columns, wanted)
        self.usage.requests += len(requests)
        self.usage.prompt_tokens += sum(len(prompt.tokens) for prompt in prompts)
        return [
            Score(tuple(wanted[prompt][c] for c in each), tuple(map(len, each)))
            for prompt, each in zip(prompts, texts, strict=True)
        ]

    @torch.inference_mode()
    def generate(
        self, requests: Sequence[GenerateRequest], gumbel: GumbelFunction | None
    ) -> list[Reply]:
        """See `Engine`. The reply ends at the latest where the context of the model ends."""
        rows = dict[Prompt, list[int]]()
        drawn = list[Drawn]()
        for index, request in enumerate(requests):
            if request.temperature > 0 and gumbel is None:
                raise UserError(
                    "a positive temperature needs Gumbel numbers",
                    code="missing",
                    path="gumbel",
                )
            prompt = self._prompt(request)
            self._check_length(len(prompt.tokens) + 1, index)
            room = request.max_new_tokens
            if self.max_length is not None:
                room = min(room, self.max_length - len(prompt.tokens))
            drawn.append(Drawn(index, request.temperature, room, request.stop))
            rows.setdefault(prompt, []).append(index)
            self.usage.prompt_tokens += len(prompt.tokens)
        room = max((each.max_tokens for each in drawn), default=0)
        for batch, columns in self._batches(rows, room):
            longest = max(drawn[index].max_tokens for prompt in batch for index in rows[prompt])
            slots = columns + -(-longest // self.block) * self.block
            done = prefill(self.forward, self.store, batch, slots)
            self.usage.computed_tokens += done.computed_tokens
            mine = [(row, drawn[i]) for row, p in enumerate(done.prompts) for i in rows[p]]
            for part in parts(mine, self.forward.max_rows(slots)):
                self.usage.computed_tokens += generate_batch(
                    self.forward, self.chat, done, part, columns, self.block, gumbel, self.near_tie
                )
        self.usage.requests += len(requests)
        self.usage.reply_tokens += sum(len(each.tokens) for each in drawn)
        return [each.reply(self.chat) for each in drawn]

    @torch.inference_mode()
    def next_tokens(
        self, requests: Sequence[GenerateRequest], count: int
    ) -> list[list[TokenCandidate]]:
        """See `Engine`."""
        prompts = [self._prompt(request) for request in requests]
        for index, prompt in enumerate(prompts):
            self._check_length(len(prompt.tokens), index)
        found = dict[Prompt, list[TokenCandidate]]()
        for batch, columns in self._batches(dict.fromkeys(prompts)):
            done = prefill(self.forward, self.store, batch, columns)
            self.usage.computed_tokens += done.computed_tokens
            best = done.logits.float().log_softmax(-1).topk(min(count, self.vocabulary_size))
            for prompt, logps, tokens in zip(
                done.prompts, best.values.tolist(), best.indices.tolist(), strict=True
            ):
                found[prompt] = [
                    TokenCandidate(token, logp, self.chat.is_end(token))
                    for token, logp in zip(tokens, logps, strict=True)
                ]
        self.usage.requests += len(requests)
        return [found[prompt] for prompt in prompts]

    @property
    def max_length(self) -> int | None:
        """Tokens of the model's context, if its configuration states it."""
        return self.forward.max_length

    def _prompt(self, request: ScoreRequest | GenerateRequest) -> Prompt:
        count = 0 if self.adapters is None else self.adapters.num_adapters
        if not -1 <= request.adapter < count:
            raise UserError(
                f"there is no adapter {request.adapter}: the model has {count}",
                code="out_of_range",
                path="adapter",
            )
        start = request.reply_start if isinstance(request, GenerateRequest) else ()
        return Prompt(request.adapter, (*self.prompt(request.conversation), *start))

    def _check_length(self, length: int, index: int) -> None:
        if self.max_length is not None and length > self.max_length:
            raise UserError(
                f"request {index} needs {length} tokens, and the model's context has "
                f"{self.max_length}: shorten the rules or the memory",
                code="too_large",
                path="conversation",
            )

    def _batches(
        self, prompts: Iterable[Prompt], room: int = 0
    ) -> Iterator[tuple[list[Prompt], int]]:
        """Prompts of a batch, with their length in whole columns; equal beginnings together.

        Args:
            prompts: distinct prompts.
            room: largest number of tokens after a prompt.
        """
        groups = dict[int, list[Prompt]]()
        for prompt in prompts:
            length = -(-len(prompt.tokens) // self.columns) * self.columns
            groups.setdefault(length, []).append(prompt)
        for length, group in sorted(groups.items()):
            for part in parts(sorted(group), self.forward.max_rows(length + room)):
                yield part, length


def parts(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Consecutive parts of at most this size."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _end_tokens(model: Any, vocabulary_size: int) -> tuple[int, ...]:
    """Tokens that end a reply, of the generation configuration."""
    generation = getattr(model, "generation_config", None)
    given: Any = getattr(generation, "eos_token_id", None)
    ends = () if given is None else tuple(given) if isinstance(given, list | tuple) else (given,)
    for end in ends:
        if isinstance(end, bool) or not isinstance(end, int):
            wrong, code = "the number of a token, or a list of such", "wrong_type"
        elif not 0 <= end < vocabulary_size:
            wrong, code = f"a token of the model, 0 to {vocabulary_size - 1}", "out_of_range"
        else:
            continue
        message = f"eos_token_id: must be {wrong}, not {printable(end, 40)}"
        raise UserError(message, code=code, path="eos_token_id")
    return ends
