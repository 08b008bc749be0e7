"""Questions from files of the user: YAML and CSV, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mores.agents.people.polis_export import read_conversation
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


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("options: [fewer,", "options: [2026-01-01,", "wrong_type"),
        ("text: Should", "text: !!binary Should", "wrong_type"),
        ("options: [fewer, more]", "options: !!set {fewer, more}", "wrong_type"),
        ("options: [fewer, more]", "<<: {options: [fewer, more]}", "wrong_type"),
        ("ordered: false", "2026-01-01: false", "wrong_type"),
        ("ordered: false", "[a]: false", "wrong_type"),
        ("ordered: false", "ordered: !!bool x", "unreadable"),
        ("ordered: false", "ordered: false\n  ordered: true", "duplicate"),
        ("direction: -1", f"direction: {'1' * 5000}", "too_large"),
        ("scores: [0, 1, 0]", f"scores: [0, 1{'0' * 400}, 0]", "too_large"),
        ("scores: [0, 1, 0]", "scores: [0, .nan, 0]", "out_of_range"),
        ("text: Should", 'text: "a\\0b"\n  x: Should', "invalid_value"),
        ("text: Should", 'text: "a\\ud800b"\n  x: Should', "invalid_value"),
        ("text: Should", "text: a\0b Should", "unreadable"),
    ],
)
def test_data_that_no_question_has_are_refused(
    tmp_path: Path, old: str, new: str, code: str
) -> None:
    assert old in YAML
    with refused(code):
        questions(tmp_path, YAML.replace(old, new))


def test_a_control_character_in_a_csv_file_is_refused(tmp_path: Path) -> None:
    with refused("invalid_value", "path"):
        questions(tmp_path, CSV.replace("none", "no\0ne"), "questions.csv")


def test_questions_and_options_have_a_limit(tmp_path: Path) -> None:
    lines = [f"q{n},text,{o},I say {o}.,,," for n in range(1001) for o in "ab"]
    with refused("too_large", "path"):
        questions(tmp_path, "\n".join([CSV.split("\n")[0], *lines]), "questions.csv")
    lines = [f"q,text,{o},I say {o}.,,," for o in range(101)]
    with refused("too_large", "path"):
        questions(tmp_path, "\n".join([CSV.split("\n")[0], *lines]), "questions.csv")


def test_only_regular_files_of_limited_size_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with refused("unreadable", "path"):
        _ = QuestionFile(path=str(tmp_path / "pipe.yaml")).questions
    with refused("unreadable", "path"):
        _ = QuestionFile(path=str(tmp_path)).questions
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(2**40)  # sparse
    with refused("too_large", "path"):
        _ = QuestionFile(path=str(tmp_path / "huge.yaml")).questions
    for name in ("a\0b.yaml", "a\ud800.yaml", "a" * 5000):
        with refused("unreadable", "path"):
            _ = QuestionFile(path=name).questions


def test_a_comment_of_polis_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    comments = "comment-id,moderated,comment-body\n1,1,one\n2,1,two\n1,1,three\n"
    (tmp_path / "comments.csv").write_text(comments)
    with refused("duplicate", "comment-id"):
        read_conversation(str(tmp_path), 100)
