"""Preferences as data sets for TRL's trainers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mores.agents.language.token_layout import token_batch
from mores.agents.language.trl_datasets import (
    BatchTexts,
    to_trl_preference,
    to_trl_prompt_only,
    to_trl_sft,
    to_trl_unpaired,
)
from tests.language.texts import ANSWERS, PAIRS, chat, logged, model, settings, words
from tests.refusals import refused

pytest.importorskip("datasets")
trl = pytest.importorskip("trl")

PLAIN = {"prompt": "say one", "first": " two", "second": " no", "preferred": False}


def test_columns() -> None:
    """The preferred sample is chosen; text and conversations stay so; other columns remain."""
    rows = to_trl_preference([{**PLAIN, "annotator": 3}])
    assert rows[0] == {"prompt": "say one", "chosen": " no", "rejected": " two", "annotator": 3}
    (row,) = to_trl_preference([PAIRS[1]])
    assert row["chosen"] == [{"role": "assistant", "content": "three"}]
    assert row["prompt"] == PAIRS[1]["prompt"]
    rows = to_trl_unpaired([PLAIN, {"prompt": "say", "completion": " yes", "desirable": True}])
    assert [(row["completion"], row["label"]) for row in rows] == [
        (" two", False),
        (" no", True),
        (" yes", True),
    ]
    records = [
        {"prompt": "a", "completion": " b", "is_demonstration": True},
        {"prompt": "a", "completion": " c", "is_demonstration": False},
        {"prompt": "a", "completion": " d", "desirable": False},
        {"prompt": "a", "completion": " e"},
    ]
    assert to_trl_sft(records)["completion"] == [" b", " e"]
    same = {**PLAIN, "principal": 1}
    rows = to_trl_prompt_only([same, same, {"prompt": "say", "principal": 2}])
    assert rows["prompt"] == ["say one", "say"] and rows["principal"] == [1, 2]


def test_batches_with_their_texts() -> None:
    """A batch contains preferences and other fields, its texts the prompts and completions."""
    texts = BatchTexts(["p", "p", "q", "q"], ["a", "b", "c", "d"])
    batch = token_batch(
        [[5]] * 4,
        [[6]] * 4,
        preferred=[False, True],
        pair_margin=[0.5, 2.0],
        desirable=[False, True, True, False],
        reward=torch.tensor([[1.0, -1.0]] * 4),
    )
    rows = to_trl_preference(batch, texts)
    assert rows["chosen"] == ["b", "c"] and rows["rejected"] == ["a", "d"]
    assert rows["pair_margin"] == [0.5, 2.0]
    rows = to_trl_unpaired(batch, texts)
    assert rows["label"] == [False, True, True, False] and rows["reward"][0] == [1.0, -1.0]
    assert to_trl_sft(batch, texts)["completion"] == ["b", "c"]
    assert to_trl_prompt_only(batch, texts)["prompt"] == ["p", "q"]
    some = batch.replace(preferred=None, pairs=torch.tensor([[[3, 0], [-1, -1]]]))
    assert to_trl_preference(some, texts)["chosen"] == ["d"]


def test_sft_trainer(tmp_path) -> None:
    """SFT trains on completions, not on prompts."""
    args = settings(tmp_path, trl.SFTConfig, max_steps=2)
    trainer = trl.SFTTrainer(
        model(words()), args, train_dataset=to_trl_sft(ANSWERS), processing_class=words()
    )
    batch = next(iter(trainer.get_train_dataloader()))
    max_length = max(len(row["completion"].split()) for row in ANSWERS) + 1
    assert (batch["labels"] != -100).sum(-1).max() == max_length
    trainer.train()
    losses = logged(trainer, "loss")
    assert losses[1] < losses[0]


@pytest.mark.full
def test_kto_trainer(tmp_path) -> None:
    """KTO separates desirable from undesirable samples."""
    trainer = trl.KTOTrainer(
        model(words()),
        model(words()),
        settings(tmp_path, trl.KTOConfig, per_device_train_batch_size=8, max_steps=5),
        train_dataset=to_trl_unpaired(PAIRS),
        processing_class=words(),
    )
    trainer.train()
    assert logged(trainer, "rewards/chosen")[-1] > logged(trainer, "rewards/rejected")[-1]


def test_grpo_trainer(tmp_path) -> None:
    """Columns of records are arguments of GRPO's reward functions."""
    principals: list[Any] = []

    def reward(completions: Any, principal: Any, **rest: Any) -> list[float]:
        principals.extend(principal)
        return [float(len(messages[0]["content"])) for messages in completions]

    records = [
        {"prompt": chat("say one"), "principal": 7},
        {"prompt": chat("maybe"), "principal": 7},
    ]
    sizes = {"per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 4}
    trainer = trl.GRPOTrainer(
        model(words()),
        reward,
        settings(tmp_path, trl.GRPOConfig, beta=0.0, **sizes),
        train_dataset=to_trl_prompt_only(records),
        processing_class=words(),
    )
    trainer.train()
    assert principals == [7] * 4


@pytest.mark.parametrize(
    ("make", "code", "path"),
    [
        (lambda: to_trl_preference([]), "missing", "records"),
        (lambda: to_trl_preference([{"prompt": "a", "first": "b"}]), "missing", "second"),
        (lambda: to_trl_preference([{**PLAIN, "preferred": None}]), "missing", "preferred"),
        (lambda: to_trl_unpaired([{"prompt": "a", "completion": "b"}]), "missing", "desirable"),
        (lambda: to_trl_sft([{"prompt": "a", "complection": "b"}]), "missing", "completion"),
        (
            lambda: to_trl_sft([{"prompt": "a", "completion": "b", "desirable": False}]),
            "missing",
            "records",
        ),
        (lambda: to_trl_prompt_only([PLAIN, PAIRS[0]]), "conflict", "prompt"),
        (lambda: to_trl_prompt_only(token_batch([[5]], [[6]])), "missing", "texts"),
        (lambda: to_trl_sft([PLAIN], BatchTexts(["a"], ["b"])), "conflict", "texts"),
        (
            lambda: to_trl_sft(token_batch([[5]], [[6]]), BatchTexts(["a"], [])),
            "wrong_shape",
            "texts.completions",
        ),
        (
            lambda: to_trl_sft(token_batch([[5]], [[6]]), BatchTexts(["a"], ["b"]), 1),
            "out_of_range",
            "model_index",
        ),
        (
            lambda: to_trl_preference(token_batch([[5]], [[6]]), BatchTexts(["a"], ["b"])),
            "missing",
            "preferred",
        ),
    ],
)
def test_invalid_records(make: Any, code: str, path: str) -> None:
    with refused(code, path=path) as caught:
        make()
    assert "\n" not in str(caught.value)
