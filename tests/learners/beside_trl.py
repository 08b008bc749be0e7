"""Real TRL trainers on tiny models, their losses beside ours: what the tests of both share."""

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


def trained() -> LlamaForCausalLM:
    """The model that trainers train; every call makes a copy that nobody else has touched."""
    return tiny_llama(TOKENIZER, seed=1)


def unlike() -> LlamaForCausalLM:
    """Another one, to be a reference or a teacher."""
    return tiny_llama(TOKENIZER, seed=2)


TWIN, OTHER = trained(), unlike()


def sentence(seed: int, longest: int) -> str:
    source = torch.Generator().manual_seed(seed)
    length = int(torch.randint(1, longest + 1, (), generator=source))
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
    """Log-probabilities `[1, sample, step, option]` of the next token, where there is one."""
    return model(ids, attention_mask=attention).logits[:, :-1].log_softmax(-1)[None]


def of_done(logits: Tensor, ids: Tensor) -> Tensor:
    return logits.gather(-1, ids[None, :, 1:, None])[..., 0]


def said(model: Any, ids: Tensor, attention: Tensor) -> ModelOutput:
    logits = logits_of(model, ids, attention)
    entropy = -(logits.exp() * logits).sum(-1)
    return ModelOutput(logp=of_done(logits, ids), logits=logits, entropy=entropy)


def batch_of(ids: Tensor, mask: Tensor, **fields: Any) -> FeedbackBatch:
    return FeedbackBatch(ids[None, :, :-1], ids[None, :, 1:], mask[None, :, 1:].bool(), **fields)


def first_against_second_half(samples: int) -> Tensor:
    half = samples // 2
    return torch.stack([torch.arange(half), torch.arange(half) + half], -1)[None]


def agree(theirs: Tensor, their_model: Any, ours: Tensor, our_model: Any) -> None:
    """The same loss, and the same gradient with respect to every weight."""
    assert ours.shape == (1,)
    assert theirs.item() != 0.0
    torch.testing.assert_close(ours[0], theirs.reshape(()), atol=1e-5, rtol=1e-5)
    named = dict(their_model.named_parameters())
    names = [name for name, _ in our_model.named_parameters()]
    expected = torch.autograd.grad(theirs, [named[name] for name in names], allow_unused=True)
    found = torch.autograd.grad(ours.sum(), list(our_model.parameters()), allow_unused=True)
    size = max(float(g.abs().max()) for g in expected if g is not None)
    assert size > 1e-4
    for name, one, other in zip(names, found, expected, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-4 * size, rtol=1e-4, msg=name)
