"""What a scenario is about, read from its file: for `mores list` and `mores describe`.

The file is neither validated nor are the classes imported that it names, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mores.core.errors import unreadable


class ClaimSummary(NamedTuple):
    """A claim: its statement, its kind, and its source if it has one of its own."""

    statement: str
    kind: str
    source: str | None


class ScenarioSummary(NamedTuple):
    """Parts of a scenario.

    Attributes:
        about: the question.
        tags: values by name: `source`, `construct` and `env`, its environment; those that it has.
        arms: names of the arms.
        control: the arm that others are compared to.
        replicates: their number; None if the file has the default.
        claims: the claims.
    """

    about: str
    tags: Mapping[str, Any]
    arms: list[str]
    control: str | None
    replicates: int | None
    claims: list[ClaimSummary]


def summarize_scenario(file: Path) -> ScenarioSummary:
    """The parts of a scenario file.

    Raises:
        UserError: the file cannot be read or is not a scenario; `mores check` says what is wrong.
    """
    try:
        # All values are text: a source such as 2508.07750 is no number. C code is ten times faster.
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        document = yaml.load(file.read_text(encoding="utf-8"), loader)
        tags = {key: document[key] for key in ("source", "construct") if key in document}
        if document.get("env"):
            tags["env"] = document["env"]["kind"]
        replicates = document.get("replicates")
        return ScenarioSummary(
            about=" ".join(document["about"].split()),
            tags=tags,
            arms=list(document.get("arms") or {}),
            control=document.get("control"),
            replicates=None if replicates is None else int(replicates),
            claims=[
                ClaimSummary(claim["statement"], claim["kind"], claim.get("source"))
                for claim in document.get("claims") or ()
            ],
        )
    except (OSError, ValueError, TypeError, AttributeError, LookupError, yaml.YAMLError) as error:
        raise unreadable(file, error) from error
