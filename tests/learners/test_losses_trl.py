"""Losses on pairs and single samples against TRL's trainers, on the same tiny models.

Every trainer is a real one, built offline; it computes its loss on one of its batches. Ours gets
the log-probabilities of a second copy of the model, computed from its logits. Losses must agree to
1e-5, and gradients with respect to every weight to 1e-4 of the largest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before it is read
pytest.importorskip("trl")

import torch
from datasets import Dataset
from transformers import LlamaForSequenceClassification
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

from mores.agents.learning.batch import ModelOutput
from mores.agents.learning.losses import nll_loss, preference_loss
from tests.learners.trl_comparison import (
    COMMON,
    MODEL,
    REFERENCE,
    TOKENIZER,
    assert_same,
    batch_of,
    new_model,
    new_reference,
    output_of,
    pairs_of_halves,
    preferences,
    sentence,
)

# DPO, hinge, IPO: log-ratios to a reference model


@pytest.fixture(scope="module")
def dpo(tmp_path_factory: pytest.TempPathFactory) -> DPOTrainer:
    folder = str(tmp_path_factory.mktemp("dpo"))
    return DPOTrainer(
        model=new_model(),
        ref_model=new_reference(),
        args=DPOConfig(output_dir=folder, beta=0.2, **COMMON),
        train_dataset=preferences(),
        processing_class=TOKENIZER,
    )


@pytest.mark.parametrize(
    ("loss_type", "kwargs"),
    [
        ("sigmoid", {"loss_type": "sigmoid"}),
        ("hinge", {"loss_type": "hinge"}),
        ("ipo", {"loss_type": "ipo", "score_type": "mean_log_ratio"}),
        ("sigmoid_norm", {"loss_type": "sigmoid", "score_type": "mean_log_ratio"}),
    ],
)
def test_pairs_with_a_reference(dpo: DPOTrainer, loss_type: str, kwargs: dict[str, Any]) -> None:
    inputs = next(iter(dpo.get_train_dataloader()))
    dpo.loss_types, dpo.loss_weights = [loss_type], [1.0]
    expected = dpo.compute_loss(dpo.model, dict(inputs))

    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad():
        reference_logp = output_of(REFERENCE, ids, attention).logp
    batch = batch_of(
        ids,
        inputs["completion_mask"],
        reference_logp=reference_logp,
        pairs=pairs_of_halves(len(ids)),
    )
    loss = preference_loss(output_of(MODEL, ids, attention), batch, beta=0.2, **kwargs)
    assert_same(expected, dpo.model, loss, MODEL)


def test_likelihood_of_chosen_samples(dpo: DPOTrainer) -> None:
    inputs = next(iter(dpo.get_train_dataloader()))
    dpo.loss_types, dpo.loss_weights = ["sft"], [1.0]
    expected = dpo.compute_loss(dpo.model, dict(inputs))
    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    pairs = pairs_of_halves(len(ids))
    batch = batch_of(ids, inputs["completion_mask"], pairs=pairs)
    loss = nll_loss(output_of(MODEL, ids, attention), batch, subset="chosen")
    assert_same(expected, dpo.model, loss, MODEL)


# CPO and SimPO: log-likelihoods without a reference, plus the likelihood of chosen samples


@pytest.fixture(scope="module")
def cpo(tmp_path_factory: pytest.TempPathFactory) -> CPOTrainer:
    folder = str(tmp_path_factory.mktemp("cpo"))
    return CPOTrainer(
        model=new_model(),
        args=CPOConfig(
            output_dir=folder, beta=0.3, loss_type="simpo", simpo_gamma=0.7, max_length=64, **COMMON
        ),
        train_dataset=preferences(),
        processing_class=TOKENIZER,
    )


@pytest.mark.parametrize(
    ("loss_type", "smoothing", "alpha", "kwargs"),
    [
        ("simpo", 0.0, 0.0, {"score_type": "mean_logp", "margin": 0.7}),
        ("simpo", 0.0, 1.0, {"score_type": "mean_logp", "margin": 0.7}),  # CPO-SimPO
        ("sigmoid", 0.0, 1.0, {"score_type": "sum_logp"}),
        ("sigmoid", 0.1, 0.5, {"score_type": "sum_logp", "label_smoothing": 0.1}),
        ("hinge", 0.0, 0.0, {"score_type": "sum_logp", "loss_type": "hinge"}),
        ("ipo", 0.0, 0.0, {"score_type": "mean_logp", "loss_type": "ipo"}),
    ],
)
def test_pairs_without_a_reference(
    cpo: CPOTrainer,
    loss_type: str,
    smoothing: float,
    alpha: float,
    kwargs: dict[str, Any],
) -> None:
    inputs = next(iter(cpo.get_train_dataloader()))
    cpo.loss_type, cpo.label_smoothing, cpo.cpo_alpha = loss_type, smoothing, alpha
    expected, _ = cpo.get_batch_loss_metrics(cpo.model, inputs)

    joint = cpo.concatenated_inputs(inputs, padding_value=cpo.pad_token_id)
    ids, attention = joint["concatenated_input_ids"], joint["concatenated_attention_mask"]
    mask = joint["concatenated_labels"] != -100
    batch = batch_of(ids, mask, pairs=pairs_of_halves(len(ids)))
    out = output_of(MODEL, ids, attention)
    loss = preference_loss(out, batch, beta=0.3, **kwargs) + alpha * nll_loss(
        out, batch, subset="chosen"
    )
    assert_same(expected, cpo.model, loss, MODEL)


# KTO: samples without pairs


def test_kto(tmp_path: Path) -> None:
    rows = range(6)
    trainer = KTOTrainer(
        model=new_model(),
        ref_model=new_reference(),
        args=KTOConfig(
            output_dir=str(tmp_path),
            beta=0.4,
            desirable_weight=1.5,
            undesirable_weight=0.5,
            **(COMMON | {"per_device_train_batch_size": 6}),
        ),
        train_dataset=Dataset.from_dict(
            {
                "prompt": [sentence(row, 4) for row in rows],
                "completion": [" " + sentence(30 + row, 7) for row in rows],
                "label": [True, False, True, True, False, False],
            }
        ),
        processing_class=TOKENIZER,
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model, dict(inputs))

    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    kl_inputs = inputs["KL_input_ids"], inputs["KL_attention_mask"]
    with torch.no_grad():
        reference_logp = output_of(REFERENCE, ids, attention).logp
        log_ratio = output_of(MODEL, *kl_inputs).logp - output_of(REFERENCE, *kl_inputs).logp
        log_ratio = torch.where(inputs["KL_completion_mask"][None, :, 1:].bool(), log_ratio, 0.0)
        baseline = log_ratio.sum(-1).mean(-1)
    assert baseline > 0.5  # TRL clips negative baselines to 0
    batch = batch_of(
        ids,
        inputs["completion_mask"],
        reference_logp=reference_logp,
        desirable=torch.as_tensor(inputs["label"], dtype=torch.bool)[None],
        kl_baseline=baseline,
    )
    loss = preference_loss(
        output_of(MODEL, ids, attention),
        batch,
        loss_type="kto",
        beta=0.4,
        desirable_weight=1.5,
        undesirable_weight=0.5,
    )
    assert_same(expected, trainer.model, loss, MODEL)


# Reward models


def test_bradley_terry_with_margins(tmp_path: Path) -> None:
    config = new_model().config
    config.num_labels = 1
    torch.manual_seed(3)
    model, copy = LlamaForSequenceClassification(config), LlamaForSequenceClassification(config)
    copy.load_state_dict(model.state_dict())
    rows = preferences().to_dict()
    chosen = [a + b for a, b in zip(rows["prompt"], rows["chosen"], strict=True)]
    rejected = [a + b for a, b in zip(rows["prompt"], rows["rejected"], strict=True)]
    margin = [0.0, 0.5, 1.0, -0.3]
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(output_dir=str(tmp_path), **COMMON),
        train_dataset=Dataset.from_dict({"chosen": chosen, "rejected": rejected, "margin": margin}),
        processing_class=TOKENIZER,
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model, dict(inputs))

    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    score = copy(ids, attention_mask=attention).logits[None]
    batch = batch_of(
        ids,
        attention,
        pairs=pairs_of_halves(len(ids)),
        pair_margin=inputs["margin"][None],
    )
    out = ModelOutput(logp=torch.zeros(batch.mask.shape), score=score)
    loss = preference_loss(out, batch, score_type="reward_head", beta=1.0)
    assert_same(expected, trainer.model, loss, copy)
