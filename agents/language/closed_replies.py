"""Log-probabilities, with gradients, of given replies to given prompts, each under an adapter.

    log p(y | x) = Σ_j log softmax(logits)[y_j | x, y_<j]

over the whole vocabulary. Replies to the same prompt under the same adapter share a sequence
wherever one contains the tokens before the other's last one: the labels A, B, C of one token each
are read from a single sequence, the prompt.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mores.agents.language.adapters import BASE_MODEL, StackedLoRA
from mores.agents.language.causal_lm import forward_logits, max_context_length
from mores.agents.language.token_layout import NO_TOKEN
from mores.core.errors import UserError

Tokens = Sequence[int]


def closed_reply_logps(
    model: nn.Module,
    adapters: StackedLoRA | None,
    prompts: Sequence[Tokens],
    replies: Sequence[Tokens],
    model_index: Int[Tensor, " reply"],
    *,
    rows: int | None = None,
) -> Float[Tensor, " reply"]:
    """Log-probability of each reply as the continuation of its prompt, in 32 bits at least.

    Gradients flow to `adapters.parameters` where these require them, and to the parameters of
    `model` where these do.

    Args:
        model: causal, of transformers, in the mode `eval`.
        adapters: adapters of the model; `None`: the base model, `model_index` is ignored.
        prompts: tokens of the prompt of each reply, at least one; repeated prompts cost nothing.
        replies: tokens of each reply, at least one.
        model_index: adapter of each reply; -1: the base model.
        rows: largest number of sequences in a forward pass. More sequences take several passes,
            which keep no activations: they are computed once more in the backward pass. `None`:
            one pass for all.

    Raises:
        UserError: sizes that do not fit, or a sequence is longer than the model's context.
    """
    if not len(prompts) == len(replies) == len(model_index) or not len(replies):
        raise UserError(
            "as many prompts and adapters as replies, at least one, not "
            f"{len(prompts)}, {len(model_index)} and {len(replies)}",
            code="wrong_shape",
            path="replies",
        )
    models = [BASE_MODEL] * len(replies) if adapters is None else model_index.tolist()
    plan = plan_sequences(prompts, replies, models)
    device = next(model.parameters()).device
    limit, width = max_context_length(model), max(map(len, plan.sequences))
    if limit is not None and width > limit:
        raise UserError(
            f"a prompt with its reply has {width} tokens, and the model's context {limit}",
            code="too_large",
            path="prompts",
        )
    tokens = torch.full((len(plan.sequences), width), NO_TOKEN, dtype=torch.int64)
    for row, sequence in enumerate(plan.sequences):
        tokens[row, width - len(sequence) :] = torch.tensor(sequence)
    tokens, models_of_rows = tokens.to(device), torch.tensor(plan.models, device=device)
    # Predictions of a reply's tokens: from the last token of the prompt on.
    kept = max(len(plan.sequences[row]) - start for row, start in plan.places) + 1
    targets: list[tuple[int, int, int, int]] = []  # row, position, token, reply
    for index, (reply, (row, start)) in enumerate(zip(replies, plan.places, strict=True)):
        first = kept - (len(plan.sequences[row]) - start) - 1
        targets += [(row, first + j, token, index) for j, token in enumerate(reply)]
    targets.sort(key=lambda target: target[0])
    step = len(tokens) if rows is None else rows
    parts = []
    for first in range(0, len(tokens), step):
        own = [(row - first, *rest) for row, *rest in targets if first <= row < first + step]
        place = torch.tensor(own, device=device).T
        arguments = (model, adapters, tokens[first : first + step],
                     models_of_rows[first : first + step], kept, place[:3])  # fmt: skip
        if step < len(tokens) and torch.is_grad_enabled():
            parts.append(checkpoint(_token_logps, *arguments, use_reentrant=False))
        else:
            parts.append(_token_logps(*arguments))
    token_logps = torch.cat(parts)
    total = torch.zeros(len(replies), dtype=token_logps.dtype, device=device)
    return total.index_add(0, torch.tensor([t[3] for t in targets], device=device), token_logps)


def _token_logps(
    model: nn.Module,
    adapters: StackedLoRA | None,
    tokens: Int[Tensor, "row position"],
    models: Int[Tensor, " row"],
    kept: int,
    place: Int[Tensor, "3 token"],
) -> Float[Tensor, " token"]:
    """Log-probabilities of tokens: their rows, positions among the last `kept` ones, and ids."""
    context: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if adapters is not None:
        context = adapters.active(models)
    with context:
        raw = forward_logits(model, tokens, kept)[0]
    logps = raw[:, raw.shape[1] - kept :].float().log_softmax(-1)
    row, position, token = place
    return logps[row, position, token]


@dataclasses.dataclass(frozen=True)
class SequencePlan:
    """Sequences from which replies are read.

    Attributes:
        sequences: tokens of each sequence: a prompt, and the reply's tokens except for the last.
        models: adapter of each sequence.
        places: sequence of each reply, and the length of its prompt.
    """

    sequences: list[list[int]]
    models: list[int]
    places: list[tuple[int, int]]


def plan_sequences(
    prompts: Sequence[Tokens], replies: Sequence[Tokens], models: Sequence[int]
) -> SequencePlan:
    """The sequences that are needed, in the order of the first reply of their prompt and adapter.

    Raises:
        UserError: a prompt or a reply is empty.
    """
    members: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for index, (model, prompt, reply) in enumerate(zip(models, prompts, replies, strict=True)):
        if not len(prompt) or not len(reply):
            name = "prompts" if not len(prompt) else "replies"
            raise UserError(
                f"{name}: {index} has no token", code="wrong_shape", path=f"{name}.{index}"
            )
        members.setdefault((model, tuple(prompt)), []).append(index)
    sequences, sequence_models = list[list[int]](), list[int]()
    places = [(0, 0)] * len(replies)
    for (model, prompt), indices in members.items():
        rows: dict[tuple[int, ...], int] = {}
        contexts = {index: tuple(replies[index][:-1]) for index in indices}
        # Longest first: a shorter context may be the beginning of a longer one.
        for index in sorted(indices, key=lambda i: -len(contexts[i])):
            context = contexts[index]
            row = next((r for c, r in rows.items() if c[: len(context)] == context), None)
            if row is None:
                row = rows[context] = len(sequences)
                sequences.append([*prompt, *context])
                sequence_models.append(model)
            places[index] = row, len(prompt)
    return SequencePlan(sequences, sequence_models, places)
