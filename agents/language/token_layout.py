"""Tokenized prompts and completions as a `FeedbackBatch`: the layout of tokens.

With one model, and the longest prompt W and the longest completion T tokens long:

    observation  [1, sample, W + T]  prompts end at position W, completions begin there; -1: padding
    action       [1, sample, T]      the completions' tokens: a step is a token
    mask         [1, sample, T]      tokens that the model generated: neither padding nor messages
                                     of others in between

Token t of a completion is predicted from the tokens before position W + t. Fields of steps
(`reference_logp`, `inappropriate`, tables of all options) refer to the completion's tokens only.
The same completions after other prompts, which may be longer, are another `observation` only: that
is a *view* of the batch, such as `critiqued`, in which the prompt contains the critique.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.core.errors import UserError, did_you_mean

NO_TOKEN = -1  # padding
DTYPES = {"Bool": torch.bool, "Float": torch.float32, "Int": torch.int64}


def token_observations(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
) -> Int[Tensor, "1 sample position"]:
    """Prompts that end, and completions that begin, at the same position.

    Raises:
        UserError: there are none, their numbers differ, or one is empty.
    """
    if len(prompts) != len(completions) or not prompts:
        raise UserError(
            "a batch needs as many prompts as completions, not "
            f"{len(prompts)} and {len(completions)}",
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
    observation = torch.full((1, len(prompts), width + steps), NO_TOKEN, dtype=torch.int64)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        tokens = torch.tensor([*prompt, *completion], dtype=torch.int64)
        observation[0, row, width - len(prompt) : width + len(completion)] = tokens
    return observation


def token_batch(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    completion_mask: Sequence[Sequence[bool]] | None = None,
    **fields: Any,
) -> FeedbackBatch:
    """A batch of tokenized prompts and completions; pairs are the samples 2i and 2i + 1.

    Args:
        prompts: tokens of each sample's prompt.
        completions: tokens of each sample's completion.
        completion_mask: which tokens of each completion the model generated; by default all.
        **fields: of `FeedbackBatch`, without the model dimension: a list or tensor over samples,
            pairs or models; fields of steps may be as ragged as the completions.

    Raises:
        UserError: sizes that do not fit, or an unknown field.
    """
    observation = token_observations(prompts, completions)
    lengths = [len(completion) for completion in completions]
    steps = max(lengths)
    if completion_mask is None:
        completion_mask = [[True] * length for length in lengths]
    for row, (row_mask, length) in enumerate(zip(completion_mask, lengths, strict=True)):
        if len(row_mask) != length:
            raise UserError(
                f"completion {row} has {length} tokens, and its completion_mask {len(row_mask)}",
                code="wrong_shape",
                path="completion_mask",
            )
    tensors = {name: field_tensor(name, value, lengths) for name, value in fields.items()}
    for name, field in tensors.items():
        if FIELD_SPECS[name].entity == "sample" and len(field) != len(lengths):
            raise UserError(
                f"{name!r} has {len(field)} samples, and the batch {len(lengths)}",
                code="wrong_shape",
                path=name,
            )
    tensors = {name: field[None] for name, field in tensors.items()}
    action = torch.where(observation < 0, 0, observation)[..., observation.shape[-1] - steps :]
    mask = _pad_rows("mask", completion_mask, steps, torch.bool)[None]
    return FeedbackBatch(observation=observation, action=action, mask=mask, **tensors)


def field_tensor(name: str, value: Any, lengths: Sequence[int]) -> Tensor:
    """A field of a batch without the model dimension.

    Args:
        name: of the field.
        value: a tensor or list over samples or pairs; for fields of steps, one list per sample.
        lengths: number of tokens of each completion.

    Raises:
        UserError: there is no such field, or the value does not fit.
    """
    if name not in FIELD_SPECS or name in ("observation", "action"):
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
        wrong_length = FIELD_SPECS[name].per_step and isinstance(error, ValueError)
        code = "wrong_shape" if wrong_length else "wrong_type"
        raise UserError(f"{name!r} does not fit the batch: {error}", code=code, path=name) from None


class FieldSpec(NamedTuple):
    """Type and dimensions of a field of a batch.

    Attributes:
        dtype: of its numbers.
        entity: second dimension: `sample`, `pair`, ...; empty if the field is per model.
        trailing_dims: its dimensions after that.
    """

    dtype: torch.dtype
    entity: str
    trailing_dims: tuple[str, ...]

    @property
    def per_step(self) -> bool:
        """Whether it has a value for each step."""
        return self.trailing_dims[:1] == ("step",)


def _field_spec(annotation: str) -> FieldSpec:
    """Specification by the annotation of a field: `Float[Tensor, "model sample step"] | None`."""
    shape = re.search(r"""['"](.*?)['"]""", annotation)
    _, entity, *trailing = [*(shape[1].split() if shape else []), "", ""]
    dtype = DTYPES.get(annotation.partition("[")[0], torch.int64)
    return FieldSpec(dtype, entity, tuple(name for name in trailing if name))


FIELD_SPECS = {
    field.name: _field_spec(str(field.type)) for field in dataclasses.fields(FeedbackBatch)
}


def _pad_rows(name: str, rows: Sequence[Any], steps: int, dtype: torch.dtype) -> Tensor:
    """One tensor of rows of different length, padded with 0; a missing row is 0."""
    tensors = [None if row is None else torch.as_tensor(row, dtype=dtype) for row in rows]
    shapes = {row.shape[1:] for row in tensors if row is not None}
    if len(shapes) != 1:
        raise ValueError(f"rows of {name} differ in size: {sorted(map(tuple, shapes))}")
    padded = torch.zeros(len(tensors), steps, *shapes.pop(), dtype=dtype)
    for index, row in enumerate(tensors):
        if row is not None:
            padded[index, : len(row)] = row
    return padded
