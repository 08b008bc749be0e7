"""Losses on steps against TRL's trainers, on the same tiny models and text.

The GRPO family of a real trainer on one batch of answers, and distillation. Tolerances are those of
`test_losses_trl.py`.
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
from tests.learners.trl_comparison import (
    COMMON,
    MODEL,
    REFERENCE,
    TOKENIZER,
    action_logp,
    assert_same,
    batch_of,
    logits_of,
    new_model,
    output_of,
)

CONSTANT = {"reduction": "constant", "constant_length": 9.0}

# GRPO and its family


@pytest.fixture(scope="module")
def grpo(tmp_path_factory: pytest.TempPathFactory) -> GRPOTrainer:
    trainer = GRPOTrainer(
        model=new_model(),
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
    trainer.model.eval()  # so that TRL does not divide by the number of accumulated batches
    return trainer


@pytest.mark.parametrize(
    ("loss_type", "level", "epsilons", "beta", "importance_weighted", "kwargs"),
    [
        ("grpo", "token", (0.2, 0.2), 0.0, False, {"reduction": "sample"}),
        ("grpo", "token", (0.2, 0.2), 0.04, False, {"reduction": "sample"}),
        ("grpo", "token", (0.2, 0.2), 0.04, True, {"reduction": "sample"}),
        ("bnpo", "token", (0.2, 0.28), 0.04, True, {"reduction": "step"}),
        ("dapo", "token", (0.2, 0.28), 0.0, False, {"reduction": "step"}),
        ("dr_grpo", "token", (0.1, 0.3), 0.0, False, CONSTANT),
        ("grpo", "sequence", (0.05, 0.1), 0.0, False, {"reduction": "sample"}),  # GSPO
        ("bnpo", "sequence", (0.05, 0.1), 0.0, False, {"reduction": "step"}),
    ],
)
@pytest.mark.parametrize("entropy", [0.0, 0.02])
def test_grpo(
    grpo: GRPOTrainer,
    loss_type: str,
    level: str,
    epsilons: tuple[float, float],
    beta: float,
    importance_weighted: bool,
    kwargs: dict[str, Any],
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
        logp = action_logp(logits_of(MODEL, ids, attention), ids)[0, :, 2:]
        old = logp + 0.4 * torch.randn(logp.shape, generator=source)
        reference = logp + 0.4 * torch.randn(logp.shape, generator=source)

    grpo.loss_type, grpo.importance_sampling_level, grpo.beta = loss_type, level, beta
    grpo.epsilon_low, grpo.epsilon_high = epsilons
    grpo.args.use_bias_correction_kl = importance_weighted
    grpo._entropy_bonus_enabled, grpo.entropy_coef = entropy > 0.0, entropy
    expected = grpo.compute_loss(
        grpo.model,
        {
            "prompt_ids": prompts,
            "prompt_mask": prompt_mask,
            "completion_ids": answers,
            "completion_mask": mask,
            "advantages": advantage,
            "old_per_token_logps": old,
            "ref_per_token_logps": reference,
            "num_items_in_batch": mask.sum(),
        },
    )

    out = output_of(MODEL, ids, attention)
    out = ModelOutput(
        out.logp[:, :, 2:], None, None if out.entropy is None else out.entropy[:, :, 2:]
    )
    batch = FeedbackBatch(
        ids[None, :, 2:-1],
        answers[None],
        mask[None].bool(),
        old_logp=old[None],
        reference_logp=reference[None],
        advantage=advantage[None, :, None].expand(1, 4, 7),
    )
    loss = policy_gradient_loss(
        out,
        batch,
        clip_mode=level,
        clip_range_low=epsilons[0],
        clip_range_high=epsilons[1],
        ent_coef=entropy,
        **kwargs,
    )
    if beta:
        kl_kwargs = {"reduction": kwargs["reduction"], "importance_weighted": importance_weighted}
        loss = loss + beta * kl_loss(out, batch, **kl_kwargs)
    assert_same(expected, grpo.model, loss, MODEL)


# Distillation


@pytest.mark.parametrize(
    ("beta", "kwargs"),
    [
        (0.0, {"direction": "forward"}),
        (1.0, {"direction": "reverse"}),
        (0.5, {"direction": "js"}),
        (0.2, {"direction": "js", "mixture_weight": 0.2}),
    ],
)
def test_divergence_from_a_teacher(beta: float, kwargs: dict[str, Any]) -> None:
    ids = torch.randint(5, 35, (3, 6), generator=torch.Generator().manual_seed(6))
    mask = (torch.arange(6) < torch.tensor([6, 3, 5])[:, None]).long()
    batch = batch_of(ids, mask, teacher_logits=logits_of(REFERENCE, ids, mask).detach())
    student, teacher = MODEL(ids, attention_mask=mask).logits, batch.teacher_logits
    assert teacher is not None
    labels = ids.masked_fill(mask == 0, -100)[:, 1:]
    expected = GKDTrainer.generalized_jsd_loss(student[:, :-1], teacher[0], labels, beta=beta)
    loss = kl_loss(output_of(MODEL, ids, mask), batch, other_policy="teacher", **kwargs)
    assert_same(expected, MODEL, loss, MODEL)
