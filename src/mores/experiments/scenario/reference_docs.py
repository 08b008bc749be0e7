"""Reference page and JSON schema of scenario files, from the pydantic models that check them.

`python -m mores.experiments.scenario.reference_docs DIR` writes the page to a folder, and the
schema beside the scenarios. Editors with a YAML language server complete and check a file that
begins with `# yaml-language-server: $schema=./schema.json`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from pydantic import BaseModel

from mores.experiments.scenario.field_descriptions import describe_field
from mores.experiments.scenario.recording import TrajectoryOptions
from mores.experiments.scenario.specification import Bound, Claim, Scenario, StatedBelief
from mores.experiments.scenario.stages import Calibration, Sensitivity, Stage, Target, Uncertainty
from mores.registry.tables import SCENARIO_FOLDER

SCHEMA_FILE = SCENARIO_FOLDER / "schema.json"
HEAD = """\
# Scenario files

A scenario is an experiment in a YAML file. It is data: nothing in it is evaluated or imported.
`mores check FILE` checks every key and prints one line for each error, with its location and the
nearest valid name. Parameters of environments, policies and populations stand beside their `kind`;
`mores describe NAME` lists them. Editors with a YAML language server complete a file that begins
with `# yaml-language-server: $schema=./schema.json`.

This page is generated from the code that checks the files.
"""
TITLES: dict[type[BaseModel], str] = {
    Scenario: "The file",
    Claim: "An entry of `claims`",
    Bound: "`bound`",
    StatedBelief: "`stated_belief`, in an entry of `claims`",
    TrajectoryOptions: "`trajectory`",
    Stage: "An entry of `stages`",
    Uncertainty: "`uncertainty`",
    Sensitivity: "`sensitivity`, under `uncertainty`",
    Calibration: "`calibration`",
    Target: "An entry of `targets`, under `calibration`",
}


def scenario_json_schema() -> str:
    """The schema as JSON text."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mores scenario"}
    schema = Scenario.model_json_schema(by_alias=True, mode="validation")
    return json.dumps({**head, **schema, **head}, indent=2) + "\n"


def reference_markdown() -> str:
    """The page as markdown."""
    sections = [HEAD]
    for model, title in TITLES.items():
        paragraphs = (model.__doc__ or "").strip().split("\n\n")
        about = "\n\n".join(re.sub(r"\s+", " ", paragraph.strip()) for paragraph in paragraphs)
        rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
        for name, field in model.model_fields.items():
            key, default, allowed, meaning = describe_field(name, field)
            if default != "required":
                default = "" if default in ("null", "[]", "{}") else f"`{default}`"
            rows.append(f"| `{key}` | {allowed} | {default} | {meaning} |")
        sections.append(f"\n## {title}\n\n{about}\n\n" + "\n".join(rows) + "\n")
    return "".join(sections)


if __name__ == "__main__":
    (Path(sys.argv[1]) / "scenario.md").write_text(reference_markdown(), encoding="utf-8")
    SCHEMA_FILE.write_text(scenario_json_schema(), encoding="utf-8")
