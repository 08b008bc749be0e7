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

from mores.agents.language.token_layout import KINDS, batch_of, seen_of
from mores.agents.language.tokenization import Prompt, Tokens, Wording
from mores.core.errors import UserError, did_you_mean

JUDGED = "judged"  # the view in which the judgement stands in the prompt
SEEN_ON = "seen on "  # how a collated batch names the sights of its views
LISTED = ("prompt", "completion", "chosen", "rejected", "first", "second", "judgement")


class Sample(NamedTuple):
    """One sample of a row: what was asked, what was answered, and what was said of the answer."""

    prompt: Prompt
    completion: str | Sequence[int]
    judgement: str | None


def judged_prompt(prompt: Prompt, judgement: str) -> Prompt:
    """A prompt with the judgement in it, as a last line, or as a last message of the user's."""
    line = f"Judgement of the answer: {judgement}"
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
class Rows:
    """Rows of data to a batch: a data collator for `ObjectiveTrainer`.

    Args:
        tokenizer: of the model.
        longest: tokens that a prompt and its completion may have together.
        judged: makes the prompt of the view `judged`.
    """

    tokenizer: Any
    longest: int | None = None
    judged: Callable[[Prompt, str], Prompt] = judged_prompt

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Fields of the batch without the policy's dimension, and `seen on judged`.

        Raises:
            UserError: a row lacks something, has something unknown, or is too long.
        """
        wording = Wording(self.tokenizer)
        paired = ["completion" not in row for row in rows]
        if any(paired) and not all(paired):
            raise UserError(
                "rows are samples (`completion`) or pairs, not both in one batch",
                code="conflict",
                path="completion",
            )
        samples = [sample for row in rows for sample in _samples(row)]
        prompts = [wording.prompt(sample.prompt) for sample in samples]
        completions = [wording.completion(s.prompt, s.completion) for s in samples]
        fields = _fields(rows, all(paired))
        said = fields.pop("mask", None)
        batch = batch_of(prompts, completions, said, **fields)
        found = {
            field.name: getattr(batch, field.name)[0]
            for field in dataclasses.fields(batch)
            if getattr(batch, field.name) is not None
        }
        if any(sample.judgement for sample in samples):
            told = [
                wording.prompt(self.judged(s.prompt, s.judgement)) if s.judgement else prompt
                for s, prompt in zip(samples, prompts, strict=True)
            ]
            found[SEEN_ON + JUDGED] = seen_of(told, completions)[0]
            self._check_length(told, completions)
        self._check_length(prompts, completions)
        return found

    def _check_length(self, prompts: list[Tokens], completions: list[Tokens]) -> None:
        longest = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
        if self.longest is not None and longest > self.longest:
            raise UserError(
                f"a row has {longest} tokens, more than `longest`, {self.longest}",
                code="too_large",
                path="longest",
            )


def _samples(row: Mapping[str, Any]) -> list[Sample]:
    """The samples of a row: one, or the two of a pair."""
    for name in row:
        if name not in LISTED and name not in KINDS:
            raise UserError(
                f"a row has no {name!r}{did_you_mean(name, (*LISTED, *KINDS))}",
                code="unknown_name",
                path=name,
            )
    names = _answers(row)
    for name in row:
        if len(names) == 2 and name in KINDS and KINDS[name].of == "sample":
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
    if len(names) == 2 and row.get("judgement") is not None:
        raise UserError(
            "a judgement is of one completion: give a row of its own, not a pair",
            code="conflict",
            path="judgement",
        )
    return [Sample(row["prompt"], row[name], row.get("judgement")) for name in names]


def _answers(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "completion" in row:
        return ("completion",)
    if "chosen" in row:
        return ("chosen", "rejected")
    return ("first", "second")


def _fields(rows: Sequence[Mapping[str, Any]], paired: bool) -> dict[str, Any]:
    """What rows know besides texts, by field."""
    known = [name for name in KINDS if name not in LISTED]  # a judgement in words is a view
    names = dict.fromkeys(name for row in rows for name in row if name in known)
    fields: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if all(value is None for value in values):
            continue
        if any(value is None for value in values) and not KINDS[name].per_step:
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
