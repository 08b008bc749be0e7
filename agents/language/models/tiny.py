"""A random Llama of a few thousand parameters, with a token for each byte: for tests, first steps.

It needs no download. Its replies have no meaning; every mechanism works as with a real model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from mores.agents.language.models.local import LocalModel
from mores.agents.language.optional_imports import import_optional

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class TinyModel(LocalModel):
    """Llama with random weights; equal parameters give equal weights."""

    path: str = Field(default="", max_length=0, description="none: the weights are drawn")
    weights_seed: int = Field(default=0, ge=0, description="seed of the weights")
    hidden_size: int = Field(default=32, ge=4, le=4096, description="width of the layers")
    num_layers: int = Field(default=2, ge=1, le=100, description="number of layers")

    def load(self) -> tuple[Any, Any]:
        """Model, in its precision, and tokenizer."""
        import torch

        model, tokenizer = tiny_model(self.hidden_size, self.num_layers, self.weights_seed)
        return model.to(getattr(torch, self.dtype)), tokenizer

    def identity(self) -> Mapping[str, str]:
        """See `LanguageModel`."""
        weights = f"width {self.hidden_size}, layers {self.num_layers}, seed {self.weights_seed}"
        return {"model": "tiny", "weights": weights, **self.shapes()}


def tiny_model(hidden_size: int, num_layers: int, seed: int) -> tuple[Any, Any]:
    """A random Llama and its tokenizer: one token a byte."""
    import_optional("transformers", "llm")  # with tokenizers
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*special, *alphabet))}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=special[0],
        eos_token=special[1],
        additional_special_tokens=special[2:],
        chat_template=TEMPLATE,
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model.eval(), tokenizer
