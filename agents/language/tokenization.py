"""Text to tokens: prompts, completions, and turns that follow each other.

A tokenizer with a chat template is used through it: a prompt is what a user says, a completion
what the assistant says. Without one, text stands as it is, a turn a line, and the end token closes
what the model says.

Turns are put together from tokens, never from text that is tokenised again: what the model said
stays token by token what it was, and so do the log-probabilities that go with it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mores.core.errors import UserError

Message = Mapping[str, str]  # {"role": "user", "content": "..."}
Prompt = str | Sequence[Message] | Sequence[int]  # text, a conversation, or tokens
Tokens = list[int]

# Two words that no template knows of, to find what stands around a reply.
_ASKED, _REPLIED = "asked", "@@reply@@"


@dataclasses.dataclass(frozen=True)
class Wording:
    """How a tokenizer writes prompts, completions and turns.

    Args:
        tokenizer: of the model, with an end token.
        ends: further tokens that end what the model says (`generation_config.eos_token_id`).

    Raises:
        UserError: the tokenizer has no end token.
    """

    tokenizer: Any
    ends: Collection[int] = ()

    def __post_init__(self) -> None:
        if getattr(self.tokenizer, "eos_token_id", None) is None:
            raise UserError(
                "a tokenizer needs an end token: set tokenizer.eos_token",
                code="missing",
                path="tokenizer.eos_token",
            )

    @property
    def chats(self) -> bool:
        """Whether there is a chat template."""
        return getattr(self.tokenizer, "chat_template", None) is not None

    def tokens(self, text: str) -> Tokens:
        """Text as it is, without special tokens of the tokenizer's own."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt(self, prompt: Prompt) -> Tokens:
        """A prompt, up to where the completion begins."""
        if _is_tokens(prompt):
            return list(prompt)  # type: ignore[arg-type]
        if isinstance(prompt, str):
            return list(self.tokenizer(prompt)["input_ids"])
        return self.tokens(self._render(prompt, True))  # type: ignore[arg-type]

    def completion(self, prompt: Prompt, completion: str | Sequence[int]) -> Tokens:
        """A completion of that prompt, its end token included.

        Raises:
            UserError: the chat template rewrites what was said before.
        """
        if not isinstance(completion, str):
            return list(completion)
        if isinstance(prompt, str) or _is_tokens(prompt):
            return [*self.tokens(completion), self.tokenizer.eos_token_id]
        before = self._render(prompt, True)  # type: ignore[arg-type]
        reply = {"role": "assistant", "content": completion}
        whole = self._render([*prompt, reply], False)  # type: ignore[list-item]
        if not whole.startswith(before):
            raise UserError(
                "this chat template writes a prompt otherwise once it is answered: give prompts "
                "and completions as lists of tokens",
                code="unsupported",
                path="tokenizer.chat_template",
            )
        return self.tokens(whole[len(before) :])

    # --- turns ---------------------------------------------------------------------------------

    def opening(self, text: str) -> Tokens:
        """What is said to the model first."""
        if self.chats:
            return self.prompt([{"role": "user", "content": text}])
        return list(self.tokenizer(f"{text}\n")["input_ids"])

    def reply(self, text: str) -> Tokens:
        """What the model says if it says just this: its end included."""
        return [*self.tokens(text), self._end]

    def between(self, text: str) -> Tokens:
        """What stands between the end of one reply and the next, with `text` said to the model."""
        if not self.chats:
            return self.tokens(f"\n{text}\n")
        return self._after(text)[1]

    def said(self, tokens: Sequence[int]) -> str:
        """The text of a reply, without the token that ends it."""
        own = tokens[:-1] if self.ended(tokens) else tokens
        return self.tokenizer.decode(own)

    def ended(self, tokens: Sequence[int]) -> bool:
        """Whether a reply has come to its end."""
        return bool(tokens) and tokens[-1] in self._ends

    @functools.cached_property
    def _ends(self) -> frozenset[int]:
        return frozenset((*self.ends, self.tokenizer.eos_token_id))

    @functools.cached_property
    def _end(self) -> int:
        """The token that closes a reply: the one after it in the template, if that ends replies."""
        return self._after("")[0] if self.chats else self.tokenizer.eos_token_id

    def _after(self, text: str) -> tuple[int, Tokens]:
        """The token that closes a reply, and what follows it."""
        turns = [
            {"role": "user", "content": _ASKED},
            {"role": "assistant", "content": _REPLIED},
            {"role": "user", "content": text},
        ]
        _, found, after = self._render(turns, True).rpartition(_REPLIED)
        if not found:
            raise UserError(
                "this chat template leaves out what the assistant said",
                code="unsupported",
                path="tokenizer.chat_template",
            )
        tokens = self.tokens(after)
        if tokens and tokens[0] in self._ends:
            return tokens[0], tokens[1:]
        return self.tokenizer.eos_token_id, tokens

    def _render(self, messages: Sequence[Message], reply_follows: bool) -> str:
        if not self.chats:
            raise UserError(
                "a conversation needs a tokenizer with a chat template",
                code="missing",
                path="tokenizer.chat_template",
            )
        return self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=reply_follows
        )


def _is_tokens(prompt: Prompt) -> bool:
    return not isinstance(prompt, str) and all(isinstance(token, int) for token in prompt)
