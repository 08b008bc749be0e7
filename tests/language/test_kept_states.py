"""Kept states of lower layers: equal to the ordinary forward pass, with gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mores.agents.language.adapters import LoRA, StackedLoRA
from mores.agents.language.closed_replies import closed_reply_logps
from mores.agents.language.kept_states import KeptStates
from mores.agents.language.models.tiny import tiny_model
from mores.core.random_streams import RandomStreams
from tests.refusals import refused

PROMPTS = [[5, 9, 9, 20, 7], [5, 9, 9, 20, 7], [5, 9, 30], [5, 9, 30], [40, 41, 5, 9, 9, 20, 7]]
REPLIES = [[11, 12, 13, 1], [11, 12, 14, 15, 1], [11, 1], [60], [11, 12, 13, 1]]


def model_of(layers: int) -> Any:
    return tiny_model(32, layers, 3)[0]


def adapters_of(model: Any, layers: int, seed: int = 1) -> StackedLoRA:
    """Three adapters whose changes are not 0, except for the last one's."""
    lora = LoRA(rank=3, layers=layers, target_modules=("q_proj", "v_proj", "down_proj"))
    parameters = lora.init_parameters(model, RandomStreams.of(seed, 3))
    generator = torch.Generator().manual_seed(seed)
    for name, value in parameters.items():
        if name.endswith("lora_B"):
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
            value[2] = 0.0
        value.requires_grad_()
    return StackedLoRA(model, lora, parameters)


@pytest.mark.parametrize(("num_layers", "upper"), [(4, 2), (3, 3)])
@pytest.mark.parametrize("max_nodes", [512, 12])
def test_scores_and_gradients_are_those_of_the_forward_pass(num_layers, upper, max_nodes):
    """In one pass and in several, of three adapters and the base model."""
    model = model_of(num_layers)
    adapters = adapters_of(model, upper)
    index = torch.tensor([0, 1, 0, -1, 1])
    kept = KeptStates(model, upper, max_nodes=max_nodes)
    weights = torch.arange(1.0, 6.0)
    results = []
    for score in (kept.closed_reply_logps, None):
        if score is None:
            logps = closed_reply_logps(model, adapters, PROMPTS, REPLIES, index)
        else:
            logps = score(adapters, PROMPTS, REPLIES, index)
        gradients = torch.autograd.grad((weights * logps).sum(), [*adapters.parameters.values()])
        results.append((logps.detach(), gradients))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-5)
    for own, ordinary in zip(results[0][1], results[1][1], strict=True):
        assert (own - ordinary).norm() <= 1e-5 * ordinary.norm()
    prefixes = {
        (*prompt, *reply[:-1])[:length]
        for prompt, reply in zip(PROMPTS, REPLIES, strict=True)
        for length in range(1, len(prompt) + len(reply))
    }
    assert kept.num_nodes == len(prefixes)  # a common beginning is kept once


def test_a_changed_adapter_has_changed_scores_and_an_empty_one_those_of_the_base_model():
    model = model_of(3)
    adapters, kept = adapters_of(model, 1), KeptStates(model, 1)
    index = torch.zeros(5, dtype=torch.int64)
    with torch.no_grad():
        base = kept.closed_reply_logps(None, PROMPTS, REPLIES, index)
        assert torch.equal(kept.closed_reply_logps(adapters, PROMPTS, REPLIES, index + 2), base)
        first = kept.closed_reply_logps(adapters, PROMPTS, REPLIES, index)
        next(v for n, v in adapters.parameters.items() if n.endswith("lora_B")).mul_(2.0)
        second = kept.closed_reply_logps(adapters, PROMPTS, REPLIES, index)
        ordinary = closed_reply_logps(model, adapters, PROMPTS, REPLIES, index)
    assert (first - base).abs().min() > 1e-4
    assert (second - first).abs().min() > 1e-4
    torch.testing.assert_close(second, ordinary, rtol=1e-5, atol=1e-5)


def test_memory_is_bounded():
    """Beyond the limit, states are dropped and computed again."""
    model = model_of(2)
    bytes_per_node = 32 * 4
    kept = KeptStates(model, 1, max_bytes=8 * bytes_per_node)
    whole = KeptStates(model, 1)
    index = torch.tensor([-1])
    for prompt, reply in [*zip(PROMPTS, REPLIES, strict=True)] * 2:
        own = kept.closed_reply_logps(None, [prompt], [reply], index)
        expected = whole.closed_reply_logps(None, [prompt], [reply], index)
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)
        assert kept.num_bytes <= max(kept.max_bytes, bytes_per_node * (len(prompt) + len(reply)))


def test_refusals():
    model = model_of(2)
    one = torch.tensor([0])
    with refused("out_of_range", "layers"):
        KeptStates(model, 3)
    with refused("unsupported", "model"):
        KeptStates(torch.nn.Linear(2, 2), 1)
    kept = KeptStates(model, 1, max_nodes=8)
    with refused("conflict", "layers"):
        kept.closed_reply_logps(adapters_of(model, 2), PROMPTS[:1], REPLIES[:1], one)
    with refused("wrong_shape", "replies"):
        kept.closed_reply_logps(None, PROMPTS[:1], [[]], one)
    with refused("too_large", "prompts"):
        kept.closed_reply_logps(None, PROMPTS[:1], [[2] * 9], one)
