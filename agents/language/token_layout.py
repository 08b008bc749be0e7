"""Tokenised prompts and completions as a `FeedbackBatch`: the layout of tokens.

With one policy, and the longest prompt W and the longest completion T tokens long:

    seen   [1, sample, W + T]  prompts end at place W, completions begin there; -1: nothing there
    acted  [1, sample, T]      the completions' tokens: a step is a token
    mask   [1, sample, T]      the tokens that the policy itself said: not padding, and not what
                               somebody else said in between

Token t of a completion is said on what stands before place W + t. What is known of steps
(`reference_logp`, `inappropriate`, tables of all options) is known of the completion's tokens only.
The same completions behind other prompts, which may be longer, are another `seen` and nothing else:
that is a *view* of the batch, such as `judged`, in which the judgement stands in the prompt.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.core.errors import UserError, did_you_mean

NO_TOKEN = -1  # no token stands here
DTYPES = {"Bool": torch.bool, "Float": torch.float32, "Int": torch.int64}


def token_observations(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
) -> Int[Tensor, "1 sample place"]:
    """Prompts that end, and completions that begin, at the same place.

    Raises:
        UserError: there are none, or not as many of both, or one is empty.
    """
    if len(prompts) != len(completions) or not prompts:
        raise UserError(
            f"{len(prompts)} prompts and {len(completions)} completions are no batch",
            code="wrong_shape",
            path="completions",
        )
    for name, texts in (("prompt", prompts), ("completion", completions)):
        if not all(len(text) for text in texts):
            empty = next(i for i, text in enumerate(texts) if not len(text))
            raise UserError(
                f"{name} {empty} has no token", code="wrong_shape", path=f"{name}s.{empty}"
            )
    width = max(map(len, prompts))
    steps = max(map(len, completions))
    seen = torch.full((1, len(prompts), width + steps), NO_TOKEN, dtype=torch.int64)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        tokens = torch.tensor([*prompt, *completion], dtype=torch.int64)
        seen[0, row, width - len(prompt) : width + len(completion)] = tokens
    return seen


def token_batch(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    completion_mask: Sequence[Sequence[bool]] | None = None,
    **fields: Any,
) -> FeedbackBatch:
    """A batch of tokenised prompts and completions; pairs are the samples 2i and 2i + 1.

    Args:
        prompts: tokens of each sample's prompt.
        completions: tokens of each sample's completion.
        completion_mask: which tokens of each completion the policy itself said; by default all.
        **fields: of `FeedbackBatch`, without the policy's dimension: a list or tensor over samples,
            pairs or policies; what is known of steps may be as ragged as the completions.

    Raises:
        UserError: sizes that do not fit, or an unknown field.
    """
    seen = token_observations(prompts, completions)
    steps = max(map(len, completions))
    completion_mask = (
        [[True] * len(completion) for completion in completions]
        if completion_mask is None
        else completion_mask
    )
    lengths = [len(completion) for completion in completions]
    for row, (own, length) in enumerate(zip(completion_mask, lengths, strict=True)):
        if len(own) != length:
            raise UserError(
                f"completion {row} has {length} tokens, and `said` {len(own)}",
                code="wrong_shape",
                path="said",
            )
    known = {name: field_tensor(name, value, lengths) for name, value in fields.items()}
    for name, field in known.items():
        if FIELD_SPECS[name].entity == "sample" and len(field) != len(lengths):
            raise UserError(
                f"{name!r} is of {len(field)} samples, and there are {len(lengths)}",
                code="wrong_shape",
                path=name,
            )
    known = {name: field[None] for name, field in known.items()}
    acted = torch.where(seen < 0, 0, seen)[..., seen.shape[-1] - steps :]
    mask: Bool[Tensor, "1 sample step"] = _pad_rows("mask", completion_mask, steps, torch.bool)[
        None
    ]
    return FeedbackBatch(observation=seen, action=acted, mask=mask, **known)


def field_tensor(name: str, value: Any, lengths: Sequence[int]) -> Tensor:
    """A field of a batch without the policy's dimension.

    Args:
        name: of the field.
        value: a tensor or list over samples or pairs; per step, one list a sample.
        lengths: tokens of each completion.

    Raises:
        UserError: there is no such field, or it does not fit.
    """
    if name not in FIELD_SPECS or name in ("seen", "acted"):
        raise UserError(
            f"a batch has no field {name!r}{did_you_mean(name, FIELD_SPECS)}",
            code="unknown_name",
            path=name,
        )
    dtype = FIELD_SPECS[name].dtype
    try:
        if FIELD_SPECS[name].per_step and not isinstance(value, Tensor):
            for row, length in zip(value, lengths, strict=True):
                if row is not None and len(row) != length:
                    raise ValueError(f"{len(row)} numbers for a completion of {length} tokens")
            return _pad_rows(name, value, max(lengths), dtype)
        return torch.as_tensor(value, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        lengthy = FIELD_SPECS[name].per_step and isinstance(error, ValueError)
        code = "wrong_shape" if lengthy else "wrong_type"
        raise UserError(f"{name!r} does not fit the batch: {error}", code=code, path=name) from None


class FieldSpec(NamedTuple):
    """What a field of a batch holds.

    Attributes:
        dtype: of its numbers.
        entity: what it tells of: `sample`, `pair`, ...; empty where it is of a policy.
        trailing_dims: its dimensions after that.
    """

    dtype: torch.dtype
    entity: str
    trailing_dims: tuple[str, ...]

    @property
    def per_step(self) -> bool:
        """Whether it tells of steps."""
        return self.trailing_dims[:1] == ("step",)


def _field_spec(annotation: str) -> FieldSpec:
    """What the annotation of a field says: `Float[Tensor, "policy sample step"] | None`."""
    shape = re.search(r"""['"](.*?)['"]""", annotation)
    _, of, *further = [*(shape[1].split() if shape else []), "", ""]
    dtype = DTYPES.get(annotation.partition("[")[0], torch.int64)
    return FieldSpec(dtype, of, tuple(name for name in further if name))


FIELD_SPECS = {
    field.name: _field_spec(str(field.type)) for field in dataclasses.fields(FeedbackBatch)
}


def _pad_rows(name: str, rows: Sequence[Any], steps: int, dtype: torch.dtype) -> Tensor:
    """One tensor of rows of different length; behind them stands 0, and a missing row is 0."""
    made = [None if row is None else torch.as_tensor(row, dtype=dtype) for row in rows]
    shapes = {row.shape[1:] for row in made if row is not None}
    if len(shapes) != 1:
        raise ValueError(f"rows of {name} differ in size: {sorted(map(tuple, shapes))}")
    stacked = torch.zeros(len(made), steps, *shapes.pop(), dtype=dtype)
    for number, row in enumerate(made):
        if row is not None:
            stacked[number, : len(row)] = row
    return stacked
