"""The report of a run: one HTML file with everything in it, for a reader in a hurry.

It asks nothing of a network, runs no script, and takes its colours from the reader's theme. Texts
of a scenario are data: they are escaped wherever they stand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mores.experiments.claims.verdicts import Verdict
from mores.experiments.results.atomic_files import write_bytes, write_text
from mores.experiments.results.cell_result import Record
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario
from mores.report import claims_section, table_rows
from mores.report.figures import Picture, Shown, pictures
from mores.report.figures.attribution_plots import effects, strongest
from mores.report.figures.plot_data import interval, number
from mores.report.figures.theme import DARK, LIGHT

HEADINGS = {  # of figures, by the beginning of their names
    "drift": "How far, and which way",
    "people": "The people, at the start and at the end",
    "causes": "Because of what",
    "learning": "Learning",
    "episodes": "Episode by episode",
    "formulas": "Against the formulas",
    "sweep": "Over the sweep",
    "sensitivity": "Which assumption carries the result",
    "measures": "Every measure",
}


def write_report(
    folder: Path,
    scenario: Scenario,
    cells: Sequence[Cell],
    records: Mapping[str, Record],
    judged: Sequence[Verdict],
    origin: Mapping[str, Any],
    sensitivity: Any = None,
    calibration: Any = None,
) -> None:
    """Write `report.html`, and its figures as PNG under `figures/`.

    Args:
        folder: of the run.
        scenario: what was run.
        cells: of the run; those that are no arms are left out of figures.
        records: of the cells, by id.
        judged: a verdict for each claim.
        origin: provenance.
        sensitivity: `mores.analysis.sensitivity.Indices`, where a scenario asks for them.
        calibration: `mores.experiments.calibration.Calibrated`, where the parameters are from one at hand.
    """
    shown = Shown.of(scenario, cells, records)
    drawn = pictures(shown, sensitivity)
    (folder / "figures").mkdir(exist_ok=True)
    for picture in drawn:
        write_bytes(folder / "figures" / f"{picture.figure.name}.png", picture.png)
    text = page(shown, judged, origin, drawn, calibration)
    write_text(folder / "report.html", text)


def page(
    shown: Shown,
    judged: Sequence[Verdict],
    origin: Mapping[str, Any],
    drawn: Sequence[Picture],
    calibration: Any = None,
) -> str:
    """The report as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = (resources.files("mores.report") / "report.html.j2").read_text(encoding="utf-8")
    scenario, drift = shown.scenario, effects(shown)
    last = shown.record(shown.arms[0]).stages[-1]
    columns, ends = table_rows.ends(shown)
    counts = {word: sum(v.verdict == word for v in judged) for word in claims_section.WORDS}
    return environment.from_string(template).render(
        scenario=scenario,
        light=LIGHT,
        dark=DARK,
        answer=claims_section.answer(judged),
        drift_answer=drift_sentence(shown),
        counts=counts,
        words=claims_section.WORDS,
        signs=claims_section.SIGNS,
        claims=claims_section.rows(scenario, judged),
        kinds={
            kind.replace("_", " "): told
            for kind, told in claims_section.KINDS.items()
            if any(verdict.claim.kind == kind for verdict in judged)
        },
        sections=_sections(drawn, last.name if scenario.stages else None),
        effects=table_rows.effects(drift),
        effect_names=list(drift[0].parts) if drift else [],
        columns=columns,
        ends=ends,
        fitted=table_rows.fitted(shown, calibration),
        targets=table_rows.targets(shown),
        remarks=list(calibration.remarks) if calibration is not None else [],
        arms=table_rows.arms(shown),
        stages=table_rows.stages(scenario),
        stopped=table_rows.stopped(shown),
        parameters=table_rows.parameters(scenario),
        ranges=table_rows.ranges(scenario),
        points=len(shown.points),
        replicates=shown.replicates,
        provenance=table_rows.provenance(origin),
        origin=json.dumps(origin, indent=2, ensure_ascii=False),
    )


def _sections(drawn: Sequence[Picture], last: str | None) -> list[dict[str, Any]]:
    """Figures under their headings, in the order in which they were drawn.

    Where there are stages, all but those over episodes are of the `last`.
    """
    sections: dict[str, list[Picture]] = {}
    for picture in drawn:
        sections.setdefault(picture.figure.name.partition("_")[0], []).append(picture)

    def of_stage(kind: str) -> str:
        return "" if last is None or kind in ("learning", "episodes") else f" (stage {last})"

    return [
        {"id": kind, "heading": HEADINGS[kind] + of_stage(kind), "pictures": found}
        for kind, found in sections.items()
    ]


def drift_sentence(shown: Shown) -> str:
    """Which arm moved people most, how far and which way; empty where drift is not known."""
    found = strongest(shown)
    if found is None or found.distance is None:
        return ""
    control = shown.scenario.control
    if found.distance.value == 0.0:
        return f"No arm moves the people's centre away from where it is in “{control}”."
    assert shown.control is not None
    value, part = max(found.parts.items(), key=lambda item: abs(item[1].value))
    way = "higher" if part.value > 0 else "lower"
    stage = f" of stage “{shown.control.stages[-1].name}”" if shown.scenario.stages else ""
    return (
        f"People move most in “{found.name}” ({', '.join(found.causes)}){stage}: after "
        f"{shown.control.rounds[-1]} rounds their centre is {interval(found.distance)} away from "
        f"where it is in “{control}”, mostly {way} in {value} ({number(part.value)})."
    )
