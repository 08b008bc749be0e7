"""Reference page of scenario files, generated from the pydantic models that check them.

`python -m mores.experiments.scenario.reference_docs DIR` writes it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mores.experiments.scenario.field_descriptions import (
    default_value,
    describe_limits,
    describe_type,
)
from mores.experiments.scenario.specification import Bound, Claim, Scenario
from mores.experiments.scenario.stages import Calibration, Sensitivity, Stage, Target, Uncertainty

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
    Stage: "An entry of `stages`",
    Uncertainty: "`uncertainty`",
    Sensitivity: "`sensitivity`, under `uncertainty`",
    Calibration: "`calibration`",
    Target: "An entry of `targets`, under `calibration`",
}


def reference_markdown() -> str:
    """The page as markdown."""
    return HEAD + "".join(_section(model) for model in TITLES)


def _section(model: type[BaseModel]) -> str:
    paragraphs = (model.__doc__ or "").strip().split("\n\n")
    about = "\n\n".join(re.sub(r"\s+", " ", paragraph.strip()) for paragraph in paragraphs)
    rows = []
    for name, field in model.model_fields.items():
        allowed = describe_type(field.annotation) + describe_limits(field.metadata)
        cells = (f"`{field.alias or name}`", allowed, _format_default(field), field.description)
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    table = "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])
    return f"\n## {TITLES[model]}\n\n{about}\n\n{table}\n"


def _format_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = default_value(field)
    return "" if value is None or value in ([], {}) else f"`{value}`"


if __name__ == "__main__":
    (Path(sys.argv[1]) / "scenario.md").write_text(reference_markdown(), encoding="utf-8")
