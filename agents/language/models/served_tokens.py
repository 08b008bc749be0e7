"""Tokenization of conversations and replies of a served model: local, or by the server.

vLLM's endpoint `/tokenize` applies the chat template to messages. SGLang's endpoint takes plain
text only, and other servers have none: these need a local tokenizer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from mores.agents.language.language_model import Conversation, ScoreRequest
from mores.agents.language.models.chat_tokens import ChatTokens
from mores.agents.language.models.served_answers import UnusableAnswer, token_list
from mores.agents.language.models.served_calls import Call, Caller
from mores.agents.language.optional_imports import import_optional
from mores.core.errors import UserError


class ScoredTokens(NamedTuple):
    """Tokens of a conversation (`prompt`) and of one scored reply to it (`reply`)."""

    prompt: list[int]
    reply: list[int]


class TokenSource(ABC):
    """Interface of a tokenizer for scoring: local, or an endpoint of the server."""

    @abstractmethod
    def tokens(self, requests: Sequence[ScoreRequest]) -> list[list[ScoredTokens]]:
        """Tokens by request, then by continuation."""


class LocalTokenizer(TokenSource):
    """Tokenizer of the library transformers, loaded on this machine.

    Args:
        path: folder of the tokenizer, or its name on the Hugging Face hub.
    """

    def __init__(self, path: str) -> None:
        transformers = import_optional("transformers", "llm")
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        except Exception as error:
            raise UserError(
                f"cannot load the tokenizer {path}: {str(error).strip().splitlines()[0]:.200}",
                code="unreadable",
                path="tokenizer",
            ) from None
        self._chat = ChatTokens(tokenizer)

    def prompt(self, conversation: Conversation) -> list[int]:
        """Tokens of a conversation up to the start of the reply."""
        return list(self._chat.prompt(conversation))

    def tokens(self, requests: Sequence[ScoreRequest]) -> list[list[ScoredTokens]]:
        """See `TokenSource`."""
        found = []
        for request in requests:
            prompt = self.prompt(request.conversation)
            replies = (self._chat.reply(x, request.with_end) for x in request.continuations)
            found.append([ScoredTokens(prompt, list(reply)) for reply in replies])
        return found


class ServerTokenizer(TokenSource):
    """Tokenization by the server's endpoint `/tokenize`.

    Args:
        caller: sends the requests.
        model: name of the model on the server.
    """

    def __init__(self, caller: Caller, model: str) -> None:
        self._caller, self._model = caller, model
        self._cache: dict[tuple[Any, ...], list[int]] = {}

    def is_available(self) -> bool:
        """Whether the server has the endpoint and accepts conversations."""

        def parse(data: Any) -> dict[str, Any]:
            try:
                return token_list(data)
            except UnusableAnswer:
                return {"tokens": []}

        body = {"model": self._model, "messages": [{"role": "user", "content": "Yes or no?"}]}
        call = Call("/tokenize", body, parse, optional=True, is_same_in_cells=True)
        (answer,) = self._caller([call])
        return bool(answer and answer["tokens"])

    def tokens(self, requests: Sequence[ScoreRequest]) -> list[list[ScoredTokens]]:
        """See `TokenSource`."""
        bodies: dict[tuple[Any, ...], dict[str, Any]] = {}
        for request in requests:
            bodies[request.conversation, True] = self._messages_body(request.conversation, True)
            for text in request.continuations:
                bodies[(text,)] = {"prompt": text, "add_special_tokens": False}
                if request.with_end:
                    whole = (*messages_json(request.conversation), _assistant(text))
                    body = {"messages": list(whole), "add_generation_prompt": False}
                    bodies[request.conversation, text] = body
        missing = [key for key in bodies if key not in self._cache]
        calls = [
            Call(
                "/tokenize",
                {"model": self._model, **bodies[key]},
                token_list,
                is_same_in_cells=True,
            )
            for key in missing
        ]
        for key, answer in zip(missing, self._caller(calls), strict=True):
            assert answer is not None
            self._cache[key] = answer["tokens"]
        return [[self._scored(request, x) for x in request.continuations] for request in requests]

    def _scored(self, request: ScoreRequest, text: str) -> ScoredTokens:
        prompt, reply = self._cache[request.conversation, True], self._cache[(text,)]
        if request.with_end:
            start = len(prompt) + len(reply)
            whole = self._cache[request.conversation, text]
            if whole[:start] != prompt + reply or len(whole) == start:
                raise UserError(
                    "the server's chat template changes a prompt after its answer: give the folder "
                    "of the model's tokenizer as `tokenizer`, or use the readout free_text",
                    code="unsupported",
                    path="readout",
                )
            reply = [*reply, whole[start]]
        return ScoredTokens(prompt, reply)

    def _messages_body(self, conversation: Conversation, prompt: bool) -> dict[str, Any]:
        return {"messages": messages_json(conversation), "add_generation_prompt": prompt}


def messages_json(conversation: Conversation) -> list[dict[str, str]]:
    """Messages in the JSON format of chat completions."""
    return [{"role": message.role, "content": message.text} for message in conversation]


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
