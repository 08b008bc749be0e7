"""Kept states of lower layers: equal to the ordinary forward pass, with gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from mores.agents.language.adapters import LoRA, StackedLoRA
from mores.agents.language.closed_replies import closed_reply_logps
from mores.agents.language.kept_states import KeptStates
from mores.agents.language.models.tiny import tiny_model
from mores.core.random_streams import RandomStreams
from mores.registry import make_policy
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


SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
EQUAL = {
    "Llama": {},
    "Qwen3": {},
    "Granite": {"attention_multiplier": 0.5, "residual_multiplier": 0.5},  # within layers
    "Cohere": {"logit_scale": 1.0},
    "Gemma": {},
    "Mistral": {"sliding_window": 512},  # longer than any sequence
}
OTHER = {
    "Granite": {"embedding_multiplier": 6.0},
    "Granite, logits": {"logits_scaling": 3.0},
    "Cohere": {"logit_scale": 0.0625},
    "Gemma2": {"final_logit_softcapping": 5.0, "sliding_window": 512},
    "Gemma3Text": {"sliding_window": 4},
    "Mistral": {"sliding_window": 4},
    "Mistral, longer window": {"sliding_window": 200},
}


def random_model(name: str, parameters: dict[str, Any]) -> Any:
    config_class = getattr(transformers, f"{name.partition(',')[0]}Config")
    torch.manual_seed(0)
    config = config_class(**{**SIZES, **parameters})
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("name", EQUAL)
def test_models_whose_pass_is_that_of_llama_are_accepted(name):
    model = random_model(name, EQUAL[name])
    kept = KeptStates(model, 2)
    assert kept.num_nodes == 0
    index = torch.zeros(5, dtype=torch.int64)
    with torch.no_grad():
        own = kept.closed_reply_logps(None, PROMPTS, REPLIES, index)
        expected = closed_reply_logps(model, None, PROMPTS, REPLIES, index)
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OTHER)
def test_models_whose_pass_does_more_are_refused(name):
    model = random_model(name, OTHER[name])
    with refused("unsupported", "keep_states"):
        KeptStates(model, 2)


def test_the_order_of_replies_changes_no_bit():
    """Of sequences in several passes; other companions in a call do change the last bits."""
    model = tiny_model(64, 4, 3)[0]
    adapters = adapters_of(model, 2)
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(5, 250, (24, 12), generator=generator).tolist()
    prompts, replies = [text[: 6 + i % 4] for i, text in enumerate(texts)], [t[10:] for t in texts]
    index = torch.arange(24) % 3 - 1
    results = []
    for order in (torch.arange(24), torch.randperm(24, generator=generator)):
        kept, own = KeptStates(model, 2, max_nodes=40), torch.empty(24)
        with torch.no_grad():
            own[order] = kept.closed_reply_logps(
                adapters, [prompts[i] for i in order], [replies[i] for i in order], index[order]
            )
        results.append(own)
    assert torch.equal(*results)


def test_refusals():
    model = model_of(2)
    one = torch.tensor([0])
    with refused("out_of_range", "layers"):
        KeptStates(model, 3)
    with refused("unsupported", "keep_states"):
        KeptStates(torch.nn.Linear(2, 2), 1)
    kept = KeptStates(model, 1, max_nodes=8)
    with refused("conflict", "layers"):
        kept.closed_reply_logps(adapters_of(model, 2), PROMPTS[:1], REPLIES[:1], one)
    with refused("wrong_shape", "replies"):
        kept.closed_reply_logps(None, PROMPTS[:1], [[]], one)
    with refused("too_large", "prompts"):
        kept.closed_reply_logps(None, PROMPTS[:1], [[2] * 9], one)
    for fields in ({}, {"adapters": {"layers": 1}, "gradient_rows": 2}):
        with refused("conflict", "language_learner.keep_states"):
            make_policy("language_learner", model="tiny", keep_states=True, **fields)
