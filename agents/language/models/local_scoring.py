"""Log-probabilities of continuations of prompts whose keys and values are known.

With y_1 ... y_n the tokens of a continuation, log p(y_1) is read from the logits of the prompt, and
the others from one pass over y_1 ... y_{n-1}. All continuations of all prompts of a batch share
passes; those of one prompt share its keys and values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.agents.language.models.local_forward import Forward
from mores.agents.language.models.local_prefill import Prefilled, Prompt

Continuation = tuple[int, ...]
MAX_PASS_TOKENS = 512  # of a pass over continuations, whose logits are all needed


def score_batch(
    forward: Forward,
    done: Prefilled,
    columns: int,
    scores: Mapping[Prompt, dict[Continuation, float]],
) -> int:
    """Write the log-probability of each continuation of these prompts.

    Args:
        forward: the model.
        done: the prompts.
        columns: slots of a prompt.
        scores: continuations of each prompt, whose values are replaced.

    Returns:
        The number of computed tokens.
    """
    longer = dict[int, list[tuple[int, Continuation]]]()  # by number of columns of the pass
    first = [(row, c) for row, p in enumerate(done.prompts) for c in scores[p] if c]
    logps = token_logps(done.logits, [row for row, _ in first], [c[0] for _, c in first])
    for (row, continuation), logp in zip(first, logps.tolist(), strict=True):
        scores[done.prompts[row]][continuation] = logp
        if len(continuation) > 1:
            width = pass_columns(len(continuation) - 1)
            longer.setdefault(width, []).append((row, continuation))
    computed = 0
    for width, pairs in sorted(longer.items()):
        rows = max(1, min(forward.max_rows(columns + width), MAX_PASS_TOKENS // width))
        for start in range(0, len(pairs), rows):
            part = pairs[start : start + rows]
            computed += sum(len(continuation) - 1 for _, continuation in part)
            for (row, continuation), logp in zip(
                part, _rest(forward, done, columns, width, part), strict=True
            ):
                scores[done.prompts[row]][continuation] += logp
    return computed


def pass_columns(length: int) -> int:
    """Number of columns of a pass over continuations of a length: 1, 2, 4, multiples of 8."""
    return next((c for c in (1, 2, 4) if length <= c), -(-length // 8) * 8)


def token_logps(
    logits: Float[Tensor, "row token"], rows: Sequence[int], tokens: Sequence[int]
) -> Float[Tensor, " read"]:
    """Log-probability of given tokens by the logits of given rows, in 64 bits."""
    at, which = torch.tensor(rows, dtype=torch.int64), torch.tensor(tokens, dtype=torch.int64)
    at, which = at.to(logits.device), which.to(logits.device)
    norms = torch.cat([part.logsumexp(-1) for part in logits.split(64)])
    return (logits[at, which].double() - norms[at].double()).cpu()


def _rest(
    forward: Forward,
    done: Prefilled,
    columns: int,
    width: int,
    pairs: Sequence[tuple[int, Continuation]],
) -> list[float]:
    """Log-probability of the tokens of each continuation after its first."""
    count = forward.padded(len(pairs))
    padded = [*pairs, *[pairs[0]] * (count - len(pairs))]
    rows = torch.tensor([row for row, _ in padded], device=forward.device)
    tokens = torch.zeros(count, width, dtype=torch.int64)
    valid = torch.zeros(count, width, dtype=torch.bool)
    lengths = torch.tensor([len(done.prompts[row].tokens) for row, _ in padded])
    for row, (_, continuation) in enumerate(padded):
        tokens[row, : len(continuation) - 1] = torch.tensor(continuation[:-1])
        valid[row, : len(continuation) - 1] = True
    positions: Int[Tensor, "row column"] = lengths[:, None] + torch.arange(width)
    read = [(row, column) for row, (_, c) in enumerate(pairs) for column in range(len(c) - 1)]
    logits = forward(
        tokens.to(forward.device),
        valid.to(forward.device),
        positions.to(forward.device),
        [done.prompts[row].adapter for row, _ in padded],
        done.buffer.take(rows, columns + width),
        columns,
        columns + width,
        read,
    )
    following = [token for _, continuation in pairs for token in continuation[1:]]
    logps = token_logps(logits, range(len(read)), following)
    sums = torch.zeros(len(pairs), dtype=torch.float64)
    return sums.index_add(0, torch.tensor([row for row, _ in read]), logps).tolist()
