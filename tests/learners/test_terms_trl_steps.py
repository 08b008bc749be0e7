"""Loss terms on steps against TRL's own trainers, on the same tiny models and text.

GRPO's whole family from a real trainer, given one batch of answers, and distillation. Agreement is
as close as in `test_terms_trl.py`.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before it is read
pytest.importorskip("trl")

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.gkd import GKDTrainer

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses import kl_loss, policy_gradient_loss
from tests.learners.beside_trl import (
    COMMON,
    OTHER,
    TOKENIZER,
    TWIN,
    agree,
    batch_of,
    logits_of,
    of_done,
    said,
    trained,
)

pytestmark = pytest.mark.slow

# GRPO and its family


@pytest.fixture(scope="module")
def grpo(tmp_path_factory: pytest.TempPathFactory) -> GRPOTrainer:
    trainer = GRPOTrainer(
        model=trained(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(tmp_path_factory.mktemp("grpo")),
            num_generations=4,
            max_completion_length=9,
            **COMMON,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["w1 w2", "w3"]}),
        processing_class=TOKENIZER,
    )
    trainer.model.eval()  # TRL then divides by no accumulation of gradients
    return trainer


@pytest.mark.parametrize(
    ("loss_type", "level", "epsilons", "beta", "corrected", "settings"),
    [
        ("grpo", "token", (0.2, 0.2), 0.0, False, {"per": "sample"}),
        ("grpo", "token", (0.2, 0.2), 0.04, False, {"per": "sample"}),
        ("grpo", "token", (0.2, 0.2), 0.04, True, {"per": "sample"}),
        ("bnpo", "token", (0.2, 0.28), 0.04, True, {"per": "step"}),
        ("dapo", "token", (0.2, 0.28), 0.0, False, {"per": "step"}),
        ("dr_grpo", "token", (0.1, 0.3), 0.0, False, {"per": "constant", "length": 9.0}),
        ("grpo", "sequence", (0.05, 0.1), 0.0, False, {"per": "sample"}),  # GSPO
        ("bnpo", "sequence", (0.05, 0.1), 0.0, False, {"per": "step"}),
    ],
)
@pytest.mark.parametrize("entropy", [0.0, 0.02])
def test_grpo(
    grpo: GRPOTrainer,
    loss_type: str,
    level: str,
    epsilons: tuple[float, float],
    beta: float,
    corrected: bool,
    settings: dict[str, Any],
    entropy: float,
) -> None:
    source = torch.Generator().manual_seed(5)
    prompts = torch.randint(5, 35, (4, 3), generator=source)
    answers = torch.randint(5, 35, (4, 7), generator=source)
    mask = (torch.arange(7) < torch.tensor([7, 3, 5, 1])[:, None]).long()
    prompt_mask = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]])
    advantage = torch.tensor([1.2, -0.7, 0.4, -0.9])
    ids, attention = torch.cat([prompts, answers], 1), torch.cat([prompt_mask, mask], 1)
    with torch.no_grad():
        now = of_done(logits_of(TWIN, ids, attention), ids)[0, :, 2:]
        old = now + 0.4 * torch.randn(now.shape, generator=source)
        before = now + 0.4 * torch.randn(now.shape, generator=source)

    grpo.loss_type, grpo.importance_sampling_level, grpo.beta = loss_type, level, beta
    grpo.epsilon_low, grpo.epsilon_high = epsilons
    grpo.args.use_bias_correction_kl = corrected
    grpo._entropy_bonus_enabled, grpo.entropy_coef = entropy > 0.0, entropy
    theirs = grpo.compute_loss(
        grpo.model,
        {
            "prompt_ids": prompts,
            "prompt_mask": prompt_mask,
            "completion_ids": answers,
            "completion_mask": mask,
            "advantages": advantage,
            "old_per_token_logps": old,
            "ref_per_token_logps": before,
            "num_items_in_batch": mask.sum(),
        },
    )

    out = said(TWIN, ids, attention)
    out = ModelOutput(
        out.logp[:, :, 2:], None, None if out.entropy is None else out.entropy[:, :, 2:]
    )
    batch = FeedbackBatch(
        ids[None, :, 2:-1],
        answers[None],
        mask[None].bool(),
        old_logp=old[None],
        reference_logp=before[None],
        advantage=advantage[None, :, None].expand(1, 4, 7),
    )
    ours = policy_gradient_loss(
        out,
        batch,
        clip_mode=level,
        clip_range_low=epsilons[0],
        clip_range_high=epsilons[1],
        ent_coef=entropy,
        **settings,
    )
    if beta:
        ours = ours + beta * kl_loss(
            out, batch, reduction=settings["per"], importance_weighted=corrected
        )
    agree(theirs, grpo.model, ours, TWIN)


# Distillation


@pytest.mark.parametrize(
    ("share", "settings"),
    [
        (0.0, {"direction": "forward"}),
        (1.0, {"direction": "reverse"}),
        (0.5, {"direction": "js"}),
        (0.2, {"direction": "js", "mixture": 0.2}),
    ],
)
def test_divergence_from_a_teacher(
    share: float,
    settings: dict[str, Any],
) -> None:
    ids = torch.randint(5, 35, (3, 6), generator=torch.Generator().manual_seed(6))
    mask = (torch.arange(6) < torch.tensor([6, 3, 5])[:, None]).long()
    batch = batch_of(ids, mask, teacher_logp=logits_of(OTHER, ids, mask).detach())
    student, teacher = TWIN(ids, attention_mask=mask).logits, batch.teacher_logits
    assert teacher is not None
    labels = ids.masked_fill(mask == 0, -100)[:, 1:]
    theirs = GKDTrainer.generalized_jsd_loss(student[:, :-1], teacher[0], labels, beta=share)
    ours = kl_loss(said(TWIN, ids, mask), batch, other_policy="teacher", **settings)
    agree(theirs, TWIN, ours, TWIN)
