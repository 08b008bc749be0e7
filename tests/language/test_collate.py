"""Texts to tokens, and tokens to batches in the layout of `token_layout`."""

from __future__ import annotations

import pytest
import torch

from mores.agents.language.collate import CRITIQUED, VIEW_PREFIX, FeedbackDataCollator
from mores.agents.language.token_layout import token_batch
from mores.agents.language.tokenization import PromptTokenizer
from mores.core.errors import UserError
from tests.language.texts import PAIRS, chat, words
from tests.refusals import check_message, refused

pytest.importorskip("transformers")


def test_layout() -> None:
    """Prompts end and completions begin at one position; tokens of others are masked."""
    batch = token_batch(
        [[5, 6, 7], [8]],
        [[9, 1], [5, 6, 7, 1]],
        completion_mask=[[True, True], [True, True, False, True]],
        preferred=[False],
        step_weight=[[0.5, 2.0], None],
        group=[3, 3],
    )
    assert batch.observation.tolist() == [[[5, 6, 7, 9, 1, -1, -1], [-1, -1, 8, 5, 6, 7, 1]]]
    assert batch.action.tolist() == [[[9, 1, 0, 0], [5, 6, 7, 1]]]
    assert batch.mask.tolist() == [[[True, True, False, False], [True, True, False, True]]]
    assert batch.require("preferred", "a test").tolist() == [[False]]
    assert batch.require("step_weight", "a test").tolist() == [[[0.5, 2.0, 0, 0], [0, 0, 0, 0]]]
    assert batch.require("group", "a test").dtype == torch.int64


def test_collated_rows() -> None:
    """Text and conversations, pairs and samples with critiques."""
    tokenizer = words()
    ids = tokenizer.convert_tokens_to_ids
    pair = {"prompt": chat("say yes"), "first": "no", "second": "yes", "preferred": False}
    collated = FeedbackDataCollator(tokenizer)([{**pair, "pair_margin": 2}])
    assert collated["observation"].tolist()[0] == ids(
        ["<user>", "say", "yes", "<end>", "<assistant>", "no", "<end>"]
    )
    assert collated["preferred"].tolist() == [False] and collated["pair_margin"].tolist() == [2.0]

    criticized = {"prompt": "say", "completion": "bad", "critique": "no", "desirable": False}
    desirable = {"prompt": "say", "completion": "good", "desirable": True}
    collated = FeedbackDataCollator(tokenizer)([criticized, desirable])
    assert collated["action"].tolist() == [ids(["bad", "<end>"]), ids(["good", "<end>"])]
    view = collated[VIEW_PREFIX + CRITIQUED]
    assert view[0].tolist() == ids(tokenizer.tokenize("say Critique of the answer: no bad <end>"))
    assert view[1].tolist() == [-1] * 5 + ids(["say", "good", "<end>"])  # no critique


def test_turns_fit_the_template() -> None:
    """Concatenated turns equal the tokens of the whole conversation."""
    tokenizer = words()
    encoder = PromptTokenizer(tokenizer)
    turns = [
        *encoder.encode_opening("please say"),
        *encoder.encode_reply("yes"),
        *encoder.encode_user_turn("say no"),
    ]
    turns += [*encoder.encode_reply("no no")]
    messages = [*chat("please say"), {"role": "assistant", "content": "yes"}]
    messages += [*chat("say no"), {"role": "assistant", "content": "no no"}]
    assert turns == encoder.encode(tokenizer.apply_chat_template(messages, tokenize=False))
    assert encoder.is_complete(encoder.encode_reply("yes")) and not encoder.is_complete(
        encoder.encode_user_turn("say")
    )


def test_turns_without_a_template() -> None:
    """Then the end token closes a reply."""
    tokenizer = words()
    tokenizer.chat_template = None
    encoder = PromptTokenizer(tokenizer)
    assert encoder.encode_reply("yes")[-1] == tokenizer.eos_token_id
    assert encoder.encode_user_turn("say no") == encoder.encode("say no")


def test_a_template_with_another_end_token() -> None:
    """The token that closes a reply is the template's if the model stops at it."""
    tokenizer = words()
    tokenizer.chat_template = tokenizer.chat_template.replace("<end>", "thanks")
    thanks = tokenizer.convert_tokens_to_ids("thanks")
    assert PromptTokenizer(tokenizer, (thanks,)).encode_reply("yes")[-1] == thanks
    assert PromptTokenizer(tokenizer).encode_reply("yes")[-1] == tokenizer.eos_token_id


SAMPLE = {"prompt": "say", "completion": "yes"}


@pytest.mark.parametrize(
    ("rows", "code", "path"),
    [
        ([{"prompt": "say", "complection": "yes"}], "unknown_name", "complection"),
        ([{"completion": "yes"}], "missing", "prompt"),
        ([{"prompt": "say", "first": "yes", "second": "no"}], "missing", "preferred"),
        ([{"prompt": "say", "chosen": "yes"}], "missing", "rejected"),
        ([{**PAIRS[0], "critique": "bad"}], "conflict", "critique"),
        ([{**PAIRS[0], "desirable": True}], "conflict", "desirable"),
        ([SAMPLE, PAIRS[0]], "conflict", "completion"),
        ([{**SAMPLE, "inappropriate": [True]}], "wrong_shape", "inappropriate"),
        ([{**SAMPLE, "desirable": True}, SAMPLE], "missing", "desirable"),
        ([{"prompt": [], "completion": "yes"}], "wrong_shape", "prompts.0"),
        ([{"prompt": "say " * 9, "completion": "yes"}], "too_large", "max_length"),
        ([{"prompt": [5], "completion": "yes", "critique": "bad"}], "conflict", "prompt"),
    ],
)
def test_invalid_rows(rows: list[dict[str, object]], code: str, path: str) -> None:
    with refused(code, path=path) as caught:
        FeedbackDataCollator(words(), max_length=10)(rows)
    assert "\n" not in str(caught.value)


def test_invalid_type() -> None:
    with pytest.raises(UserError) as caught:
        FeedbackDataCollator(words())([{**SAMPLE, "desirable": "very"}])
    assert (caught.value.code, caught.value.path) == ("wrong_type", "desirable")
    text, _, cause = str(caught.value).partition(": ")
    assert cause and "\n" not in cause  # the message of torch
    check_message(text)


def test_conversations_need_a_template() -> None:
    tokenizer = words()
    tokenizer.chat_template = None
    with refused("missing", path="tokenizer.chat_template"):
        FeedbackDataCollator(tokenizer)([{"prompt": chat("say"), "completion": "yes"}])
    tokenizer.eos_token = None
    with refused("missing", path="tokenizer.eos_token"):
        FeedbackDataCollator(tokenizer)([SAMPLE])
