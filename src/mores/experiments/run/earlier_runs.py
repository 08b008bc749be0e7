"""Claims of earlier runs: the last verdicts of a scenario, and claims that changed since.

A claim that is changed after its result was seen, and then tested on the same random numbers, is no
test. Such claims are marked.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mores.core.errors import UserError, describe_exception, printable
from mores.experiments.claims.verdicts import STATUSES_BY_SEVERITY, Verdict
from mores.experiments.results.checked_files import CheckedFolder
from mores.experiments.scenario.specification import Claim, Scenario

LOGGER = logging.getLogger("mores.run")
WORDING = ("statement", "source", "headline")  # fields that change no verdict
ESTIMAND = (
    *("kind", "metric", "arm", "compare_to", "references", "analytic", "ablation", "stage"),
    *("at_round", "statistic", "relative", "interval", "slope_in", "monotone_in"),
)


class EarlierRun(NamedTuple):
    """A finished run.

    Attributes:
        folder: its folder.
        seed: its seed.
        started: when it started.
        claims: the entries of its claims.
        seconds: its duration in seconds, over all its parts if it was resumed; None if unknown.
    """

    folder: Path
    seed: int
    started: str
    claims: list[dict[str, Any]]
    seconds: float | None

    def verdict(self, claim: Claim) -> str:
        """The verdict on a claim that is the same but for its wording; else what is known of it.

        A verdict that mores does not write is "unknown".
        """
        now = _without_wording(claim.model_dump(mode="json", exclude_none=True))
        for entry in self.claims:
            before = entry.get("claim")
            if isinstance(before, Mapping) and _without_wording(before) == now:
                verdict = entry.get("verdict")
                return verdict if verdict in STATUSES_BY_SEVERITY else "unknown"
        return "changed since"


def finished_runs(parent: Path, scenario_name: str) -> list[EarlierRun]:
    """Finished runs of a scenario in a folder, the newest first; others are left out."""
    folders = list(parent.iterdir()) if parent.is_dir() else []
    runs = [run for folder in folders if (run := _finished_run(folder, scenario_name))]
    return sorted(runs, key=lambda run: (run.started, run.folder.name), reverse=True)


def _finished_run(folder: Path, scenario_name: str) -> EarlierRun | None:
    """The finished run of a scenario in a folder; None if the folder has no such run."""
    names = ("run.json", "provenance.json", "claims.json")
    manifest, provenance, claims = (_read_json(folder, name) for name in names)
    if not isinstance(manifest, dict) or manifest.get("scenario") != scenario_name:
        return None
    if not isinstance(provenance, dict) or not isinstance(claims, list):
        return None
    seed, started = provenance.get("seed"), provenance.get("started")
    seconds = provenance.get("seconds")
    if type(seed) is not int or not isinstance(started, str):
        return None
    if seconds is not None and not _is_duration(seconds):
        return None
    entries = [entry for entry in claims if isinstance(entry, dict)]
    return EarlierRun(folder, seed, started, entries, None if seconds is None else float(seconds))


def _is_duration(seconds: Any) -> bool:
    """Whether a value of a file is a finite number of at least 0."""
    if type(seconds) not in (int, float):
        return False
    try:
        return math.isfinite(seconds) and seconds >= 0
    except OverflowError:  # an integer that no float can hold
        return False


def mark_changed_claims(
    folder: Path, scenario: Scenario, verdicts: Sequence[Verdict]
) -> list[Verdict]:
    """The verdicts, with those marked whose claim changed since an earlier run of the same seed.

    Other folders may hold anything. An exception that they cause is logged, and nothing is marked:
    the cells of this run are simulated, and its claims evaluated.
    """
    try:
        return _mark_changed_claims(folder, scenario, verdicts)
    except Exception as error:
        text = "claims are not compared with those of earlier runs: %s"
        LOGGER.warning(text, describe_exception(error))
        return list(verdicts)


def _mark_changed_claims(
    folder: Path, scenario: Scenario, verdicts: Sequence[Verdict]
) -> list[Verdict]:
    provenance = _read_json(folder, "provenance.json")
    started = provenance.get("started") if isinstance(provenance, dict) else None
    earlier = [
        run
        for run in finished_runs(folder.resolve().parent, scenario.name)
        if run.seed == scenario.seed
        and run.folder.name != folder.resolve().name
        and (not isinstance(started, str) or run.started <= started)
    ]
    marked = []
    for verdict in verdicts:
        changes = (_change(verdict.claim, run) for run in earlier)
        marked.append(dataclasses.replace(verdict, changed=next(filter(None, changes), "")))
    return marked


def _change(claim: Claim, run: EarlierRun) -> str:
    """How a claim differs from that of a run with its statement or estimand; or that it is new."""
    now = claim.model_dump(mode="json", exclude_none=True)
    claims = [entry["claim"] for entry in run.claims if isinstance(entry.get("claim"), Mapping)]
    if not claims or any(_without_wording(before) == _without_wording(now) for before in claims):
        return ""
    since = f"since {printable(run.folder.name)} with the same seed"
    for fields in (["statement"], ESTIMAND):
        for before in claims:
            if all(before.get(name) == now.get(name) for name in fields):
                names = sorted({*before, *now} - set(WORDING))
                texts = [
                    f"{printable(name, 40)}: {_text(before.get(name))}, now {_text(now.get(name))}"
                    for name in names
                    if before.get(name) != now.get(name)
                ]
                return f"changed {since}: {'; '.join(texts)}"
    return f"new {since}"


def _without_wording(claim: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in claim.items() if name not in WORDING}


def _text(value: Any) -> str:
    return "none" if value is None else json.dumps(value)[:80]


def _read_json(folder: Path, name: str) -> Any:
    """Content of a file of a run; None if it is absent or not such JSON as mores writes."""
    checked = CheckedFolder(folder)
    try:
        return checked.read_json(name) if name == "claims.json" else checked.read_sealed(name)
    except UserError:
        return None
