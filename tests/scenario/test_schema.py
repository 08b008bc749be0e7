"""The JSON schema and the reference pages are those of the code."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from mores.cli import reference_docs as command_line_docs
from mores.experiments.scenario.reference_docs import (
    SCHEMA_FILE,
    reference_markdown,
    scenario_json_schema,
)

COMMAND = "run python -m mores.experiments.scenario.reference_docs docs/reference"
FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def test_the_schema_on_disk_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == scenario_json_schema(), COMMAND


def test_the_schema_knows_the_keys_of_a_file() -> None:
    schema = json.loads(scenario_json_schema())
    assert {"construct", "env", "arms", "claims"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert {"type": "string"} in schema["properties"]["metrics"]["anyOf"]  # one name needs no list


def test_the_reference_on_disk_is_current() -> None:
    page = FOLDER / "scenario.md"
    assert page.read_text(encoding="utf-8") == reference_markdown(), COMMAND


@pytest.mark.skipif(
    Version(version("typer")) < Version("0.26"),
    reason="typer words it otherwise",
)
def test_the_reference_of_the_command_line_is_current() -> None:
    text = (FOLDER / "command_line.md").read_text(encoding="utf-8")
    command = "run python -m mores.cli.reference_docs docs/reference"
    assert text == command_line_docs.reference_markdown(), command
