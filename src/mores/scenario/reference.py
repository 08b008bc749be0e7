"""The reference of scenario files: `python -m mores.scenario.reference DIR` writes it.

Made from the model itself, so that it cannot say anything else than what is checked.
"""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mores.scenario.design import Calibration, Sensitivity, Stage, Target, Uncertain
from mores.scenario.model import Bound, Claim, Scenario

HEAD = """\
# Scenario files

A scenario is an experiment in a YAML file: data only, nothing in it is evaluated or imported. Every
key is checked, and a mistake is one line with its place and the nearest right name
(`mores check FILE`). Parameters of environments, players and populations stand beside their `kind`;
`mores describe NAME` tells them. Editors with a YAML language server complete a file that begins
with `# yaml-language-server: $schema=./schema.json`.

This page is made from the code that checks the files.
"""
TITLES: dict[type[BaseModel], str] = {
    Scenario: "The file",
    Claim: "An entry of `claims`",
    Bound: "`bound`",
    Stage: "An entry of `stages`",
    Uncertain: "`uncertain`",
    Sensitivity: "`sensitivity`, under `uncertain`",
    Calibration: "`calibration`",
    Target: "An entry of `targets`, under `calibration`",
}


def reference() -> str:
    """The page as markdown."""
    return HEAD + "".join(_part(model) for model in TITLES)


def _part(model: type[BaseModel]) -> str:
    about = re.sub(r"\s+", " ", (model.__doc__ or "").strip())
    rows = [
        f"| `{field.alias or name}` | {_type(field.annotation)}{_limits(field)} | "
        f"{_default(field)} | {field.description} |"
        for name, field in model.model_fields.items()
    ]
    table = "\n".join(["| key | what it is | default | meaning |", "|---|---|---|---|", *rows])
    return f"\n## {TITLES[model]}\n\n{about}\n\n{table}\n"


def _type(annotation: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(one) for one in inner if one is not type(None))
    if origin is list:
        return f"list of {_type(inner[0])}"
    if origin is tuple:
        return "[" + ", ".join(_type(one) for one in inner) + "]"
    if origin is dict:
        return f"mapping of names to {_type(inner[1])}"
    if annotation is Any:
        return "anything"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"`{annotation.__name__.lower()}`"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[annotation]


def _limits(field: FieldInfo) -> str:
    words = {Ge: "at least", Gt: "more than", Le: "at most", Lt: "less than"}
    found = []
    for limit in field.metadata:
        for kind, said in words.items():
            if isinstance(limit, kind):
                bound = getattr(limit, kind.__name__.lower())
                found.append(f"{said} {'2^63' if bound == 2**63 else f'{bound:,}'}")
    return ", " + " and ".join(found) if found else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)  # type: ignore[call-arg]
    return "" if value is None or value in ([], {}) else f"`{value}`"


if __name__ == "__main__":
    (Path(sys.argv[1]) / "scenario.md").write_text(reference(), encoding="utf-8")
