"""Respondents of CSV files: coding, sampling, and files that are damaged, hostile or unusual."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mores.agents.people import survey_csv
from mores.agents.people.survey_csv import SurveyCsvPopulation
from mores.core.data_file import check_digest
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.registry import make_population
from tests.refusals import check_message, refused

POLIS = Path(__file__).resolve().parents[3] / "shared/data/polis"
SURVEY = """\
id,wave,care,trust,age,party,w
a,1,1,4,30,left,1
b,1,5,0,41.5,right,3

c,1,3,2,-9,left,0
d,1,,1,22,"right, far",2
a,2,2,3,31,left,1
"""
COLUMNS = {"care": {"low": 1, "high": 5}, "trust": {"low": 4, "high": 0}}
FIRST_WAVE = {"where": {"wave": 1}, "id": "id", "missing_codes": ("", "-9")}


def write(folder: Path, content: str | bytes, name: str = "survey.csv") -> str:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def survey(path: str, **parameters: Any) -> SurveyCsvPopulation:
    made = make_population("survey_csv", path=path, **{"values": COLUMNS, **parameters})
    assert isinstance(made, SurveyCsvPopulation)
    return made


def sample(population: SurveyCsvPopulation, worlds: int = 1) -> People:
    return population.sample_people(RandomStreams.of(3, worlds))


def in_order(people: People, tensor: torch.Tensor) -> list[float]:
    """A quantity of the people of the first world in the order of the file."""
    return tensor[0, people.traits["respondent"][0].argsort()].tolist()


# --- coding ---------------------------------------------------------------------------------------


def test_answers_traits_and_groups_are_those_of_the_file(tmp_path) -> None:
    path = write(tmp_path, SURVEY)
    population = survey(path, traits=("age",), group="party", **FIRST_WAVE)
    people = sample(population)
    assert population.value_names == ("care", "trust")
    assert population.group_names == people.group_names == ("left", "right")
    assert population.environment_parameters() == {
        "num_people": 2,
        "num_values": 2,
        "num_groups": 2,
    }
    assert (population.num_dropped, len(population.remarks)) == (2, 2)
    assert in_order(people, people.values) == [[-1, -1], [1, 1]]  # trust is reversed
    assert in_order(people, people.traits["age"]) == [30, 41.5]
    assert people.groups is not None and in_order(people, people.groups) == [0, 1]
    wide = survey(path, values={"care": {"low": 1, "high": 5, "value_range": (0, 10)}}, id="id",
                  where={"wave": "2"})  # fmt: skip
    assert sample(wide).values.flatten().tolist() == [2.5] and len(wide.remarks) == 1


def test_rules_of_missing_answers(tmp_path) -> None:
    path = write(tmp_path, SURVEY)
    people = sample(survey(path, missing="mean", traits=("age",), **FIRST_WAVE))
    assert in_order(people, people.values)[3] == [pytest.approx(0), 0.5]  # the mean of 1, 5 and 3
    assert in_order(people, people.traits["age"])[2] == pytest.approx((30 + 41.5 + 22) / 3)
    with refused("missing", "survey_csv.values.care"):
        survey(path, missing="refuse", **FIRST_WAVE)
    gap = write(tmp_path, SURVEY.replace("left,0", ",0"), "gap.csv")
    with refused("missing", "survey_csv.group"):
        survey(gap, missing="mean", group="party", **FIRST_WAVE)
    with refused("missing", "survey_csv.path"):  # nobody has all answers
        survey(write(tmp_path, "a,b\n1,\n,1\n", "none.csv"),
               values={n: {"low": 0, "high": 1} for n in "ab"})  # fmt: skip


@pytest.mark.parametrize("rows", ["a,1 ,1 b,1", "a, b,1 c,1", "a, ,1 b,1"])
def test_the_remark_says_what_is_lacking(tmp_path, rows: str) -> None:
    path = write(tmp_path, "id,v\n" + rows.replace(" ", "\n"))
    remarks = survey(path, values={"v": {"low": 0, "high": 1}}, id="id", shuffle=False).remarks
    check_message(" ".join(remarks).replace(path, "survey.csv"))


def test_labels_of_groups(tmp_path) -> None:
    cells = "\n".join(f"1,{group}" for group in (10, 9, "2.0", 2, "x"))
    path = write(tmp_path, f"v,g\n{cells}\n")
    scale = {"v": {"low": 0, "high": 1}}
    population = survey(path, values=scale, group="g", group_labels=None)
    assert population.group_names == ("g 2", "g 9", "g 10", "x")
    labels = {"x": "other", "2": "low", "9": "high", "10": "high", "11": "nobody"}
    merged = survey(path, values=scale, group="g", group_labels=labels)
    people = sample(merged)
    assert merged.group_names == ("other", "low", "high")
    assert people.groups is not None and in_order(people, people.groups) == [2, 2, 1, 1, 0]
    with refused("unknown_name", "survey_csv.group"):
        survey(path, values=scale, group="g", group_labels={"2": "low"})


def test_labels_that_a_float_does_not_hold_are_different_groups(tmp_path) -> None:
    """Two codes of 16 digits were one group, and its name was that of a rounded number."""
    cells = ("9007199254740992", "9007199254740993", "1e400", "2.0", "2")
    path = write(tmp_path, "v,g\n" + "".join(f"1,{cell}\n" for cell in cells))
    population = survey(path, values={"v": {"low": 0, "high": 1}}, group="g")
    assert sorted(population.group_names) == [f"g {x}" for x in ("1e400", "2", *cells[:2])]


def test_respondents_are_drawn_in_proportion_to_their_weights(tmp_path) -> None:
    path = write(tmp_path, SURVEY)
    given = {"values": {"trust": COLUMNS["trust"]}, "where": {"wave": 1}, "weight": "w"}
    population = survey(path, resample=True, num_people=100, **given)
    rows = sample(population, 400).traits["respondent"].long().flatten()
    shares = torch.bincount(rows, minlength=4) / len(rows)
    expected = torch.tensor([1, 3, 0, 2]) / 6
    # 40000 draws: five standard errors of a share of .5
    assert torch.allclose(shares, expected, atol=5 * 0.5 / len(rows) ** 0.5)
    assert shares[2] == 0
    with refused("conflict", "survey_csv.weight"):
        survey(path, **given)


def test_worlds_replay_alone_and_jitter_stays_in_range(tmp_path) -> None:
    path = write(tmp_path, SURVEY)
    given: dict[str, Any] = {"jitter": 1.0, "where": {"wave": 1}, "num_people": 3}
    for resample in (False, True):
        population = survey(path, resample=resample, **given)
        batch = sample(population, 64)
        alone = population.sample_people(RandomStreams.of(3, [37]))
        assert torch.equal(batch.values[37], alone.values[0])
        plain = sample(survey(path, resample=resample, **{**given, "jitter": 0.0}), 64).values
        moved = (batch.values - plain).abs()
        assert 0.2 < moved.max() <= 0.25 and batch.values.abs().max() <= 1  # options are .5 apart
    with refused("conflict", "survey_csv"):
        survey(path, **{**given, "num_people": 4})


# --- round trip -----------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
LABELS = TEXTS.map(str.strip).filter(lambda text: text not in ("", "NA"))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 7), st.floats(-1e6, 1e6, width=32), LABELS, TEXTS),
        min_size=1,
        max_size=12,
    ),
    delimiter=st.sampled_from([",", ";", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    decimal=st.sampled_from([".", ","]),
)
def test_a_written_survey_is_read_back(
    tmp_path_factory, rows, delimiter, encoding, newline, decimal
) -> None:
    """Every label is a group of its own; cells of unused columns may hold anything."""
    labels = {label: f"group {n}." for n, label in enumerate({row[2] for row in rows})}
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=newline)
    writer.writerow(["anything", "answer", "x", "label"])
    for answer, trait, label, text in rows:
        writer.writerow([text, answer, repr(trait).replace(".", decimal), label])
    path = write(tmp_path_factory.mktemp("csv"), file.getvalue().encode(encoding))
    population = survey(
        path,
        values={"answer": {"low": 1, "high": 7}},
        traits=("x",),
        group="label",
        group_labels=labels,
        decimal=decimal,
        encoding="utf-8" if encoding == "utf-8-sig" else encoding,
    )
    people = sample(population)
    expected = np.array([(answer - 4) / 3 for answer, *_ in rows])
    assert np.allclose(np.ravel(in_order(people, people.values)), expected, atol=1e-6)
    assert in_order(people, people.traits["x"]) == [np.float32(row[1]) for row in rows]
    assert people.groups is not None
    names = [people.group_names[int(n)] for n in in_order(people, people.groups)]
    assert names == [labels[row[2]] for row in rows]


@settings(max_examples=150, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=60),
        st.text('v,;"\n\r\t 1.5x\x00é', max_size=60).map(str.encode),
        st.text('v,;"\n\r\t 1.5x', max_size=40).map(lambda text: f"v,w\n{text}".encode()),
    )
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, data: bytes) -> None:
    from mores.core.errors import UserError

    path = write(tmp_path_factory.mktemp("csv"), data)
    try:
        population = survey(path, values={"v": {"low": 0, "high": 2}})
    except UserError as error:
        assert error.path in ("survey_csv.path", "survey_csv.values.v")
        assert str(error).count("\n") == 0 and path in str(error)
    else:
        assert sample(population).values.abs().max() <= 1


# --- files of other programs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "parameters"),
    [
        ("\ufeffv,w\n1,2\n", {}),
        ("v;w\n1;2,5\n", {"decimal": ","}),
        ('"v";"w, x"\n"1";"2"\n', {}),
        ("\n\n v , w\n\n 1 , 2\n ,\n", {}),
        ("v,w,w,\n1,2,3,\n", {}),  # repeated and empty names of columns that are not used
        ('w,v\n"two\nlines",1\n', {}),
        ("v,w\r1,2\r", {}),
        ("w,v\nGröße,1\n".encode("latin-1"), {"encoding": "latin-1"}),
        ("w,v\nGröße,1\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("v\n1.0\n", {}),
    ],
)
def test_files_of_other_programs(tmp_path, content: str | bytes, parameters: dict) -> None:
    path = write(tmp_path, content)
    population = survey(path, values={"v": {"low": 0, "high": 2}}, **parameters)
    assert sample(population).values.flatten().tolist() == [0]


@pytest.mark.parametrize(
    ("content", "code", "path"),
    [
        (None, "unreadable", "path"),
        ("", "unreadable", "path"),
        (",,\n1,2,3\n", "unreadable", "path"),
        ("w\nGröße\n".encode("latin-1"), "unreadable", "path"),
        (b"PK\x03\x04\xff\xfe\x00\x00", "unreadable", "path"),  # a spreadsheet
        ('v\n"1\n2\n', "unreadable", "path"),  # a quote that does not end
        ('v\n"1"2\n', "unreadable", "path"),
        ("v\n" + "9" * 200_000 + "\n", "too_large", "path"),
        ("v,w\n1\n", "wrong_shape", "path"),
        ("v,w\n1,2,3\n", "wrong_shape", "path"),
        ("v,w\n", "missing", "path"),
        ("w,Value\n1,2\n", "unknown_name", "values.v"),
        ("v,w,v\n1,2,3\n", "duplicate", "values.v"),
        ("v,w\n,1\nNA,1\n", "missing", "values.v"),  # an empty column
        ("v,w\n1,1\nabc,1\n", "wrong_type", "values.v"),
        ('v,w\n"1,5",1\n', "wrong_type", "values.v"),
        ("v,w\nnan,1\n", "wrong_type", "values.v"),
        ("v,w\n1_0,1\n", "wrong_type", "values.v"),
        ("v,w\n١,1\n", "wrong_type", "values.v"),
        ("v,w\n=1+1,1\n", "wrong_type", "values.v"),
        ("v,w\n1\x002,1\n", "wrong_type", "values.v"),
        ("v,w\n1,1\n-9,1\n", "out_of_range", "values.v"),
        ("v,w\n1e999,1\n", "out_of_range", "values.v"),
        ("v,w\n" + "1" * 130_000 + "x,1\n", "wrong_type", "values.v"),  # quick, also in this case
    ],
)
def test_files_that_are_refused(tmp_path, content, code: str, path: str) -> None:
    write(tmp_path, "v\n1\n", "surveys.csv")
    file = str(tmp_path / "survey.csv") if content is None else write(tmp_path, content)
    with refused(code, f"survey_csv.{path}"):
        survey(file, values={"v": {"low": 0, "high": 2}})


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"values": {}}, "wrong_shape", "values"),
        ({"values": {"1": {"low": 0, "high": 1}}}, "invalid_value", "values.1"),
        ({"values": {"a[0]": {"low": 0, "high": 1}}}, "invalid_value", "values.a[0]"),
        ({"values": {"care": {"low": 1, "high": 1}}}, "conflict", "values.care.high"),
        (
            {"values": {"care": {"low": 1, "high": 5, "value_range": (1, -1)}}},
            "invalid_value",
            "values.care.value_range",
        ),
        ({"traits": ("age", "age")}, "duplicate", "traits.1"),
        ({"traits": ("values",)}, "conflict", "traits.0"),
        ({"traits": ("party",)}, "wrong_type", "traits.0"),
        ({"group_labels": {"left": "l"}}, "missing", "group_labels"),
        ({"group": "party", "group_labels": {"left": "1"}}, "invalid_value", "group_labels.left"),
        ({"group": "partei"}, "unknown_name", "group"),
        ({"id": "id"}, "duplicate", "id"),
        ({"where": {"wave": 3}}, "missing", "where.wave"),
        ({"weight": "age", "resample": True}, "out_of_range", "weight"),
        ({"sha256": "0" * 64}, "incompatible", "sha256"),
        ({"encoding": "rot13"}, "invalid_value", "encoding"),
        ({"missing_codes": (10**400,)}, "out_of_range", "missing_codes.0"),
        ({"num_people": 10**12, "resample": True}, "out_of_range", "num_people"),
    ],
)
def test_wrong_parameters(tmp_path, parameters: dict, code: str, path: str) -> None:
    with refused(code, f"survey_csv.{path}"):
        survey(write(tmp_path, SURVEY), **parameters)


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop"])
def test_paths_that_are_no_files(tmp_path, kind: str) -> None:
    path = tmp_path / "survey.csv"
    make = {"pipe": os.mkfifo, "folder": Path.mkdir, "loop": lambda p: p.symlink_to(p)}
    make[kind](path)
    with refused("unreadable", "survey_csv.path"):
        survey(str(path))


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch) -> None:
    """The digest was that of one content, and the respondents those of the other."""
    path = write(tmp_path, SURVEY)

    def check_then_change(*arguments: Any) -> str | None:
        digest = check_digest(*arguments)
        write(tmp_path, SURVEY.replace("41.5", "42"))
        return digest

    monkeypatch.setattr(survey_csv, "check_digest", check_then_change)
    with refused("incompatible", "survey_csv.path"):
        survey(path, **FIRST_WAVE)


def test_a_hostile_label_is_refused_with_its_line(tmp_path) -> None:
    for label in ("\x1b[31mred", "<b>" * 40, "../../x"):
        path = write(tmp_path, f"v,g\n1,{label}\n")
        with refused("invalid_value", "survey_csv.group") as raised:
            survey(path, values={"v": {"low": 0, "high": 1}}, group="g")
        assert f"{path}:2" in str(raised.value) and str(raised.value).isprintable()


def test_a_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch) -> None:
    path = write(tmp_path, SURVEY)
    monkeypatch.setattr(survey_csv, "MAX_BYTES", 10)
    with refused("too_large", "survey_csv.path"):
        survey(path)


def test_a_changed_file_is_read_again_and_refused_by_its_digest(tmp_path) -> None:
    path = write(tmp_path, "v\n1\n")
    scale = {"v": {"low": 0, "high": 2}}
    digest = survey(path, values=scale).sha256
    write(tmp_path, "v\n2\n")
    assert sample(survey(path, values=scale)).values.flatten().tolist() == [1]
    with refused("incompatible", "survey_csv.sha256"):
        survey(path, values=scale, sha256=digest)


# --- real data ------------------------------------------------------------------------------------


@pytest.mark.skipif(not POLIS.is_dir(), reason="the data are not here")
@pytest.mark.parametrize(
    ("conversation", "comments"), [("vtaiwan.uberx", "37"), ("15-per-hour-seattle", "01")]
)
def test_votes_of_a_polis_conversation(conversation: str, comments: str) -> None:
    """Compared with pandas: the people who voted on both statements and belong to a group."""
    import pandas as pd

    path = POLIS / conversation / "participants-votes.csv"
    population = survey(
        str(path),
        values={f"statement {c}": {"column": c, "low": -1, "high": 1} for c in comments},
        traits=("n-votes",),
        group="group-id",
        id="participant",
    )
    table = pd.read_csv(path)
    kept = table.dropna(subset=[*comments, "group-id"])
    people = sample(population)
    assert in_order(people, people.values) == kept[[*comments]].to_numpy().tolist()
    assert in_order(people, people.traits["n-votes"]) == kept["n-votes"].tolist()
    assert people.groups is not None
    assert in_order(people, people.groups) == kept["group-id"].tolist()
    assert sorted(people.traits["respondent"][0].tolist()) == kept.index.tolist()
    assert population.num_dropped == len(table) - len(kept) > 0
