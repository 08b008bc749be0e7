"""What people prefer, as data sets for TRL's trainers.

| function | trainer | columns |
|---|---|---|
| `to_trl_preference` | DPOTrainer, RewardTrainer | prompt, chosen, rejected |
| `to_trl_unpaired` | KTOTrainer | prompt, completion, label |
| `to_trl_sft` | SFTTrainer | prompt, completion |
| `to_trl_prompt_only` | GRPOTrainer, RLOOTrainer | prompt |

They take records, mappings with `prompt` and `completion` (and `desirable`, `reference`), or
`first`, `second` and `preferred` (and what else is known of the pair); or a `FeedbackBatch` with
the texts of its samples. Columns that records have besides go along, so that reward functions hear
of them. Where prompts are conversations, completions become what the assistant says.
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
    """The texts of a batch's samples: what was asked, and what was answered."""

    prompts: Sequence[Prompt]
    completions: Sequence[str]


def to_trl_preference(
    records: FeedbackRows, texts: BatchTexts | None = None, model_index: int = 0
) -> Any:
    """Pairs for `DPOTrainer`: the better answer of each is `chosen`.

    Args:
        records: with `prompt`, `first`, `second`, `preferred` (whether the first won); or a batch.
        texts: of the batch's samples.
        model_index: whose samples of the batch.

    Raises:
        UserError: something is missing or unknown.
    """

    def row(record: FeedbackRow) -> dict[str, Any]:
        won, lost = ("first", "second") if record["preferred"] else ("second", "first")
        answers = {"chosen": record[won], "rejected": record[lost]}
        return _row(record, answers, ("first", "second", "preferred"))

    pairs = records if texts is None else pair_records(records, texts, model_index)
    return _dataset(pairs, ("prompt", "first", "second", "preferred"), row)


def to_trl_unpaired(
    records: FeedbackRows, texts: BatchTexts | None = None, model_index: int = 0
) -> Any:
    """Single answers for `KTOTrainer`, each wanted or not.

    Args:
        records: with `prompt`, `completion` and `desirable`, or pairs, whose answers are then taken
            one by one; or a batch.
        texts: of the batch's samples.
        model_index: whose samples of the batch.

    Raises:
        UserError: something is missing or unknown.
    """

    def row(record: FeedbackRow) -> dict[str, Any]:
        answer = {"completion": record["completion"], "label": bool(record["desirable"])}
        return _row(record, answer, ("desirable",))

    if texts is not None or isinstance(records, FeedbackBatch):
        single: Sequence[FeedbackRow] = sample_records(records, texts, model_index)
    else:
        single = [one for record in records for one in _unpair(record)]
    return _dataset(single, ("prompt", "completion", "desirable"), row)


def to_trl_sft(records: FeedbackRows, texts: BatchTexts | None = None, model_index: int = 0) -> Any:
    """Answers to imitate, for `SFTTrainer`.

    Records that say `reference` or `desirable` are taken where they are; all others are.

    Args:
        records: with `prompt` and `completion`; or a batch.
        texts: of the batch's samples.
        model_index: whose samples of the batch.

    Raises:
        UserError: something is missing or unknown, or nothing is left to imitate.
    """

    def row(record: FeedbackRow) -> dict[str, Any]:
        return _row(record, {"completion": record["completion"]}, ("desirable", "reference"))

    single = records if texts is None else sample_records(records, texts, model_index)
    if isinstance(single, FeedbackBatch):
        raise UserError(
            "a batch needs the texts of its samples: Texts(prompts, completions)",
            code="missing",
            path="texts",
        )
    wanted = [r for r in single if r.get("reference", True) and r.get("desirable", True)]
    return _dataset(wanted, ("prompt", "completion"), row)


def to_trl_prompt_only(
    records: FeedbackRows, texts: BatchTexts | None = None, model_index: int = 0
) -> Any:
    """What was asked, for trainers that let the model answer; the same prompt comes once.

    Args:
        records: with `prompt`; or a batch.
        texts: of the batch's samples.
        model_index: whose samples of the batch.

    Raises:
        UserError: something is missing or unknown.
    """
    answers = ("completion", "first", "second", "preferred", "desirable", "reference")

    def row(record: FeedbackRow) -> dict[str, Any]:
        return _row(record, {}, answers)

    single = records if texts is None else sample_records(records, texts, model_index)
    if isinstance(single, FeedbackBatch):
        raise UserError(
            "a batch needs the texts of its samples: Texts(prompts, completions)",
            code="missing",
            path="texts",
        )
    once = {str(record.get("prompt")): record for record in reversed(single)}
    return _dataset(list(reversed(once.values())), ("prompt",), row)


# --- batches --------------------------------------------------------------------------------------


def pair_records(batch: FeedbackRows, texts: BatchTexts, model_index: int = 0) -> list[FeedbackRow]:
    """The pairs of a batch as records, with what it knows of each pair.

    Raises:
        UserError: the texts are not those of the batch, or nobody won.
    """
    batch = _check_batch(batch, texts, model_index)
    contest = pair_indices(batch, "data of preferences")
    records = []
    places = zip(*(part[model_index].tolist() for part in contest), strict=True)
    for number, (won, lost, real) in enumerate(places):
        if not real:
            continue
        record = {"prompt": texts.prompts[won], "first": texts.completions[won]}
        record |= {"second": texts.completions[lost], "preferred": True}
        records.append(record | _known_fields(batch, "pair", model_index, number))
    return records


def sample_records(
    batch: FeedbackRows, texts: BatchTexts | None, model_index: int = 0
) -> list[FeedbackRow]:
    """The samples of a batch as records, with what it knows of each sample.

    Raises:
        UserError: the texts are not those of the batch.
    """
    batch = _check_batch(batch, texts, model_index)
    assert texts is not None
    both = zip(texts.prompts, texts.completions, strict=True)
    return [
        {
            "prompt": prompt,
            "completion": completion,
            **_known_fields(batch, "sample", model_index, i),
        }
        for i, (prompt, completion) in enumerate(both)
    ]


def _check_batch(batch: FeedbackRows, texts: BatchTexts | None, model_index: int) -> FeedbackBatch:
    if not isinstance(batch, FeedbackBatch):
        raise UserError(
            "texts go with a batch; records have their own", code="conflict", path="texts"
        )
    if texts is None:
        raise UserError(
            "a batch needs the texts of its samples: Texts(prompts, completions)",
            code="missing",
            path="texts",
        )
    if not 0 <= model_index < batch.num_models:
        raise UserError(
            f"the batch has policies 0 to {batch.num_models - 1}, not {model_index}",
            code="out_of_range",
            path="policy",
        )
    for name, given in texts._asdict().items():
        if len(given) != batch.num_samples:
            raise UserError(
                f"{len(given)} {name} for {batch.num_samples} samples of the batch",
                code="wrong_shape",
                path=f"texts.{name}",
            )
    return batch


def _known_fields(
    batch: FeedbackBatch, entity: str, model_index: int, number: int
) -> dict[str, Any]:
    """What a batch knows of one pair or one sample, beyond who won: plain numbers and lists."""
    found = {}
    for name, kind in FIELD_SPECS.items():
        value = getattr(batch, name)
        if value is None or kind.entity != entity or name == "preferred":
            continue
        if not kind.trailing_dims or kind.trailing_dims == ("principal",):
            found[name] = value[model_index, number].tolist()
    return found


# --- rows -----------------------------------------------------------------------------------------


def _unpair(record: FeedbackRow) -> list[FeedbackRow]:
    """A record of one answer, or the two answers of a pair."""
    if "first" not in record:
        return [record]
    _require_columns(record, ("prompt", "first", "second", "preferred"))
    rest = {n: x for n, x in record.items() if n not in ("first", "second", "preferred")}
    won = bool(record["preferred"])
    return [
        {**rest, "completion": record["first"], "desirable": won},
        {**rest, "completion": record["second"], "desirable": not won},
    ]


def _row(
    record: FeedbackRow, completions: dict[str, Any], excluded: Sequence[str]
) -> dict[str, Any]:
    """A row: the prompt, the answers in the prompt's form, and whatever else the record says."""
    prompt = record["prompt"]
    if not isinstance(prompt, str):
        completions = {
            name: [{"role": "assistant", "content": said}] if isinstance(said, str) else said
            for name, said in completions.items()
        }
        prompt = list(prompt)
    taken = {"prompt", "completion", *excluded}
    rest = {name: value for name, value in record.items() if name not in taken}
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
    """A data set of these records, which must have these names."""
    if isinstance(records, FeedbackBatch):
        raise UserError(
            "a batch needs the texts of its samples: Texts(prompts, completions)",
            code="missing",
            path="texts",
        )
    if not records:
        raise UserError("there is no record to make data of", code="missing", path="records")
    for record in records:
        _require_columns(record, columns)
    if len({isinstance(record["prompt"], str) for record in records}) > 1:
        raise UserError(
            "prompts of one data set are all text, or all conversations",
            code="conflict",
            path="prompt",
        )
    return import_optional("datasets").Dataset.from_list([row(record) for record in records])
