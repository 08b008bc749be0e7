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
from mores.experiments.results.cell_result import CellResult
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario
from mores.report import claims_section, table_rows
from mores.report.figures import RenderedFigure, ReportData, render_figures
from mores.report.figures.attribution_plots import arm_effects, largest_effect
from mores.report.figures.plot_data import format_interval, format_number
from mores.report.figures.theme import DARK_COLORS, LIGHT_COLORS

SECTION_HEADINGS = {  # of figures, by the beginning of their names
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
    records: Mapping[str, CellResult],
    verdicts: Sequence[Verdict],
    provenance: Mapping[str, Any],
    sensitivity: Any = None,
    calibration: Any = None,
) -> None:
    """Write `report.html`, and its figures as PNG under `figures/`.

    Args:
        folder: of the run.
        scenario: what was run.
        cells: of the run; those that are no arms are left out of figures.
        records: of the cells, by id.
        verdicts: a verdict for each claim.
        provenance: provenance.
        sensitivity: `mores.analysis.sensitivity.SensitivityIndices`, where a scenario asks for them.
        calibration: `mores.experiments.calibration.CalibrationResult`, where the parameters are from one at hand.
    """
    shown = ReportData.from_run(scenario, cells, records)
    drawn = render_figures(shown, sensitivity)
    (folder / "figures").mkdir(exist_ok=True)
    for picture in drawn:
        write_bytes(folder / "figures" / f"{picture.spec.name}.png", picture.png)
    text = render_page(shown, verdicts, provenance, drawn, calibration)
    write_text(folder / "report.html", text)


def render_page(
    data: ReportData,
    verdicts: Sequence[Verdict],
    provenance: Mapping[str, Any],
    figures: Sequence[RenderedFigure],
    calibration: Any = None,
) -> str:
    """The report as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = (resources.files("mores.report") / "report.html.j2").read_text(encoding="utf-8")
    scenario, drift = data.scenario, arm_effects(data)
    last = data.record(data.arms[0]).stages[-1]
    columns, ends = table_rows.final_metric_rows(data)
    counts = {
        word: sum(v.status == word for v in verdicts) for word in claims_section.STATUS_LABELS
    }
    return environment.from_string(template).render(
        scenario=scenario,
        light=LIGHT_COLORS,
        dark=DARK_COLORS,
        answer=claims_section.summarize_claims(verdicts),
        drift_answer=summarize_drift(data),
        counts=counts,
        words=claims_section.STATUS_LABELS,
        signs=claims_section.STATUS_SYMBOLS,
        claims=claims_section.claim_rows(scenario, verdicts),
        kinds={
            kind.replace("_", " "): told
            for kind, told in claims_section.KIND_DESCRIPTIONS.items()
            if any(verdict.claim.kind == kind for verdict in verdicts)
        },
        sections=_sections(figures, last.name if scenario.stages else None),
        effects=table_rows.effect_rows(drift),
        effect_names=list(drift[0].components) if drift else [],
        columns=columns,
        ends=ends,
        fitted=table_rows.fitted_parameter_rows(data, calibration),
        targets=table_rows.target_rows(data),
        remarks=list(calibration.warnings) if calibration is not None else [],
        arms=table_rows.arm_rows(data),
        stages=table_rows.stage_rows(scenario),
        stopped=table_rows.training_warnings(data),
        parameters=table_rows.parameter_rows(scenario),
        ranges=table_rows.range_rows(scenario),
        points=len(data.points),
        replicates=data.replicates,
        provenance=table_rows.provenance_rows(provenance),
        origin=json.dumps(provenance, indent=2, ensure_ascii=False),
    )


def _sections(figures: Sequence[RenderedFigure], last_stage: str | None) -> list[dict[str, Any]]:
    """Figures under their headings, in the order in which they were drawn.

    Where there are stages, all but those over episodes are of the `last_stage`.
    """
    sections: dict[str, list[RenderedFigure]] = {}
    for picture in figures:
        sections.setdefault(picture.spec.name.partition("_")[0], []).append(picture)

    def of_stage(kind: str) -> str:
        return (
            ""
            if last_stage is None or kind in ("learning", "episodes")
            else f" (stage {last_stage})"
        )

    return [
        {"id": kind, "heading": SECTION_HEADINGS[kind] + of_stage(kind), "pictures": found}
        for kind, found in sections.items()
    ]


def summarize_drift(data: ReportData) -> str:
    """Which arm moved people most, how far and which way; empty where drift is not known."""
    found = largest_effect(data)
    if found is None or found.distance is None:
        return ""
    control = data.scenario.control
    if found.distance.value == 0.0:
        return f"No arm moves the people's centre away from where it is in “{control}”."
    assert data.drift_control is not None
    value, part = max(found.components.items(), key=lambda item: abs(item[1].value))
    way = "higher" if part.value > 0 else "lower"
    stage = f" of stage “{data.drift_control.stages[-1].name}”" if data.scenario.stages else ""
    return (
        f"People move most in “{found.name}” ({', '.join(found.factors)}){stage}: after "
        f"{data.drift_control.rounds[-1]} rounds their centre is {format_interval(found.distance)} away from "
        f"where it is in “{control}”, mostly {way} in {value} ({format_number(part.value)})."
    )
