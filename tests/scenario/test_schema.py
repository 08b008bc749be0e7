"""The JSON schema and the reference page are those of the models."""

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
    schema = json.loads(scenario_json_schema())
    assert {"construct", "env", "arms", "claims"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert {"type": "string"} in schema["properties"]["metrics"]["anyOf"]  # one name needs no list


def test_the_reference_on_disk_is_current() -> None:
    command = "run python -m mores.experiments.scenario.reference_docs docs/reference"
    assert PAGE.read_text(encoding="utf-8") == reference_markdown(), command
