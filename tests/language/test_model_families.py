"""The engine with random models of several architectures, against plain forward passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mores.agents.language.language_model import Message, ScoreRequest
from mores.agents.language.models.local_engine import LocalEngine
from mores.agents.language.models.tiny import tiny_model
from tests.language.local_engines import plain_scores
from tests.refusals import refused

transformers = pytest.importorskip("transformers")
TOKENIZER = tiny_model(8, 1, 0)[1]
SIZES: dict[str, Any] = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
WINDOW = 40  # tokens, fewer than the prompts have
GPT2 = {
    "vocab_size": len(TOKENIZER),
    "n_positions": 512,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "initializer_range": 0.2,
}
FAMILIES = {
    "all layers with a window": ("MistralConfig", {**SIZES, "sliding_window": WINDOW}),
    "some layers with a window": (
        "Gemma3TextConfig",
        {**SIZES, "head_dim": 8, "sliding_window": WINDOW, "sliding_window_pattern": 2},
    ),
    "learned positions": ("GPT2Config", GPT2),
    "scaled logits": ("GraniteConfig", {**SIZES, "logits_scaling": 3.0}),
    "capped logits, attention not exchanged": ("Gemma2Config", {**SIZES, "head_dim": 8}),
}


def model(name: str, parameters: dict[str, Any]) -> Any:
    """A random model."""
    config = getattr(transformers, name)(**parameters)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_other_architectures(family: str) -> None:
    engine = LocalEngine(model(*FAMILIES[family]), TOKENIZER, rows=8)
    requests = [
        ScoreRequest(
            (Message("system", f"You are person {i}."), Message("user", "Tea?" + "!" * (9 * i))),
            ("A", "I agree"),
        )
        for i in range(6)
    ]
    scores = engine.score(requests)
    assert min(engine.count_tokens(r.conversation) for r in requests[2:]) > WINDOW
    for request, score in zip(requests, scores, strict=True):
        assert score.logps == pytest.approx(plain_scores(engine, request), abs=2e-5)
    assert [engine.score([request])[0] for request in requests] == scores


def test_models_with_another_kind_of_state_are_refused() -> None:
    sizes = {"vocab_size": 261, "hidden_size": 16, "num_hidden_layers": 1, "eos_token_id": 1}
    with pytest.raises(Exception, match="cannot be computed with kept keys and values"):
        LocalEngine(model("MambaConfig", sizes), TOKENIZER)


def test_a_model_without_output_layer_is_refused() -> None:
    config = transformers.LlamaConfig(**SIZES)
    with refused("unsupported", path="model"):
        LocalEngine(transformers.LlamaModel(config), TOKENIZER)


def test_the_number_of_rows_is_limited_by_memory() -> None:
    llama = model("LlamaConfig", SIZES)
    small, large = (LocalEngine(llama, TOKENIZER, batch_bytes=2**n) for n in (17, 31))
    # two layers, two heads, eight numbers of 4 bytes, keys and values
    assert small.forward.max_rows(64) == 2**17 // (64 * 2 * 2 * 8 * 4 * 2) == 8
    assert large.forward.max_rows(64) == 64
    requests = [
        ScoreRequest((Message("user", f"Question {i}?"),), ("Yes", "No")) for i in range(30)
    ]
    assert small.score(requests) == large.score(requests)
