"""Whether kept states give the log-probabilities of the model's own forward pass.

`KeptStates` computes embedding, layers, final norm and output layer one after another. Forward
passes of some architectures do more: they scale embeddings or logits (Granite, Cohere), bound
logits (Gemma 2), or attend within a window (Mistral). So a few tokens are scored in both ways
before the first use, in rows of two lengths, and beyond a window that the configuration states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mores.agents.language.causal_lm import forward_logits, unwrap_model
from mores.agents.language.token_layout import NO_TOKEN
from mores.core.errors import UserError, is_out_of_memory, printable

# Log-probability of each reply as the continuation of its prompt, `[reply]`, from the tokens of the
# prompts and of the replies.
ScoreFunction = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], Tensor]

CHECK_LENGTH = 24  # tokens of the longer sequence, without a window
TOKENS_BEYOND_WINDOW = 16
# Fields of configurations: sequence lengths above which attention or positions change.
WINDOW_FIELDS = ("sliding_window", "attention_chunk_size", "original_max_position_embeddings")
# Largest difference of log-probabilities in nats. Rounding: SmolLM2-135M differs by at most 2e-5 in
# 32 bits and .16 in 16 bits; larger models round more. Other forward passes, of models with random
# weights: .4 to 4.7 (Granite, Cohere, Mistral beyond its window), .005 (Gemma 2, logits near 0). A
# difference below .5 nats is not detected in 16 bits.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
TOLERANCE_16_BITS = 0.5


@torch.no_grad()
def check_kept_states(model: nn.Module, max_length: int, score: ScoreFunction) -> None:
    """Compare the log-probability of each token of two sequences.

    Args:
        model: the model.
        max_length: largest number of tokens of a sequence that kept states score.
        score: scores with kept states, without adapters.

    Raises:
        UserError: a log-probability differs by more than rounding, or the layers do not accept
            the arguments.
    """
    sequences = _sequences(model, max_length)
    pairs = [(s[:end], s[end : end + 1]) for s in sequences for end in range(1, len(s))]
    try:
        expected = _uncached_logps(model, sequences)
        found = score([prompt for prompt, _ in pairs], [reply for _, reply in pairs])
    except Exception as error:  # whatever the layers raise
        if isinstance(error, UserError) or is_out_of_memory(error):
            raise
        raise _unsupported(model, printable(error, 150)) from None
    difference = float((found - expected).abs().max())
    tolerance = TOLERANCE.get(next(model.parameters()).dtype, TOLERANCE_16_BITS)
    if not difference <= tolerance:  # NaN differs
        reason = f"log-probabilities differ by {difference:.2g} nats, more than {tolerance}"
        raise _unsupported(model, reason)


def _sequences(model: nn.Module, limit: int) -> list[list[int]]:
    """Two sequences of tokens, the longer one first and at most `limit` tokens long."""
    config: Any = unwrap_model(model).config  # type: ignore[union-attr]
    windows = [w for w in _windows(config.to_dict()) if w < limit]
    longer = min(limit, max([CHECK_LENGTH, *(window + TOKENS_BEYOND_WINDOW for window in windows)]))
    size = config.get_text_config().vocab_size
    # Arbitrary distinct tokens; the shorter sequence has half as many, rounded up.
    shorter = [(11 * i + 5) % size for i in range(-(-longer // 2))]
    return [[(7 * i + 1) % size for i in range(longer)], shorter]


def _windows(config: Mapping[Any, Any]) -> Iterator[int]:
    """Values of the `WINDOW_FIELDS` of a configuration, at any depth."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _windows(value)
        elif name in WINDOW_FIELDS and isinstance(value, int):
            yield value


def _uncached_logps(model: nn.Module, sequences: list[list[int]]) -> Float[Tensor, " token"]:
    """Log-probability of each token but the first of each sequence, in one pass with padding."""
    width = len(sequences[0])
    rows = [[NO_TOKEN] * (width - len(each)) + each for each in sequences]
    tokens = torch.tensor(rows, device=next(model.parameters()).device)
    logps = forward_logits(model, tokens, width)[0].float().log_softmax(-1)
    chosen = logps[:, :-1].gather(-1, tokens[:, 1:, None].clamp(min=0))[..., 0]
    return torch.cat([row[width - len(s) :] for row, s in zip(chosen, sequences, strict=True)])


def _unsupported(model: nn.Module, reason: str) -> UserError:
    return UserError(
        f"keep_states: {type(model).__name__} cannot be computed with kept states ({reason}): "
        "leave keep_states out",
        code="unsupported",
        path="keep_states",
    )
