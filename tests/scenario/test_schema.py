"""The schema that editors use, and the page that people read, are those of the model."""

from __future__ import annotations

import json
from pathlib import Path

from mores.experiments.scenario.json_schema import SCHEMA_FILE, scenario_json_schema
from mores.experiments.scenario.reference_docs import reference_markdown

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "scenario.md"


def test_the_schema_on_disk_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == scenario_json_schema(), (
        "run python -m mores.experiments.scenario.json_schema"
    )


def test_the_schema_knows_the_keys_of_a_file() -> None:
    made = json.loads(scenario_json_schema())
    assert {"construct", "env", "arms", "claims"} <= set(made["properties"])
    assert made["additionalProperties"] is False
    assert {"type": "string"} in made["properties"]["measures"]["anyOf"]  # one name will do


def test_the_reference_on_disk_is_current() -> None:
    made = "run python -m mores.experiments.scenario.reference_docs docs/reference"
    assert PAGE.read_text(encoding="utf-8") == reference_markdown(), made
