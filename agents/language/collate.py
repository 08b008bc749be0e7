"""Rows of data to batches: what a data set for `ObjectiveTrainer` may hold.

A row is a mapping with `prompt` and

- `completion`: one sample, with a `judgement` in words if there is one; or
- `chosen` and `rejected`, or `first`, `second` and `preferred` (whether the first won): a pair;
- and what else is known of it, by the names of `FeedbackBatch` (`desirable`, `pair_margin`,
  `inappropriate`: one a token of the completion, its end token included, ...).

Prompts are text, conversations or tokens; completions text or tokens. All rows of a batch are
samples, or all are pairs. Where there are judgements the batch has a second view, `judged`, in
which each stands in its prompt; a row without one looks the same in both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from mores.agents.language.token_layout import FIELD_SPECS, token_batch, token_observations
from mores.agents.language.tokenization import Prompt, PromptTokenizer, Tokens
from mores.core.errors import UserError, did_you_mean

CRITIQUED = "prompt_with_critique"  # the view in which the judgement stands in the prompt
VIEW_PREFIX = "seen on "  # how a collated batch names the sights of its views
TEXT_COLUMNS = ("prompt", "completion", "chosen", "rejected", "first", "second", "critique")


class TextSample(NamedTuple):
    """One sample of a row: what was asked, what was answered, and what was said of the answer."""

    prompt: Prompt
    completion: str | Sequence[int]
    critique: str | None


def format_critique_prompt(prompt: Prompt, critique: str) -> Prompt:
    """A prompt with the judgement in it, as a last line, or as a last message of the user's."""
    line = f"Judgement of the answer: {critique}"
    if isinstance(prompt, str):
        return f"{prompt}\n{line}\n"
    if prompt and isinstance(prompt[0], int):
        raise UserError(
            "a judgement in words needs a prompt in words, not in tokens",
            code="conflict",
            path="prompt",
        )
    *before, last = prompt
    if not isinstance(last, Mapping) or last.get("role") != "user":
        return [*prompt, {"role": "user", "content": line}]  # type: ignore[list-item]
    return [*before, {**last, "content": f"{last['content']}\n{line}"}]  # type: ignore[list-item]


@dataclasses.dataclass(frozen=True)
class FeedbackDataCollator:
    """Rows of data to a batch: a data collator for `ObjectiveTrainer`.

    Args:
        tokenizer: of the model.
        max_length: tokens that a prompt and its completion may have together.
        prompt_with_critique: makes the prompt of the view `judged`.
    """

    tokenizer: Any
    max_length: int | None = None
    prompt_with_critique: Callable[[Prompt, str], Prompt] = format_critique_prompt

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Fields of the batch without the policy's dimension, and `seen on judged`.

        Raises:
            UserError: a row lacks something, has something unknown, or is too long.
        """
        wording = PromptTokenizer(self.tokenizer)
        paired = ["completion" not in row for row in rows]
        if any(paired) and not all(paired):
            raise UserError(
                "rows are samples (`completion`) or pairs, not both in one batch",
                code="conflict",
                path="completion",
            )
        samples = [sample for row in rows for sample in _samples(row)]
        prompts = [wording.encode_prompt(sample.prompt) for sample in samples]
        completions = [wording.encode_completion(s.prompt, s.completion) for s in samples]
        fields = _feedback_columns(rows, all(paired))
        said = fields.pop("mask", None)
        batch = token_batch(prompts, completions, said, **fields)
        found = {
            field.name: getattr(batch, field.name)[0]
            for field in dataclasses.fields(batch)
            if getattr(batch, field.name) is not None
        }
        if any(sample.critique for sample in samples):
            told = [
                wording.encode_prompt(self.prompt_with_critique(s.prompt, s.critique))
                if s.critique
                else prompt
                for s, prompt in zip(samples, prompts, strict=True)
            ]
            found[VIEW_PREFIX + CRITIQUED] = token_observations(told, completions)[0]
            self._check_length(told, completions)
        self._check_length(prompts, completions)
        return found

    def _check_length(self, prompts: list[Tokens], completions: list[Tokens]) -> None:
        longest = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
        if self.max_length is not None and longest > self.max_length:
            raise UserError(
                f"a row has {longest} tokens, more than `longest`, {self.max_length}",
                code="too_large",
                path="max_length",
            )


def _samples(row: Mapping[str, Any]) -> list[TextSample]:
    """The samples of a row: one, or the two of a pair."""
    for name in row:
        if name not in TEXT_COLUMNS and name not in FIELD_SPECS:
            raise UserError(
                f"a row has no {name!r}{did_you_mean(name, (*TEXT_COLUMNS, *FIELD_SPECS))}",
                code="unknown_name",
                path=name,
            )
    names = _completion_columns(row)
    for name in row:
        if len(names) == 2 and name in FIELD_SPECS and FIELD_SPECS[name].entity == "sample":
            raise UserError(
                f"{name!r} is of one completion: give a row of its own, not a pair",
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
            "a judgement is of one completion: give a row of its own, not a pair",
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
    """What rows know besides texts, by field."""
    known = [
        name for name in FIELD_SPECS if name not in TEXT_COLUMNS
    ]  # a judgement in words is a view
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
                "a row with `first` and `second` needs `preferred`: did the first win?",
                code="missing",
                path="preferred",
            )
        fields["preferred"] = [True] * len(rows)
    return fields
