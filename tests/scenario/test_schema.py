"""The JSON schema and the reference page are those of the models."""

from __future__ import annotations

import json
from pathlib import Path

from mores.experiments.scenario.reference_docs import (
    SCHEMA_FILE,
    reference_markdown,
    scenario_json_schema,
)

COMMAND = "run python -m mores.experiments.scenario.reference_docs docs/reference"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "scenario.md"


def test_the_schema_on_disk_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == scenario_json_schema(), COMMAND


def test_the_schema_knows_the_keys_of_a_file() -> None:
    schema = json.loads(scenario_json_schema())
    assert {"construct", "env", "arms", "claims"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert {"type": "string"} in schema["properties"]["metrics"]["anyOf"]  # one name needs no list


def test_the_reference_on_disk_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference_markdown(), COMMAND
