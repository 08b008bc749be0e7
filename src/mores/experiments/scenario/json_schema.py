"""JSON schema of scenario files: `python -m mores.experiments.scenario.json_schema` writes it.

Editors with a YAML language server complete and check a file that begins with
`# yaml-language-server: $schema=./schema.json`.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from mores.experiments.scenario.specification import Scenario

SCHEMA_FILE = Path(str(resources.files("mores") / "scenarios")) / "schema.json"


def scenario_json_schema() -> str:
    """The schema as JSON text."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mores scenario"}
    schema = Scenario.model_json_schema(by_alias=True, mode="validation")
    return json.dumps({**head, **schema, **head}, indent=2) + "\n"


def write_json_schema() -> None:
    """Write the schema beside the scenarios."""
    SCHEMA_FILE.write_text(scenario_json_schema(), encoding="utf-8")


if __name__ == "__main__":
    write_json_schema()
