"""Texts become tokens, and tokens batches, in the layout that is written down."""

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
    """Prompts end and completions begin at one place; what others said is no act."""
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
    """Text and conversations, pairs and judged samples."""
    tokenizer = words()
    ids = tokenizer.convert_tokens_to_ids
    made = FeedbackDataCollator(tokenizer)([{"prompt": chat("say yes"), "first": "no", "second": "yes",
                             "preferred": False, "pair_margin": 2}])  # fmt: skip
    assert made["seen"].tolist()[0] == ids(
        ["<user>", "say", "yes", "<end>", "<assistant>", "no", "<end>"]
    )
    assert made["preferred"].tolist() == [False] and made["pair_margin"].tolist() == [2.0]

    said = {"prompt": "say", "completion": "bad", "judgement": "no", "desirable": False}
    praised = {"prompt": "say", "completion": "good", "desirable": True}
    made = FeedbackDataCollator(tokenizer)([said, praised])
    assert made["acted"].tolist() == [ids(["bad", "<end>"]), ids(["good", "<end>"])]
    judged = made[VIEW_PREFIX + CRITIQUED]
    assert judged[0].tolist() == ids(
        tokenizer.tokenize("say Judgement of the answer: no bad <end>")
    )
    assert judged[1].tolist() == [-1] * 5 + ids(["say", "good", "<end>"])  # not judged


def test_turns_fit_the_template() -> None:
    """Turn by turn the tokens are those of the whole conversation at once."""
    tokenizer = words()
    wording = PromptTokenizer(tokenizer)
    turns = [
        *wording.encode_opening("please say"),
        *wording.encode_reply("yes"),
        *wording.encode_user_turn("say no"),
    ]
    turns += [*wording.encode_reply("no no")]
    messages = [*chat("please say"), {"role": "assistant", "content": "yes"}]
    messages += [*chat("say no"), {"role": "assistant", "content": "no no"}]
    assert turns == wording.encode(tokenizer.apply_chat_template(messages, tokenize=False))
    assert wording.is_complete(wording.encode_reply("yes")) and not wording.is_complete(
        wording.encode_user_turn("say")
    )


def test_turns_without_a_template() -> None:
    """Then the end token closes what the model says."""
    tokenizer = words()
    tokenizer.chat_template = None
    wording = PromptTokenizer(tokenizer)
    assert wording.encode_reply("yes")[-1] == tokenizer.eos_token_id
    assert wording.encode_user_turn("say no") == wording.encode("say no")


def test_a_template_whose_end_is_another_token() -> None:
    """What closes a reply is taken from the template if the model stops at it."""
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
        ([{**PAIRS[0], "judgement": "bad"}], "conflict", "judgement"),
        ([{**PAIRS[0], "desirable": True}], "conflict", "desirable"),
        ([SAMPLE, PAIRS[0]], "conflict", "completion"),
        ([{**SAMPLE, "inappropriate": [True]}], "wrong_shape", "inappropriate"),
        ([{**SAMPLE, "desirable": True}, SAMPLE], "missing", "desirable"),
        ([{"prompt": [], "completion": "yes"}], "wrong_shape", "prompts.0"),
        ([{"prompt": "say " * 9, "completion": "yes"}], "too_large", "longest"),
        ([{"prompt": [5], "completion": "yes", "judgement": "bad"}], "conflict", "prompt"),
    ],
)
def test_bad_rows(rows: list[dict[str, object]], code: str, path: str) -> None:
    with refused(code, path=path) as caught:
        FeedbackDataCollator(words(), max_length=10)(rows)
    assert "\n" not in str(caught.value)


def test_a_value_of_another_type() -> None:
    with pytest.raises(UserError) as found:
        FeedbackDataCollator(words())([{**SAMPLE, "desirable": "very"}])
    assert (found.value.code, found.value.path) == ("wrong_type", "desirable")
    text, _, cause = str(found.value).partition(": ")
    assert cause and "\n" not in cause  # torch's own words
    check_message(text)


def test_no_template_no_conversation() -> None:
    tokenizer = words()
    tokenizer.chat_template = None
    with refused("missing", path="tokenizer.chat_template"):
        FeedbackDataCollator(tokenizer)([{"prompt": chat("say"), "completion": "yes"}])
    tokenizer.eos_token = None
    with refused("missing", path="tokenizer.eos_token"):
        FeedbackDataCollator(tokenizer)([SAMPLE])
