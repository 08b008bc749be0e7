"""Conversations as tokens, for the model that continues them.

The messages before the first reply are rendered by the chat template of the tokenizer; a reply has
the tokens that the model generated; the messages after it are what the template puts there. So a
conversation that is continued begins with the tokens of the earlier one, followed by those of the
reply: tokens are appended, and text is never tokenized again.

A template without a system role gets the text of the system at the start of the first message of
the user. A tokenizer without a chat template gets the messages one per line, and its end token
after each reply. Text of messages is data: control tokens that are spelled out in it
(`<|im_end|>`) are tokenized as ordinary text, so that nobody can write the turn of another.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mores.agents.language.language_model import Conversation, Message
from mores.agents.language.tokenization import PromptTokenizer
from mores.core.errors import UserError, printable

# Words in whose place the template puts a message.
_SYSTEM, _USER, _REPLY = "@@system@@", "@@user@@", "@@reply@@"
# A message that every template must leave as it is.
_PROBE = "@@Two words, 'Yes' & <No>:\n  1. \u00c4\u00e9 \u4e2d {{ }} @@"
# Characters that a template may add to its messages. Real ones add some thousands.
MAX_ADDED = 2**20
Turns = tuple[tuple[str, str], ...]  # role and text of consecutive messages


class ChatTokens:
    """Tokens of conversations and replies.

    Args:
        tokenizer: of the model, with an end token.
        end_tokens: further tokens that end a reply.
        vocabulary_size: number of tokens of the model; `None`: unknown.

    Raises:
        UserError: the tokenizer has no end token, or one that the model does not know; its chat
            template changes messages, or adds more than `MAX_ADDED` characters.
    """

    def __init__(
        self,
        tokenizer: Any,
        end_tokens: Collection[int] = (),
        vocabulary_size: int | None = None,
    ) -> None:
        self.tokenizer, self.vocabulary_size = tokenizer, vocabulary_size
        self.prompts = PromptTokenizer(tokenizer, tuple(end_tokens))
        self._ends = frozenset((*end_tokens, tokenizer.eos_token_id))
        self._check_known((tokenizer.eos_token_id,))
        special = frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self._control_ids = special | self._ends
        self._cached_opening = functools.lru_cache(2**12)(self._opening)
        self._cached_turns = functools.lru_cache(2**12)(self._turns)
        if self.prompts.has_chat_template:
            self._check_unchanged(self._render([{"role": "user", "content": _PROBE}]), [_PROBE])

    def prompt(self, conversation: Conversation) -> tuple[int, ...]:
        """Tokens of a conversation up to the start of the reply.

        Raises:
            UserError: the last message is not the user's, the template refuses the messages, or the
                model does not know a token.
        """
        if not conversation or conversation[-1].role != "user":
            raise UserError(
                "a conversation must end with a message of the user",
                code="invalid_value",
                path="conversation",
            )
        replies = [i for i, message in enumerate(conversation) if message.role == "assistant"]
        if replies and replies[0] == 0:
            raise UserError(
                "a conversation cannot begin with a reply of the assistant",
                code="invalid_value",
                path="conversation",
            )
        ends = [*replies, len(conversation)]
        tokens = list(self._cached_opening(_turns(conversation[: ends[0]])))
        for start, end in itertools.pairwise(ends):
            tokens += self._reply_tokens(conversation[start])
            tokens += self._cached_turns(_turns(conversation[start + 1 : end]))
        self._check_known(tokens)
        return tuple(tokens)

    def reply(self, text: str, with_end: bool) -> tuple[int, ...]:
        """Tokens of a reply with this text.

        Raises:
            UserError: the model does not know a token.
        """
        end = (self.prompts.reply_end,) if with_end else ()
        tokens = (*self.prompts.encode_text(text), *end)
        self._check_known(tokens)
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a reply, without the token that ends it."""
        return self.prompts.decode_reply(list(tokens))

    def is_end(self, token: int) -> bool:
        """Whether a token ends a reply."""
        return token in self._ends

    def _check_known(self, tokens: Sequence[int]) -> None:
        """Refuse tokens that the model has no embedding of: its tokenizer has more."""
        largest = max(tokens, default=0)
        if self.vocabulary_size is not None and largest >= self.vocabulary_size:
            name = printable(self.tokenizer.convert_ids_to_tokens(largest), 40)
            raise UserError(
                f"the tokenizer does not fit the model: its token {largest} ({name}) is not among "
                f"the {self.vocabulary_size} tokens of the model",
                code="incompatible",
                path="tokenizer",
            )

    def _reply_tokens(self, message: Message) -> tuple[int, ...]:
        """Tokens of an earlier reply, with its end: one at the limit of tokens has none.

        A model may generate the beginning of another message within its reply: it is cut there.
        """
        if not message.token_ids:
            return self.reply(message.text, True)
        *tokens, last = message.token_ids
        if any(token in self._control_ids for token in tokens):
            end = next(i for i, token in enumerate(tokens) if token in self._control_ids)
            return (*tokens[:end], self.prompts.reply_end)
        if self.is_end(last):
            return message.token_ids
        kept = tokens if last in self._control_ids else message.token_ids
        return (*kept, self.prompts.reply_end)

    def _opening(self, turns: Turns) -> tuple[int, ...]:
        """Tokens of the messages before the first reply."""
        if not self.prompts.has_chat_template:
            text = "".join(f"{text}\n" for _, text in turns)
            return (*self.tokenizer("")["input_ids"], *self.prompts.encode_text(text))
        if not self._has_system_role:
            turns = _merged(turns)
        return self._rendered(turns, ())

    def _turns(self, turns: Turns) -> tuple[int, ...]:
        """Tokens between a reply and the next, with these messages in between."""
        if not self.prompts.has_chat_template:
            return tuple(self.prompts.encode_text("\n" + "".join(f"{t}\n" for _, t in turns)))
        before = (("user", _USER), ("assistant", _REPLY))
        tokens = self._rendered(turns, before)
        return tokens[1:] if tokens and tokens[0] in self._ends else tokens

    def _rendered(self, turns: Turns, before: Turns) -> tuple[int, ...]:
        """Tokens of messages up to the reply; with messages before, of what follows the last."""
        # texts that spell control tokens are encoded apart from the template around them
        marks = self.prompts.marks([text for _, text in turns])
        messages = [{"role": role, "content": marks.get(t, t)} for role, t in (*before, *turns)]
        rendered = self._render(messages)
        self._check_unchanged(rendered, [marks.get(text, text) for _, text in turns], marks)
        if before:
            reply = before[-1][1]
            count = 1 + sum(message["content"].count(reply) for message in messages[len(before) :])
            if rendered.count(reply) != count:
                raise UserError(
                    "this chat template changes, repeats or leaves out messages of the assistant",
                    code="unsupported",
                    path="tokenizer.chat_template",
                )
            rendered = rendered.partition(reply)[2]
        return tuple(self.prompts.encode_marked(rendered, marks))

    def _check_unchanged(
        self, rendered: str, texts: Sequence[str], marks: Mapping[str, str] | None = None
    ) -> None:
        """Refuse a template that changes a message, leaves it out, or repeats it.

        Templates may remove spaces around a message. Only marks occur nowhere else.
        """
        counted = {_PROBE, *(marks or {}).values()}
        for text in texts:
            count = rendered.count(text) if text in counted else texts.count(text)
            if text.strip() not in rendered or count != texts.count(text):
                raise UserError(
                    "this chat template changes, repeats or leaves out messages: each must occur "
                    "once, as it is",
                    code="unsupported",
                    path="tokenizer.chat_template",
                )

    def _render(self, messages: Sequence[dict[str, str]]) -> str:
        try:
            rendered = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:
            raise UserError(
                f"the chat template refuses these messages ({printable(error)}): "
                f"{', '.join(message['role'] for message in messages)}",
                code="unsupported",
                path="tokenizer.chat_template",
            ) from None
        added = len(rendered) - sum(len(message["content"]) for message in messages)
        if added > MAX_ADDED:
            raise UserError(
                f"the chat template adds {added} characters to the messages; at most {MAX_ADDED}",
                code="too_large",
                path="tokenizer.chat_template",
            )
        return rendered

    @functools.cached_property
    def _has_system_role(self) -> bool:
        turns = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}]
        try:
            return _SYSTEM in self._render(turns)
        except UserError:
            return False


def _turns(messages: Sequence[Message]) -> Turns:
    return tuple((message.role, message.text) for message in messages)


def _merged(turns: Turns) -> Turns:
    """Messages in which the first message of the user begins with the text of the system."""
    system = [text for role, text in turns if role == "system"]
    others = [turn for turn in turns if turn[0] != "system"]
    if not others:
        return turns
    (role, text), *rest = others
    return ((role, "\n\n".join([*system, text])), *rest)
