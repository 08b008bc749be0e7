"""Text to tokens: prompts, completions, and consecutive turns.

A tokenizer with a chat template is used through it: a prompt is a message of the user, a completion
a message of the assistant. Without one, text is used unchanged, one line per turn, and the end
token closes the model's replies.

Turns are concatenated as tokens, never as text that is tokenized again: the tokens of a reply stay
those that the model generated, and so do the log-probabilities that belong to them.

Texts of turns and replies are data: `<|im_end|>` in them is tokenized as characters and not as the
token of that name, so that no text ends its message and begins another one.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mores.core.errors import UserError

Message = Mapping[str, str]  # {"role": "user", "content": "..."}
Prompt = str | Sequence[Message] | Sequence[int]  # text, a conversation, or tokens
Tokens = list[int]

# Two words that no template contains, to find the text around a reply.
_USER_PLACEHOLDER, _REPLY_PLACEHOLDER = "@@user@@", "@@reply@@"


@dataclasses.dataclass(frozen=True)
class PromptTokenizer:
    """Encoder of prompts, completions and turns for one tokenizer.

    Args:
        tokenizer: of the model, with an end token.
        extra_eos_token_ids: further tokens that end a reply (`generation_config.eos_token_id`).

    Raises:
        UserError: the tokenizer has no end token.
    """

    tokenizer: Any
    extra_eos_token_ids: Collection[int] = ()

    def __post_init__(self) -> None:
        if getattr(self.tokenizer, "eos_token_id", None) is None:
            raise UserError(
                "a tokenizer needs an end token: set tokenizer.eos_token",
                code="missing",
                path="tokenizer.eos_token",
            )

    @property
    def has_chat_template(self) -> bool:
        """Whether there is a chat template."""
        return getattr(self.tokenizer, "chat_template", None) is not None

    def encode(self, text: str) -> Tokens:
        """Tokens of a rendered template or a trusted text, without added special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_text(self, text: str) -> Tokens:
        """Tokens of a text that is data: names of control tokens are characters in it."""
        tokens, rest = Tokens(), text
        while found := [name for name in self._control_names if name in rest]:
            cut = min(map(rest.index, found)) + 1  # within the name
            tokens += self.encode(rest[:cut])
            rest = rest[cut:]
        return [*tokens, *self.encode(rest)]

    def _has_control_name(self, text: str) -> bool:
        return any(name in text for name in self._control_names)

    @functools.cached_property
    def _control_names(self) -> tuple[str, ...]:
        """Names of special tokens and of other added tokens that the chat template consists of.

        Other added tokens, such as runs of blanks, are text.
        """
        template = str(getattr(self.tokenizer, "chat_template", None) or "")
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        names = [token.content for token in added if token.special or token.content in template]
        names += getattr(self.tokenizer, "all_special_tokens", ())
        return tuple(dict.fromkeys(n for n in names if len(n) > 1 and n.strip()))

    def encode_prompt(self, prompt: Prompt) -> Tokens:
        """Tokens of a prompt, up to the start of the completion."""
        if _is_tokens(prompt):
            return list(prompt)  # type: ignore[arg-type]
        if isinstance(prompt, str):
            return list(self.tokenizer(prompt)["input_ids"])
        return self._encode_messages(prompt, True)  # type: ignore[arg-type]

    def _encode_messages(self, messages: Sequence[Message], add_generation_prompt: bool) -> Tokens:
        """Tokens of a rendered conversation, with texts that name control tokens as data."""
        marks = self.marks([message["content"] for message in messages])
        marked = [{**m, "content": marks.get(m["content"], m["content"])} for m in messages]
        return self.encode_marked(self._render(marked, add_generation_prompt), marks)

    def marks(self, texts: Sequence[str]) -> dict[str, str]:
        """Words in place of those texts that name control tokens, to render a template with."""
        named = [text for text in dict.fromkeys(texts) if self._has_control_name(text)]
        word = "@@text{}@@"
        while any(word[:-4] in text for text in texts):  # without the number
            word = f"@{word}"
        return {text: word.format(index) for index, text in enumerate(named)}

    def encode_marked(self, rendered: str, marks: Mapping[str, str]) -> Tokens:
        """Tokens of a template that was rendered with `marks`, with the texts in their place."""
        text_of = {mark: text for text, mark in marks.items()}
        tokens = Tokens()
        parts = re.split("(" + "|".join(text_of) + ")", rendered) if marks else [rendered]
        for part in parts:
            if part:
                known = part in text_of
                tokens += self.encode_text(text_of[part]) if known else self.encode(part)
        return tokens

    def encode_completion(self, prompt: Prompt, completion: str | Sequence[int]) -> Tokens:
        """Tokens of a completion of that prompt, its end token included.

        Raises:
            UserError: the chat template changes earlier messages.
        """
        if not isinstance(completion, str):
            return list(completion)
        if isinstance(prompt, str) or _is_tokens(prompt):
            return [*self.encode_text(completion), self.tokenizer.eos_token_id]
        if self._has_control_name(completion):
            return self.encode_reply(completion)
        before = self._render(prompt, True)  # type: ignore[arg-type]
        reply = {"role": "assistant", "content": completion}
        whole = self._render([*prompt, reply], False)  # type: ignore[list-item]
        if not whole.startswith(before):
            raise UserError(
                "this chat template changes a prompt after its answer: give prompts and "
                "completions as lists of tokens",
                code="unsupported",
                path="tokenizer.chat_template",
            )
        return self.encode(whole[len(before) :])

    # --- turns ---------------------------------------------------------------------------------

    def encode_opening(self, text: str) -> Tokens:
        """Tokens of the first message to the model."""
        if self.has_chat_template:
            return self.encode_prompt([{"role": "user", "content": text}])
        if self._has_control_name(text):
            return [*self.tokenizer("")["input_ids"], *self.encode_text(f"{text}\n")]
        return list(self.tokenizer(f"{text}\n")["input_ids"])

    def encode_reply(self, text: str) -> Tokens:
        """Tokens of a reply of the model with this text, its end included."""
        return [*self.encode_text(text), self.reply_end]

    def encode_user_turn(self, text: str) -> Tokens:
        """Tokens between the end of one reply and the next, with the message `text`."""
        if not self.has_chat_template:
            return self.encode_text(f"\n{text}\n")
        return self._tokens_after_reply(text)[1]

    def decode_reply(self, tokens: Sequence[int]) -> str:
        """The text of a reply, without the token that ends it."""
        content = tokens[:-1] if self.is_complete(tokens) else tokens
        return self.tokenizer.decode(content)

    def is_complete(self, tokens: Sequence[int]) -> bool:
        """Whether a reply has ended."""
        return bool(tokens) and tokens[-1] in self._eos_token_ids

    @functools.cached_property
    def _eos_token_ids(self) -> frozenset[int]:
        return frozenset((*self.extra_eos_token_ids, self.tokenizer.eos_token_id))

    @functools.cached_property
    def reply_end(self) -> int:
        """The token that closes a reply: the one after it in the template, if that ends replies."""
        return (
            self._tokens_after_reply("")[0]
            if self.has_chat_template
            else self.tokenizer.eos_token_id
        )

    def _tokens_after_reply(self, text: str) -> tuple[int, Tokens]:
        """The token that closes a reply, and the tokens after it."""
        marks = self.marks([text])
        turns = [
            {"role": "user", "content": _USER_PLACEHOLDER},
            {"role": "assistant", "content": _REPLY_PLACEHOLDER},
            {"role": "user", "content": marks.get(text, text)},
        ]
        _, found, after = self._render(turns, True).partition(_REPLY_PLACEHOLDER)
        if not found:
            raise UserError(
                "this chat template leaves out messages of the assistant",
                code="unsupported",
                path="tokenizer.chat_template",
            )
        tokens = self.encode_marked(after, marks)
        if tokens and tokens[0] in self._eos_token_ids:
            return tokens[0], tokens[1:]
        return self.tokenizer.eos_token_id, tokens

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        if not self.has_chat_template:
            raise UserError(
                "a conversation needs a tokenizer with a chat template",
                code="missing",
                path="tokenizer.chat_template",
            )
        return self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
        )


def _is_tokens(prompt: Prompt) -> bool:
    return not isinstance(prompt, str) and all(isinstance(token, int) for token in prompt)
