"""Whether the passes of the engine give what a plain forward pass of the model gives.

The engine hands its own keys and values, masks and positions to the model. Not every architecture
attends in that way (state-space layers, other caches). So each model computes a few tokens in both
ways when it is loaded, and one with another result is refused.
"""

from __future__ import annotations

import torch

from mores.agents.language.models.key_values import KeyValues
from mores.agents.language.models.local_forward import Forward
from mores.core.errors import UserError, printable

LENGTH = 21  # tokens: more than a block of the usual size, and no multiple of it
TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 0.3}  # in standard deviations of the logits


@torch.inference_mode()
def check_model(forward: Forward) -> None:
    """Compare logits of the last of some tokens.

    Raises:
        UserError: they differ, or the model does not accept the arguments.
    """
    tokens = torch.arange(LENGTH, device=forward.device)[None] * 7 % forward.vocabulary_size
    try:
        plain = forward.model(input_ids=tokens, use_cache=False).logits[0, -1].float()
        found = _by_engine(forward, tokens)
    except UserError:
        raise
    except Exception as error:  # whatever the model raises
        raise _unsupported(forward, printable(error, 150)) from None
    difference = float((found - plain).abs().max() / plain.std())
    limit = TOLERANCE.get(forward.dtype, 0.3)
    if not difference <= limit:
        raise _unsupported(forward, f"logits differ by {difference:.2g} standard deviations")


def _by_engine(forward: Forward, tokens: torch.Tensor) -> torch.Tensor:
    """Logits after the last token, computed with a first and a second part."""
    first = LENGTH // forward.block * forward.block or LENGTH - 1
    rows = forward.padded(1, 1)
    buffer = KeyValues(rows, LENGTH, forward.device)
    tokens = tokens.expand(rows, LENGTH)
    positions = torch.arange(LENGTH, device=forward.device).expand(rows, LENGTH)
    found = torch.empty(0)
    for start, end in ((0, first), (first, LENGTH)):
        found = forward(
            tokens[:, start:end],
            torch.ones_like(tokens[:, start:end], dtype=torch.bool),
            positions[:, start:end],
            [-1] * rows,
            buffer,
            start,
            end,
            [(0, end - start - 1)],
        )
    return found[0]


def _unsupported(forward: Forward, reason: str) -> UserError:
    name = type(forward.model).__name__
    return UserError(
        f"{name} cannot be computed with kept keys and values ({reason}): serve it, and give the "
        "server's address as the model",
        code="unsupported",
        path="model",
    )
