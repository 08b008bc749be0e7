"""Preferences and other feedback as data sets for TRL's trainers.

| function | trainer | columns |
|---|---|---|
| `to_trl_preference` | DPOTrainer, RewardTrainer | prompt, chosen, rejected |
| `to_trl_unpaired` | KTOTrainer | prompt, completion, label |
| `to_trl_sft` | SFTTrainer | prompt, completion |
| `to_trl_prompt_only` | GRPOTrainer, RLOOTrainer | prompt |

Their argument is records, mappings with `prompt` and `completion` (and `desirable`,
`is_demonstration`), or `first`, `second` and `preferred` (and further fields of the pair); or a
`FeedbackBatch` with the texts of its samples. Further columns of records stay in the data set, as
arguments of reward functions. If prompts are conversations, completions become assistant messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mores.agents.language.optional_imports import import_optional
from mores.agents.language.token_layout import FIELD_SPECS
from mores.agents.language.tokenization import Prompt
from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses.sample_selection import pair_indices
from mores.core.errors import UserError, did_you_mean

FeedbackRow = Mapping[str, Any]
FeedbackRows = Sequence[FeedbackRow] | FeedbackBatch


class BatchTexts(NamedTuple):
    """The texts of a batch's samples."""

    prompts: Sequence[Prompt]
    completions: Sequence[str]


def to_trl_preference(
    records: FeedbackRows, texts: BatchTexts | None = None, model_index: int = 0
) -> Any:
    """Pairs for `DPOTrainer`: the preferred answer of each is `chosen`.

    Args:
        records: with `prompt`, `first`, `second`, `preferred` (whether the first is); or a batch.
        texts: texts of the samples, if the records are a batch.
        model_index: index of the model in the batch.

    Raises:
        UserError: a column is missing.
    """

    def row(record: FeedbackRow) -> dict[str, Any]:
        chosen, rejected = ("first", "second") if record["preferred"] else ("second", "first")
        completions = {"chosen": record[chosen], "rejected": record[rejected]}
        return _row(record, completions, ("first", "second", "preferred"))

    pairs = records if texts is None else pair_records(records, texts, model_index)
    return _dataset(pairs, ("prompt", "first", "second", "preferred"), row)


def to_trl_unpaired(
    records: FeedbackRows, texts: BatchTexts | None = None, model_index: int = 0
) -> Any:
    """Single answers for `KTOTrainer`, each desirable or not.

    Args:
        records: with `prompt`, `completion` and `desirable`, or pairs, which become two answers
            each; or a batch.
        texts: texts of the samples, if the records are a batch.
        model_index: index of the model in the batch.

    Raises:
        UserError: a column is missing.
    """

    def row(record: FeedbackRow) -> dict[str, Any]:
        columns = {"completion": record["completion"], "label": bool(record["desirable"])}
        return _row(record, columns, ("desirable",))

    if texts is not None or isinstance(records, FeedbackBatch):
        samples: Sequence[FeedbackRow] = sample_records(records, texts, model_index)
    else:
        samples = [sample for record in records for sample in _unpair(record)]
    return _dataset(samples, ("prompt", "completion", "desirable"), row)


def to_trl_sft(records: FeedbackRows, texts: BatchTexts | None = None, model_index: int = 0) -> Any:
    """Answers to imitate, for `SFTTrainer`.

    Records whose `is_demonstration` or `desirable` is false are left out.

    Args:
        records: with `prompt` and `completion`; or a batch.
        texts: texts of the samples, if the records are a batch.
        model_index: index of the model in the batch.

    Raises:
        UserError: a column is missing, or all records are left out.
    """

    def row(record: FeedbackRow) -> dict[str, Any]:
        columns = {"completion": record["completion"]}
        return _row(record, columns, ("desirable", "is_demonstration"))

    samples = records if texts is None else sample_records(records, texts, model_index)
    if isinstance(samples, FeedbackBatch):
        raise UserError(
            "a batch needs the texts of its samples: BatchTexts(prompts, completions)",
            code="missing",
            path="texts",
        )
    flags = "is_demonstration", "desirable"
    selected = [r for r in samples if all(r.get(flag, True) for flag in flags)]
    return _dataset(selected, ("prompt", "completion"), row)


def to_trl_prompt_only(
    records: FeedbackRows, texts: BatchTexts | None = None, model_index: int = 0
) -> Any:
    """Prompts for trainers that generate answers; each distinct prompt once.

    Args:
        records: with `prompt`; or a batch.
        texts: texts of the samples, if the records are a batch.
        model_index: index of the model in the batch.

    Raises:
        UserError: a column is missing.
    """
    excluded = ("completion", "first", "second", "preferred", "desirable", "is_demonstration")

    def row(record: FeedbackRow) -> dict[str, Any]:
        return _row(record, {}, excluded)

    samples = records if texts is None else sample_records(records, texts, model_index)
    if isinstance(samples, FeedbackBatch):
        raise UserError(
            "a batch needs the texts of its samples: BatchTexts(prompts, completions)",
            code="missing",
            path="texts",
        )
    distinct = {str(record.get("prompt")): record for record in reversed(samples)}
    return _dataset(list(reversed(distinct.values())), ("prompt",), row)


# --- batches --------------------------------------------------------------------------------------


def pair_records(batch: FeedbackRows, texts: BatchTexts, model_index: int = 0) -> list[FeedbackRow]:
    """The pairs of a batch as records, with the batch's fields of each pair.

    Raises:
        UserError: the texts are not those of the batch, or no field states the preferred samples.
    """
    batch = _check_batch(batch, texts, model_index)
    pairs = pair_indices(batch, "a data set of preferences")
    records = []
    rows = zip(*(part[model_index].tolist() for part in pairs), strict=True)
    for index, (chosen, rejected, valid) in enumerate(rows):
        if not valid:
            continue
        record = {"prompt": texts.prompts[chosen], "first": texts.completions[chosen]}
        record |= {"second": texts.completions[rejected], "preferred": True}
        records.append(record | _known_fields(batch, "pair", model_index, index))
    return records


def sample_records(
    batch: FeedbackRows, texts: BatchTexts | None, model_index: int = 0
) -> list[FeedbackRow]:
    """The samples of a batch as records, with the batch's fields of each sample.

    Raises:
        UserError: the texts are not those of the batch.
    """
    batch = _check_batch(batch, texts, model_index)
    assert texts is not None
    samples = zip(texts.prompts, texts.completions, strict=True)
    return [
        {
            "prompt": prompt,
            "completion": completion,
            **_known_fields(batch, "sample", model_index, i),
        }
        for i, (prompt, completion) in enumerate(samples)
    ]


def _check_batch(batch: FeedbackRows, texts: BatchTexts | None, model_index: int) -> FeedbackBatch:
    if not isinstance(batch, FeedbackBatch):
        raise UserError("texts need a batch: records have their own", code="conflict", path="texts")
    if texts is None:
        raise UserError(
            "a batch needs the texts of its samples: BatchTexts(prompts, completions)",
            code="missing",
            path="texts",
        )
    if not 0 <= model_index < batch.num_models:
        raise UserError(
            f"model_index must lie in [0, {batch.num_models - 1}], not be {model_index}",
            code="out_of_range",
            path="model_index",
        )
    for name, values in texts._asdict().items():
        if len(values) != batch.num_samples:
            raise UserError(
                f"the batch has {batch.num_samples} samples, and there are {len(values)} {name}",
                code="wrong_shape",
                path=f"texts.{name}",
            )
    return batch


def _known_fields(
    batch: FeedbackBatch, entity: str, model_index: int, index: int
) -> dict[str, Any]:
    """Fields of one pair or sample as numbers and lists, without `preferred`."""
    fields = {}
    for name, spec in FIELD_SPECS.items():
        value = getattr(batch, name)
        if value is None or spec.entity != entity or name == "preferred":
            continue
        if not spec.trailing_dims or spec.trailing_dims == ("principal",):
            fields[name] = value[model_index, index].tolist()
    return fields


# --- rows -----------------------------------------------------------------------------------------


def _unpair(record: FeedbackRow) -> list[FeedbackRow]:
    """A record of one answer, or the two answers of a pair."""
    if "first" not in record:
        return [record]
    _require_columns(record, ("prompt", "first", "second", "preferred"))
    rest = {n: x for n, x in record.items() if n not in ("first", "second", "preferred")}
    first = bool(record["preferred"])
    return [
        {**rest, "completion": record["first"], "desirable": first},
        {**rest, "completion": record["second"], "desirable": not first},
    ]


def _row(
    record: FeedbackRow, completions: dict[str, Any], excluded: Sequence[str]
) -> dict[str, Any]:
    """A row: the prompt, the completions in its format, and the other columns of the record."""
    prompt = record["prompt"]
    if not isinstance(prompt, str):
        completions = {
            name: [{"role": "assistant", "content": text}] if isinstance(text, str) else text
            for name, text in completions.items()
        }
        prompt = list(prompt)
    excluded = ("prompt", "completion", *excluded)
    rest = {name: value for name, value in record.items() if name not in excluded}
    return {"prompt": prompt, **completions, **rest}


def _require_columns(record: FeedbackRow, columns: Sequence[str]) -> None:
    for name in columns:
        if record.get(name) is None:
            raise UserError(
                f"a record needs {name!r}{did_you_mean(name, record)}", code="missing", path=name
            )


def _dataset(
    records: FeedbackRows, columns: Sequence[str], row: Callable[[FeedbackRow], dict[str, Any]]
) -> Any:
    """A data set of these records, which must have these columns."""
    if isinstance(records, FeedbackBatch):
        raise UserError(
            "a batch needs the texts of its samples: BatchTexts(prompts, completions)",
            code="missing",
            path="texts",
        )
    if not records:
        raise UserError("a data set needs at least one record", code="missing", path="records")
    for record in records:
        _require_columns(record, columns)
    if len({isinstance(record["prompt"], str) for record in records}) > 1:
        raise UserError(
            "prompts of one data set must be all text, or all conversations",
            code="conflict",
            path="prompt",
        )
    return import_optional("datasets").Dataset.from_list([row(record) for record in records])
