"""Questions from files of the user: YAML and CSV, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mores.agents.people.questions.question_file import QuestionFile
from mores.core.survey_questions import Question
from tests.refusals import refused

YAML = """\
- name: parks
  text: Should the city have more parks?
  options: [fewer, more]
  statements: [There should be fewer parks., There should be more parks.]
- name: trams
  text: How many trams?
  options: [none, some, many]
  statements: [I want none., I want some., I want many.]
  ordered: false
  scores: [0, 1, 0]
  direction: -1
"""
CSV = """\
name,text,option,statement,score,ordered,direction
parks,Should the city have more parks?,fewer,There should be fewer parks.,,,
parks,,more,There should be more parks.,,,
trams,How many trams?,none,I want none.,0,no,-1
trams,,some,I want some.,1,,
trams,,many,I want many.,0,,
"""


def questions(folder: Path, text: str, name: str = "questions.yaml") -> tuple[Question, ...]:
    file = folder / name
    file.write_text(text)
    return QuestionFile(path=str(file)).questions


def test_both_formats_give_the_same_questions(tmp_path: Path) -> None:
    found = questions(tmp_path, YAML)
    assert found == questions(tmp_path, CSV, "questions.csv")
    assert found[0].option_scores == (0.0, 1.0) and found[0].direction == 1
    assert found[1].option_scores == (0.0, 1.0, 0.0) and not found[1].ordered


@pytest.mark.parametrize(
    ("old", "new", "code", "path"),
    [
        ("options: [fewer, more]", "options: [fewer]", "missing", "parks"),
        ("statements: [There should be fewer parks.,", "statements: [", "wrong_shape", "parks"),
        ("direction: -1", "direction: 2", "invalid_value", "trams"),
        ("ordered: false", "ordered: perhaps", "invalid_value", "path"),
        ("ordered: false", "order: false", "invalid_value", "path"),
        ("name: trams", "name: parks", "duplicate", "names"),
        ("scores: [0, 1, 0]", "scores: [0, 2, 0]", "out_of_range", "trams"),
        ("scores: [0, 1, 0]", "scores: [1, 1, 1]", "conflict", "trams"),
        ("- name: parks", "- &a name: *a", "unreadable", "path"),
        ("- name: parks", "}", "unreadable", "path"),
    ],
)
def test_a_bad_yaml_file_is_refused(
    tmp_path: Path, old: str, new: str, code: str, path: str
) -> None:
    assert old in YAML
    with refused(code, path):
        questions(tmp_path, YAML.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("name,text", "id,text", "wrong_shape"),
        ("trams,,some", "trams,some", "wrong_shape"),
        ("0,no,-1", "0,perhaps,-1", "invalid_value"),
        ("I want some.,1", "I want some.,one", "wrong_type"),
        ("parks,,more", 'parks,,"more', "unreadable"),
    ],
)
def test_a_bad_csv_file_is_refused(tmp_path: Path, old: str, new: str, code: str) -> None:
    with refused(code, "path"):
        questions(tmp_path, CSV.replace(old, new), "questions.csv")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with refused("unreadable", "path"):
        _ = QuestionFile(path=str(tmp_path / "none.yaml")).questions
