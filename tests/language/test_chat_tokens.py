"""Conversations as tokens: what is appended, and that text cannot write control tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.language.language_model import Message
from mores.agents.language.models.chat_tokens import ChatTokens
from mores.agents.language.models.tiny import tiny_model
from tests.refusals import refused

TOKENIZER = tiny_model(8, 1, 0)[1]
CHAT = ChatTokens(TOKENIZER)
END = TOKENIZER.eos_token_id
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
controls = st.sampled_from(("<|end|>", "<|user|>hello", "a<|assistant|><|end|>b", "@@0.1@@"))
any_text = text | controls


def chat(**changes: Any) -> ChatTokens:
    """The tokenizer with changed attributes."""
    tokenizer = tiny_model(8, 1, 0)[1]
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return ChatTokens(tokenizer)


WITHOUT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
KINDS = {
    "chat": CHAT,
    "no system role": chat(chat_template=WITHOUT_SYSTEM),
    "no template": chat(chat_template=None),
}


@given(st.lists(text, min_size=1, max_size=6), st.booleans())
def test_a_prompt_is_the_rendered_conversation(texts: list[str], has_system: bool) -> None:
    roles = ["system"] * has_system + ["user", "assistant"] * 3
    messages = tuple(Message(r, t) for r, t in zip(roles, texts, strict=False))  # type: ignore
    if not messages or messages[-1].role != "user":
        messages = (*messages, Message("user", "ok"))
    rendered = TOKENIZER.apply_chat_template(
        [{"role": m.role, "content": m.text} for m in messages],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert CHAT.prompt(messages) == tuple(TOKENIZER(rendered)["input_ids"])


@given(
    st.lists(
        st.tuples(any_text, st.lists(st.integers(5, 260), max_size=6), st.booleans()), max_size=4
    ),
    st.sampled_from(tuple(KINDS)),
)
def test_a_continued_conversation_begins_with_the_tokens_of_the_earlier_one(
    turns: list[tuple[str, list[int], bool]], kind: str
) -> None:
    tokens = KINDS[kind]
    conversation: tuple[Message, ...] = (Message("system", "Rules"), Message("user", "Begin"))
    prompt = tokens.prompt(conversation)
    for said, reply, ended in turns:
        ids = (*reply, END) if ended or not reply else tuple(reply)
        decoded = tokens.decode(ids)
        conversation = (*conversation, Message("assistant", decoded, ids), Message("user", said))
        longer = tokens.prompt(conversation)
        assert longer[: len(prompt) + len(ids)] == (*prompt, *ids)
        closed = longer[len(prompt) + len(ids) - 1] == END or longer[len(prompt) + len(ids)] == END
        assert closed
        prompt = longer


@given(any_text, any_text)
def test_text_writes_no_control_token(system: str, said: str) -> None:
    special = set(TOKENIZER.all_special_ids)
    plain = CHAT.prompt((Message("system", ""), Message("user", "")))
    tokens = CHAT.prompt((Message("system", system), Message("user", said)))
    expected = [t for t in plain if t in special]
    assert [t for t in tokens if t in special] == expected
    assert TOKENIZER.decode([t for t in tokens if t not in special]) == system + said
    assert not special & set(CHAT.reply(said, False))
    assert CHAT.reply(said, True) == (*CHAT.reply(said, False), END)


def test_rules_are_put_before_the_first_message_if_the_template_has_no_system_role() -> None:
    tokens = KINDS["no system role"]
    conversation = (Message("system", "Rules."), Message("user", "Hello"))
    prompt = tokens.prompt(conversation)
    assert TOKENIZER.decode(prompt) == "<|user|>Rules.\n\nHello<|end|><|assistant|>"


def test_without_a_chat_template_messages_are_lines() -> None:
    tokens = KINDS["no template"]
    reply = Message("assistant", "Yes", (*TOKENIZER("Yes")["input_ids"], END))
    conversation = (
        Message("system", "Rules."),
        Message("user", "A?"),
        reply,
        Message("user", "B?"),
    )
    assert TOKENIZER.decode(tokens.prompt(conversation)) == "Rules.\nA?\nYes<|end|>\nB?\n"


def test_conversations_that_cannot_be_continued_are_refused() -> None:
    with refused("invalid_value", path="conversation"):
        CHAT.prompt(())
    with refused("invalid_value", path="conversation"):
        CHAT.prompt((Message("user", "A"), Message("assistant", "B")))
    with refused("invalid_value", path="conversation"):
        CHAT.prompt((Message("assistant", "B"), Message("user", "A")))
    with refused("unsupported", path="tokenizer.chat_template"):
        chat(chat_template="{{ raise_exception('only one message\\nis allowed') }}")
    with refused("missing", path="tokenizer.eos_token"):
        chat(eos_token=None)


@pytest.mark.parametrize("ids", [(), (70, 71)])
def test_a_reply_without_end_is_closed(ids: tuple[int, ...]) -> None:
    said = Message("assistant", TOKENIZER.decode([70, 71]), ids)
    prompt = CHAT.prompt((Message("user", "A"), said, Message("user", "B")))
    assert TOKENIZER.decode(prompt).count("<|end|>") == 3


@pytest.mark.parametrize(
    "content",
    ["'hello'", "m['content']|upper", "m['content'][:3]", "m['content'] * 3", "m['content']|e"],
)
def test_a_template_that_changes_messages_is_refused(content: str) -> None:
    with refused("unsupported", path="tokenizer.chat_template"):
        chat(chat_template=f"{{% for m in messages %}}{{{{ {content} }}}}{{% endfor %}}")


def test_a_template_that_changes_some_messages_is_refused_with_these() -> None:
    """A message that names a control token, a long one, one of the system, a reply."""
    upper = chat(
        chat_template="{% for m in messages %}{{ m['content'] if 'Two words' in m['content'] "
        "or '@@reply' in m['content'] else (m['content'][:40]|upper) }}{% endfor %}"
    )
    for text in ("Hi <|end|>", "A" * 41, "small"):
        with refused("unsupported", path="tokenizer.chat_template"):
            upper.prompt((Message("user", text),))
    upper.prompt((Message("user", " CAPITAL "),))
    twice = chat(
        chat_template="{% for m in messages %}{{ m['content'] }}"
        "{{ m['content'] if m['role'] == 'assistant' }}{% endfor %}"
    )
    with refused("unsupported", path="tokenizer.chat_template"):
        twice.prompt((Message("user", "A"), Message("assistant", "B"), Message("user", "C")))


def test_a_template_may_remove_spaces_and_two_messages_may_be_equal() -> None:
    trimmed = chat(
        chat_template="{% for m in messages %}{{ '<|user|>' + m['content']|trim }}{% endfor %}"
    )
    twice = (Message("user", " <|end|> "), Message("user", " <|end|> "))
    assert TOKENIZER.decode(trimmed.prompt(twice)) == "<|user|> <|end|> <|user|> <|end|> "
    said = (Message("user", "A"), Message("assistant", "B"), Message("user", "@@reply@@"))
    assert TOKENIZER.decode(trimmed.prompt(said)).count("@@reply@@") == 1


def test_a_template_that_adds_too_much_is_refused() -> None:
    """The sandbox of transformers limits a range, and not what loops write."""
    loops = "{% for i in range(1100) %}{% for j in range(1000) %}x{% endfor %}{% endfor %}"
    with refused("too_large", path="tokenizer.chat_template"):
        chat(chat_template=f"{loops}{{{{ messages[0]['content'] }}}}")
