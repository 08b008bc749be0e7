"""Data collator: rows of a data set to batches for `ObjectiveTrainer`.

A row is a mapping with `prompt` and

- `completion`: one sample, with a `critique` in words if there is one; or
- `chosen` and `rejected`, or `first`, `second` and `preferred` (whether the first is): a pair;
- further fields of `FeedbackBatch` by name (`desirable`, `pair_margin`, `inappropriate`: one per
  token of the completion, its end token included, ...).

Prompts are text, conversations or tokens; completions text or tokens. All rows of a batch are
samples, or all are pairs. If there are critiques the batch has a second view, `critiqued`, in which
the prompt contains the critique; a row without one is the same in both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from mores.agents.language.token_layout import FIELD_SPECS, token_batch, token_observations
from mores.agents.language.tokenization import Prompt, PromptTokenizer, Tokens
from mores.core.errors import UserError, did_you_mean

CRITIQUED = "critiqued"  # the view in which the prompt contains the critique
VIEW_PREFIX = "observation on "  # prefix of the observations of views in a collated batch
TEXT_COLUMNS = ("prompt", "completion", "chosen", "rejected", "first", "second", "critique")


class TextSample(NamedTuple):
    """One sample of a row: prompt, completion, and a critique of the completion."""

    prompt: Prompt
    completion: str | Sequence[int]
    critique: str | None


def format_critique_prompt(prompt: Prompt, critique: str) -> Prompt:
    """A prompt with the critique as its last line, or in its last message of the user."""
    line = f"Critique of the answer: {critique}"
    if isinstance(prompt, str):
        return f"{prompt}\n{line}\n"
    if prompt and isinstance(prompt[0], int):
        raise UserError(
            "a critique in words needs a prompt in words, not in tokens",
            code="conflict",
            path="prompt",
        )
    *before, last = prompt
    if not isinstance(last, Mapping) or last.get("role") != "user":
        return [*prompt, {"role": "user", "content": line}]  # type: ignore[list-item]
    return [*before, {**last, "content": f"{last['content']}\n{line}"}]  # type: ignore[list-item]


@dataclasses.dataclass(frozen=True)
class FeedbackDataCollator:
    """Data collator for `ObjectiveTrainer`: rows of a data set to a batch.

    Args:
        tokenizer: of the model.
        max_length: limit of the tokens of a prompt and its completion together.
        prompt_with_critique: function that returns the prompt of the view `critiqued`.
    """

    tokenizer: Any
    max_length: int | None = None
    prompt_with_critique: Callable[[Prompt, str], Prompt] = format_critique_prompt

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Fields of the batch without the model dimension, and `observation on critiqued`.

        Raises:
            UserError: a row lacks a field, has an unknown field, or is too long.
        """
        tokenizer = PromptTokenizer(self.tokenizer)
        paired = ["completion" not in row for row in rows]
        if any(paired) and not all(paired):
            raise UserError(
                "rows must be samples (`completion`) or pairs, not both in one batch",
                code="conflict",
                path="completion",
            )
        samples = [sample for row in rows for sample in _samples(row)]
        prompts = [tokenizer.encode_prompt(sample.prompt) for sample in samples]
        completions = [tokenizer.encode_completion(s.prompt, s.completion) for s in samples]
        fields = _feedback_columns(rows, all(paired))
        completion_mask = fields.pop("mask", None)
        batch = token_batch(prompts, completions, completion_mask, **fields)
        collated = {
            field.name: getattr(batch, field.name)[0]
            for field in dataclasses.fields(batch)
            if getattr(batch, field.name) is not None
        }
        if any(sample.critique for sample in samples):
            critiqued = [
                tokenizer.encode_prompt(self.prompt_with_critique(s.prompt, s.critique))
                if s.critique
                else prompt
                for s, prompt in zip(samples, prompts, strict=True)
            ]
            collated[VIEW_PREFIX + CRITIQUED] = token_observations(critiqued, completions)[0]
            self._check_length(critiqued, completions)
        self._check_length(prompts, completions)
        return collated

    def _check_length(self, prompts: list[Tokens], completions: list[Tokens]) -> None:
        longest = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
        if self.max_length is not None and longest > self.max_length:
            raise UserError(
                f"a row has {longest} tokens, more than max_length {self.max_length}",
                code="too_large",
                path="max_length",
            )


def _samples(row: Mapping[str, Any]) -> list[TextSample]:
    """The samples of a row: one, or the two of a pair."""
    for name in row:
        if name not in TEXT_COLUMNS and name not in FIELD_SPECS:
            raise UserError(
                f"a row has no field {name!r}{did_you_mean(name, (*TEXT_COLUMNS, *FIELD_SPECS))}",
                code="unknown_name",
                path=name,
            )
    names = _completion_columns(row)
    for name in row:
        if len(names) == 2 and name in FIELD_SPECS and FIELD_SPECS[name].entity == "sample":
            raise UserError(
                f"{name!r} belongs to one completion: use a row with `completion`, not a pair",
                code="conflict",
                path=name,
            )
    for name in ("prompt", *names):
        if row.get(name) is None:
            raise UserError(
                f"a row needs {name!r}, and has {sorted(row)}", code="missing", path=name
            )
    if len(names) == 2 and row.get("critique") is not None:
        raise UserError(
            "'critique' belongs to one completion: use a row with `completion`, not a pair",
            code="conflict",
            path="critique",
        )
    return [TextSample(row["prompt"], row[name], row.get("critique")) for name in names]


def _completion_columns(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "completion" in row:
        return ("completion",)
    if "chosen" in row:
        return ("chosen", "rejected")
    return ("first", "second")


def _feedback_columns(rows: Sequence[Mapping[str, Any]], paired: bool) -> dict[str, Any]:
    """Values of the rows besides texts, by field of the batch."""
    known = [name for name in FIELD_SPECS if name not in TEXT_COLUMNS]  # critiques are a view
    names = dict.fromkeys(name for row in rows for name in row if name in known)
    fields: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if all(value is None for value in values):
            continue
        if any(value is None for value in values) and not FIELD_SPECS[name].per_step:
            raise UserError(f"some rows have {name!r} and some do not", code="missing", path=name)
        fields[name] = values
    if paired and "preferred" not in fields:
        if not all("chosen" in row for row in rows):
            raise UserError(
                "a row with `first` and `second` needs `preferred`: whether the first is preferred",
                code="missing",
                path="preferred",
            )
        fields["preferred"] = [True] * len(rows)
    return fields
