"""Questions from a file of the user: YAML, or CSV with one line for each option.

YAML: a list of mappings with the fields of `mores.core.survey_questions.Question`:

    - name: parks
      text: Should the city have more parks?
      options: [fewer parks, more parks]
      statements: [The city should have fewer parks., The city should have more parks.]

CSV: columns `name`, `text`, `option`, `statement`, and if wanted `paraphrase`, `score`, `ordered`
(yes or no) and `direction` (1 or -1). Lines with the same name are the options of one question, in
order; its text, `ordered` and `direction` are those of its first line.

A file has at most 2,000,000 bytes, 1,000 questions and 100 options a question. YAML values are
texts, numbers, true or false, lists and mappings; no dates, sets or bytes, and no key twice.
"""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from mores.core.errors import UserError, printable
from mores.core.survey_questions import Question, QuestionSet

MAX_BYTES = 2_000_000
MAX_QUESTIONS = 1000
MAX_OPTIONS = 100  # of a question
MAX_DIGITS = 40  # of a number
# An explicit tag of another value, such as `!!bool x`, raises errors of several kinds.
_NOT_YAML = (yaml.YAMLError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError)
_PLAIN = re.compile(r"tag:yaml\.org,2002:(str|int|float|bool|null|seq|map)")
_NO_TEXT = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # no character of a text
REQUIRED = ("name", "text", "option", "statement")
OPTIONAL = ("paraphrase", "score", "ordered", "direction")
ORDERED = {"": True, "yes": True, "no": False}
DIRECTIONS = {"": 1, "1": 1, "-1": -1}


@dataclass(config=ConfigDict(extra="forbid", strict=True))
class _Entry:
    """A question of a YAML file."""

    name: str
    text: str
    options: list[str]
    statements: list[str]
    paraphrases: list[str] = Field(default_factory=list)
    ordered: bool = True
    scores: list[float] = Field(default_factory=list)
    direction: int = 1

    def question(self) -> Question:
        """The question, checked."""
        return Question(
            self.name,
            self.text,
            tuple(self.options),
            tuple(self.statements),
            tuple(self.paraphrases),
            self.ordered,
            tuple(self.scores),
            self.direction,
        )


class _Refused(yaml.YAMLError):
    """Something in a YAML file that no question has."""

    def __init__(self, node: yaml.Node, field: Any, message: str, code: str) -> None:
        name = f"{field.value}: " if isinstance(field, yaml.ScalarNode) else ""
        line = node.start_mark.line + 1
        super().__init__(f"{line}: {printable(name, 60)}{message}")
        self.code = code


class _PlainLoader(yaml.SafeLoader):
    """YAML of plain data, without aliases, which can expand a small file without limit."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        node = super().compose_node(parent, index)
        assert node is not None
        if not _PLAIN.fullmatch(node.tag):
            kind = printable(node.tag.removeprefix("tag:yaml.org,2002:"), 40)
            message = f"is of the type {kind}: only texts, numbers, true, false, lists and mappings"
            raise _Refused(node, index, message, "wrong_type")
        if isinstance(node, yaml.ScalarNode):
            if _NO_TEXT.search(node.value):
                raise _Refused(node, index, "has a control character", "invalid_value")
            is_number = node.tag.endswith((":int", ":float"))
            if is_number and len(node.value) > MAX_DIGITS:
                message = f"is a number of more than {MAX_DIGITS} characters"
                raise _Refused(node, index, message, "too_large")
        if isinstance(node, yaml.MappingNode):
            known: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str"):
                    raise _Refused(key, None, "a key must be a text", "wrong_type")
                if key.value in known:
                    message = f"the key {printable(key.value, 40)!r} is given twice"
                    raise _Refused(key, None, message, "duplicate")
                known.add(key.value)
        return node


class QuestionFile(QuestionSet):
    """Questions from a YAML or CSV file: see the module docstring."""

    path: str = Field(description="file of questions, .yaml, .yml or .csv")

    def all_questions(self) -> tuple[Question, ...]:
        """The questions of the file.

        Raises:
            UserError: the file cannot be read, or a question is not valid.
        """
        shown = printable(self.path, 200)
        text = _read_text(self.path, shown)
        is_csv = self.path.lower().endswith(".csv")
        entries = _csv_entries(text, shown) if is_csv else _yaml_entries(text, shown)
        try:
            checked = TypeAdapter(list[_Entry]).validate_json(json.dumps(entries))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            message = f"{shown}: {printable(where, 80)}: {printable(first['msg'], 200)}"
            raise UserError(message, code="invalid_value", path="path") from None
        if not checked:
            raise UserError(f"{shown}: has no questions", code="missing", path="path")
        if len(checked) > MAX_QUESTIONS:
            message = (
                f"{shown}: has {len(checked):,} questions; at most {MAX_QUESTIONS:,} are allowed"
            )
            raise UserError(message, code="too_large", path="path")
        for entry in checked:
            if len(entry.options) > MAX_OPTIONS:
                message = f"{shown}: question {printable(entry.name, 60)!r}: has "
                message += f"{len(entry.options):,} options; at most {MAX_OPTIONS} are allowed"
                raise UserError(message, code="too_large", path="path")
        return tuple(entry.question() for entry in checked)


def _read_text(path: str, shown: str) -> str:
    """Text of a file, whose kind and size are checked before it is opened."""
    try:
        file = Path(path)
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            message = f"{shown}: is not a regular file"
            raise UserError(message, code="unreadable", path="path")
        data = b""
        if found.st_size <= MAX_BYTES:
            with file.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
        if max(found.st_size, len(data)) > MAX_BYTES:
            message = f"{shown}: has more than {MAX_BYTES:,} bytes"
            raise UserError(message, code="too_large", path="path")
        return data.decode("utf-8-sig")
    except OSError as error:
        message = f"cannot read {shown}: {error.strerror}"
        raise UserError(message, code="unreadable", path="path") from None
    except UnicodeDecodeError:
        message = f"{shown}: is not utf-8 text"
        raise UserError(message, code="unreadable", path="path") from None
    except ValueError:
        message = f"cannot read {shown}: no file has such a name"
        raise UserError(message, code="unreadable", path="path") from None


def _yaml_entries(text: str, shown: str) -> Any:
    """Data of a YAML file."""
    try:
        return yaml.load(text, _PlainLoader)  # a subclass of SafeLoader
    except _Refused as error:
        raise UserError(f"{shown}:{error}", code=error.code, path="path") from None
    except _NOT_YAML as error:
        message = f"{shown}: is not valid YAML: {printable(str(error), 200)}"
        raise UserError(message, code="unreadable", path="path") from None


def _coded(row: dict[str, Any], column: str, codes: dict[str, Any], shown: str) -> Any:
    """What the code in a cell stands for."""
    cell = row.get(column, "").strip()
    if cell not in codes:
        message = f"{shown}: {column}: {printable(cell, 40)!r} is not among "
        message += ", ".join(filter(None, codes))
        raise UserError(message, code="invalid_value", path="path")
    return codes[cell]


def _csv_entries(text: str, shown: str) -> list[dict[str, Any]]:
    """Questions of a CSV file, as data of a YAML file."""
    if control := _NO_TEXT.search(text):
        line = text.count("\n", 0, control.start()) + 1
        message = f"{shown}:{line}: has a control character, {printable(control[0])}"
        raise UserError(message, code="invalid_value", path="path")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows, header = list(reader), list(reader.fieldnames or ())
    except csv.Error as error:
        message = f"{shown}: is damaged: {printable(str(error), 100)}"
        raise UserError(message, code="unreadable", path="path") from None
    known = (*REQUIRED, *OPTIONAL)
    absent = [name for name in REQUIRED if name not in header]
    if absent or any(name not in known for name in header) or len(set(header)) < len(header):
        message = f"{shown}:1: the columns must be {', '.join(REQUIRED)}, and if wanted "
        raise UserError(f"{message}{', '.join(OPTIONAL)}", code="wrong_shape", path="path")
    entries: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            message = f"{shown}: question line {number - 1}: another number of cells than the names"
            raise UserError(message, code="wrong_shape", path="path")
        entry = entries.get(row["name"])
        if entry is None:
            entry = {"name": row["name"], "text": row["text"], "options": [], "statements": []}
            entry["ordered"] = _coded(row, "ordered", ORDERED, shown)
            entry["direction"] = _coded(row, "direction", DIRECTIONS, shown)
            entries[row["name"]] = entry
        entry["options"].append(row["option"])
        entry["statements"].append(row["statement"])
        if row.get("paraphrase"):
            entry.setdefault("paraphrases", []).append(row["paraphrase"])
        if row.get("score"):
            try:
                entry.setdefault("scores", []).append(float(row["score"]))
            except ValueError:
                message = f"{shown}: {printable(row['score'], 40)!r} is no score"
                raise UserError(message, code="wrong_type", path="path") from None
    return list(entries.values())
