"""People are the rows of the user's own file, in its order; an answer that is missing is reported.

Reports about peers: agents with the attributes of a CSV file, which examples draw at random,
https://github.com/mesa/mesa/issues/598; missing data in a scenario's file,
https://github.com/nismod/smif/issues/377
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import mores
from mores.core.random_streams import RandomStreams
from tests.refusals import refused

ROWS = "care,freedom,age\n5,2,34\n2,4,51\n1,5,60\n"


def population(folder: Path, text: str, **parameters: Any) -> Any:
    file = folder / "people.csv"
    file.write_text(text)
    scale = {"low": 1, "high": 5}
    parameters = {"values": {"care": scale, "freedom": scale}, "traits": ["age"], **parameters}
    return mores.make_population("survey_csv", path=str(file), **parameters)


def test_people_are_the_rows(tmp_path: Path) -> None:
    """Each row once in every world; the trait `respondent` says which row a person is."""
    people = population(tmp_path, ROWS).sample_people(RandomStreams.of(0, 2))
    expected = torch.tensor([[1.0, -0.5], [-0.5, 0.5], [-1.0, 1.0]])  # 1 to 5 becomes -1 to 1
    rows = people.traits["respondent"].long()
    assert rows.sort(1).values.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert torch.equal(people.values, expected[rows])
    assert torch.equal(people.traits["age"], torch.tensor([34.0, 51.0, 60.0])[rows])


def test_missing_answer_is_no_number_in_silence(tmp_path: Path) -> None:
    """Its line and column are named, or the respondent is left out."""
    text = ROWS.replace("2,4,51", "2,,51")
    with refused("missing", path="survey_csv.values.freedom"):
        population(tmp_path, text, missing="refuse")
    left = population(tmp_path, text).sample_people(RandomStreams.of(0, 1))
    assert sorted(left.traits["age"][0].tolist()) == [34, 60]
    assert bool(torch.isfinite(left.values).all())
