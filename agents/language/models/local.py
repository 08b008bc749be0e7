"""Language models in process: weights of transformers from a folder or the hub."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field

from mores.agents.language.causal_lm import forward_logits
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
from mores.agents.language.optional_imports import import_optional
from mores.agents.language.tokenization import PromptTokenizer


class LocalModel(LanguageModel):
    """A causal language model of transformers, loaded into this process."""

    path: str = Field(description="folder of the model, or its name on the hub")
    rows: int = Field(default=16, ge=1, le=4096, description="conversations in a forward pass")

    def load(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        transformers = import_optional("transformers")
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.path)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            self.path, dtype=torch.float32, use_safetensors=True
        )
        return model.eval(), tokenizer

    def engine(self) -> LocalEngine:
        """See `LanguageModel`."""
        return _engine(type(self), self.model_dump_json())

    def identity(self) -> Mapping[str, str]:
        """See `LanguageModel`."""
        return {"path": self.path}


@functools.cache
def _engine(model_class: type[LocalModel], data: str) -> LocalEngine:
    specification = model_class.model_validate_json(data)
    return LocalEngine(*specification.load(), specification.rows)


class LocalEngine(Engine):
    """Forward passes of a model of transformers."""

    def __init__(self, model: Any, tokenizer: Any, rows: int) -> None:
        super().__init__()
        self.model, self.tokenizer, self.rows = model, tokenizer, rows
        self.prompt_tokenizer = PromptTokenizer(tokenizer)
        self.vocabulary_size = model.config.vocab_size

    def prompt(self, conversation: Conversation) -> list[int]:
        """Tokens of a conversation up to the start of the reply."""
        messages = [{"role": m.role, "content": m.text} for m in conversation]
        return self.prompt_tokenizer.encode_prompt(messages)

    @torch.no_grad()
    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """See `Engine`."""
        found = []
        for request in requests:
            prompt = self.prompt(request.conversation)
            logps, counts = [], []
            for text in request.continuations:
                reply = self.prompt_tokenizer.encode(text)
                if request.with_end:
                    reply = self.prompt_tokenizer.encode_reply(text)
                tokens = torch.tensor([[*prompt, *reply]])
                raw, _ = forward_logits(self.model, tokens, len(reply) + 1)
                scores = raw[0, -(len(reply) + 1) : -1].float().log_softmax(-1)
                logps.append(float(scores.gather(-1, torch.tensor(reply)[:, None]).sum()))
                counts.append(len(reply))
            found.append(Score(tuple(logps), tuple(counts)))
        return found

    @torch.no_grad()
    def generate(
        self, requests: Sequence[GenerateRequest], gumbel: GumbelFunction | None
    ) -> list[Reply]:
        """See `Engine`."""
        return [self._reply(index, request, gumbel) for index, request in enumerate(requests)]

    def _reply(self, index: int, request: GenerateRequest, gumbel: GumbelFunction | None) -> Reply:
        tokens, reply = self.prompt(request.conversation), list[int]()
        near_ties = 0
        for position in range(request.max_new_tokens):
            raw, _ = forward_logits(self.model, torch.tensor([[*tokens, *reply]]), 1)
            logits = raw[0, -1].float()
            if request.temperature > 0:
                assert gumbel is not None
                logits = logits / request.temperature + gumbel([index], position)[0]
            best = logits.topk(2).values
            near_ties += bool(best[0] - best[1] < self.near_tie)
            reply.append(int(logits.argmax()))
            if self.prompt_tokenizer.is_complete(reply):
                break
        complete = self.prompt_tokenizer.is_complete(reply)
        text = self.prompt_tokenizer.decode_reply(reply)
        return Reply(text, tuple(reply), complete, near_ties=near_ties)

    def count_tokens(self, conversation: Conversation) -> int:
        """See `Engine`."""
        return len(self.prompt(conversation))

    def reply_message(self, codes: Sequence[int]) -> Message:
        """See `Engine`."""
        text = self.prompt_tokenizer.decode_reply(list(codes))
        return Message("assistant", text, tuple(codes))
