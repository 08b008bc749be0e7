"""Helpers for comparing losses with TRL's trainers on tiny models."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import LlamaForCausalLM

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from tests.learners.tiny_language_model import tiny_llama, tiny_tokenizer

WORDS = [f"w{number}" for number in range(30)]
COMMON = {
    "use_cpu": True,
    "report_to": [],
    "save_strategy": "no",
    "bf16": False,
    "per_device_train_batch_size": 4,
    "disable_tqdm": True,
}
TOKENIZER = tiny_tokenizer(WORDS)


def new_model() -> LlamaForCausalLM:
    """The model for trainers; every call returns a new copy."""
    return tiny_llama(TOKENIZER, seed=1)


def new_reference() -> LlamaForCausalLM:
    """A different model, as a reference or a teacher."""
    return tiny_llama(TOKENIZER, seed=2)


MODEL, REFERENCE = new_model(), new_reference()


def sentence(seed: int, max_length: int) -> str:
    source = torch.Generator().manual_seed(seed)
    length = int(torch.randint(1, max_length + 1, (), generator=source))
    words = torch.randint(len(WORDS), (length,), generator=source).tolist()
    return " ".join(WORDS[word] for word in words)


def preferences() -> Dataset:
    rows = range(4)
    return Dataset.from_dict(
        {
            "prompt": [sentence(row, 4) for row in rows],
            "chosen": [" " + sentence(10 + row, 7) for row in rows],
            "rejected": [" " + sentence(20 + row, 7) for row in rows],
        }
    )


def logits_of(model: Any, ids: Tensor, attention: Tensor) -> Tensor:
    """Log-probabilities `[1, sample, step, option]` of the next token."""
    return model(ids, attention_mask=attention).logits[:, :-1].log_softmax(-1)[None]


def action_logp(logits: Tensor, ids: Tensor) -> Tensor:
    return logits.gather(-1, ids[None, :, 1:, None])[..., 0]


def output_of(model: Any, ids: Tensor, attention: Tensor) -> ModelOutput:
    logits = logits_of(model, ids, attention)
    entropy = -(logits.exp() * logits).sum(-1)
    return ModelOutput(logp=action_logp(logits, ids), logits=logits, entropy=entropy)


def batch_of(ids: Tensor, mask: Tensor, **fields: Any) -> FeedbackBatch:
    return FeedbackBatch(ids[None, :, :-1], ids[None, :, 1:], mask[None, :, 1:].bool(), **fields)


def pairs_of_halves(samples: int) -> Tensor:
    half = samples // 2
    return torch.stack([torch.arange(half), torch.arange(half) + half], -1)[None]


def assert_same(expected: Tensor, trl_model: Any, loss: Tensor, model: Any) -> None:
    """Assert equal losses, and equal gradients with respect to every weight."""
    assert loss.shape == (1,)
    assert expected.item() != 0.0
    torch.testing.assert_close(loss[0], expected.reshape(()), atol=1e-5, rtol=1e-5)
    named = dict(trl_model.named_parameters())
    names = [name for name, _ in model.named_parameters()]
    trl_grads = torch.autograd.grad(expected, [named[name] for name in names], allow_unused=True)
    grads = torch.autograd.grad(loss.sum(), list(model.parameters()), allow_unused=True)
    size = max(float(g.abs().max()) for g in trl_grads if g is not None)
    assert size > 1e-4
    for name, grad, trl_grad in zip(names, grads, trl_grads, strict=True):
        assert (grad is None) == (trl_grad is None), name
        if grad is not None:
            torch.testing.assert_close(grad, trl_grad, atol=1e-4 * size, rtol=1e-4, msg=name)
