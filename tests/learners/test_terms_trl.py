"""Loss terms on pairs and lone samples against TRL's own trainers, on the same tiny models.

Every trainer is a real one, built offline; its own loss is asked of one of its own batches. Ours
gets the log-probabilities of a second copy of the model, computed from its logits. Losses must
agree to 1e-5, and gradients with respect to every weight to 1e-4 of the largest.
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
from tests.learners.beside_trl import (
    COMMON,
    OTHER,
    TOKENIZER,
    TWIN,
    agree,
    batch_of,
    first_against_second_half,
    preferences,
    said,
    sentence,
    trained,
    unlike,
)

pytestmark = pytest.mark.slow

# DPO, hinge, IPO: log-ratios to a reference model


@pytest.fixture(scope="module")
def dpo(tmp_path_factory: pytest.TempPathFactory) -> DPOTrainer:
    folder = str(tmp_path_factory.mktemp("dpo"))
    return DPOTrainer(
        model=trained(),
        ref_model=unlike(),
        args=DPOConfig(output_dir=folder, beta=0.2, **COMMON),
        train_dataset=preferences(),
        processing_class=TOKENIZER,
    )


@pytest.mark.parametrize(
    ("loss_type", "settings"),
    [
        ("sigmoid", {"link": "logistic"}),
        ("hinge", {"link": "hinge"}),
        ("ipo", {"link": "square", "score": "mean_log_ratio"}),
        ("sigmoid_norm", {"link": "logistic", "score": "mean_log_ratio"}),
    ],
)
def test_pairs_with_a_reference(
    dpo: DPOTrainer,
    loss_type: str,
    settings: dict[str, Any],
) -> None:
    inputs = next(iter(dpo.get_train_dataloader()))
    dpo.loss_types, dpo.loss_weights = [loss_type], [1.0]
    theirs = dpo.compute_loss(dpo.model, dict(inputs))

    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad():
        reference_logp = said(OTHER, ids, attention).logp
    batch = batch_of(
        ids,
        inputs["completion_mask"],
        reference_logp=reference_logp,
        pairs=first_against_second_half(len(ids)),
    )
    ours = preference_loss(said(TWIN, ids, attention), batch, beta=0.2, **settings)
    agree(theirs, dpo.model, ours, TWIN)


def test_likelihood_of_winners(dpo: DPOTrainer) -> None:
    inputs = next(iter(dpo.get_train_dataloader()))
    dpo.loss_types, dpo.loss_weights = ["sft"], [1.0]
    theirs = dpo.compute_loss(dpo.model, dict(inputs))
    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    pairs = first_against_second_half(len(ids))
    batch = batch_of(ids, inputs["completion_mask"], pairs=pairs)
    agree(theirs, dpo.model, nll_loss(said(TWIN, ids, attention), batch, subset="preferred"), TWIN)


# CPO and SimPO: log-likelihoods alone, with likelihood of the winners beside


@pytest.fixture(scope="module")
def cpo(tmp_path_factory: pytest.TempPathFactory) -> CPOTrainer:
    folder = str(tmp_path_factory.mktemp("cpo"))
    return CPOTrainer(
        model=trained(),
        args=CPOConfig(
            output_dir=folder, beta=0.3, loss_type="simpo", simpo_gamma=0.7, max_length=64, **COMMON
        ),
        train_dataset=preferences(),
        processing_class=TOKENIZER,
    )


@pytest.mark.parametrize(
    ("loss_type", "smoothing", "alpha", "settings"),
    [
        ("simpo", 0.0, 0.0, {"score": "mean_logp", "margin": 0.7}),
        ("simpo", 0.0, 1.0, {"score": "mean_logp", "margin": 0.7}),  # CPO-SimPO
        ("sigmoid", 0.0, 1.0, {"score": "sum_logp"}),
        ("sigmoid", 0.1, 0.5, {"score": "sum_logp", "smoothing": 0.1}),
        ("hinge", 0.0, 0.0, {"score": "sum_logp", "link": "hinge"}),
        ("ipo", 0.0, 0.0, {"score": "mean_logp", "link": "square"}),
    ],
)
def test_pairs_without_a_reference(
    cpo: CPOTrainer,
    loss_type: str,
    smoothing: float,
    alpha: float,
    settings: dict[str, Any],
) -> None:
    inputs = next(iter(cpo.get_train_dataloader()))
    cpo.loss_type, cpo.label_smoothing, cpo.cpo_alpha = loss_type, smoothing, alpha
    theirs, _ = cpo.get_batch_loss_metrics(cpo.model, inputs)

    joint = cpo.concatenated_inputs(inputs, padding_value=cpo.pad_token_id)
    ids, attention = joint["concatenated_input_ids"], joint["concatenated_attention_mask"]
    mask = joint["concatenated_labels"] != -100
    batch = batch_of(ids, mask, pairs=first_against_second_half(len(ids)))
    out = said(TWIN, ids, attention)
    ours = preference_loss(out, batch, beta=0.3, **settings) + alpha * nll_loss(
        out, batch, subset="preferred"
    )
    agree(theirs, cpo.model, ours, TWIN)


# KTO: samples without partners


def test_kto(
    tmp_path: Path,
) -> None:
    rows = range(6)
    trainer = KTOTrainer(
        model=trained(),
        ref_model=unlike(),
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
    theirs = trainer.compute_loss(trainer.model, dict(inputs))

    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    others, seen = inputs["KL_input_ids"], inputs["KL_attention_mask"]
    with torch.no_grad():
        reference_logp = said(OTHER, ids, attention).logp
        ahead = said(TWIN, others, seen).logp - said(OTHER, others, seen).logp
        ahead = torch.where(inputs["KL_completion_mask"][None, :, 1:].bool(), ahead, 0.0)
        baseline = ahead.sum(-1).mean(-1)
    assert baseline > 0.5  # TRL lifts negative ones to 0
    batch = batch_of(
        ids,
        inputs["completion_mask"],
        reference_logp=reference_logp,
        desirable=torch.as_tensor(inputs["label"], dtype=torch.bool)[None],
        kl_baseline=baseline,
    )
    ours = preference_loss(
        said(TWIN, ids, attention),
        batch,
        loss_type="kto",
        beta=0.4,
        desirable_weight=1.5,
        undesirable_weight=0.5,
    )
    agree(theirs, trainer.model, ours, TWIN)


# Reward models


def test_bradley_terry_with_margins(tmp_path: Path) -> None:
    config = trained().config
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
    theirs = trainer.compute_loss(trainer.model, dict(inputs))

    ids, attention = inputs["input_ids"], inputs["attention_mask"]
    score = copy(ids, attention_mask=attention).logits[None]
    batch = batch_of(
        ids,
        attention,
        pairs=first_against_second_half(len(ids)),
        pair_margin=inputs["margin"][None],
    )
    out = ModelOutput(logp=torch.zeros(batch.mask.shape), score=score)
    agree(theirs, trainer.model, preference_loss(out, batch, score_type="score", beta=1.0), copy)
