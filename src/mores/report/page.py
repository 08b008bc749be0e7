"""Report of a run: one self-contained HTML file.

The page loads nothing from the network, runs no script, and follows the reader's light or dark
theme. Texts of a scenario are data and are always escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mores.analysis.sensitivity import SensitivityIndices
from mores.experiments.claims.verdicts import Verdict
from mores.experiments.results.atomic_files import write_bytes, write_text
from mores.experiments.results.cell_result import CellResult
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario
from mores.report import claims_section, table_rows
from mores.report.figures import RenderedFigure, ReportData, render_figures, theme
from mores.report.figures.attribution import arm_effects
from mores.report.figures.plot_data import format_interval, format_number
from mores.report.figures.text_fitting import printable
from mores.report.headline import headline

SECTION_HEADINGS = {  # by prefix of the figures' names
    "answer": "A claim over the rounds",
    "drift": "Drift relative to control",
    "people": "People: initial and final values",
    "attribution": "Effects of the arms, and interactions",
    "learning": "Learning curves",
    "episodes": "Metrics by episode",
    "analytic": "Agreement with analytic values",
    "sweep": "Parameter sweep",
    "maps": "Parameter sweep: heat maps",
    "sensitivity": "Sensitivity to uncertain parameters",
    "metrics": "Metrics over rounds",
}


@np.errstate(invalid="ignore")  # of metrics that are not finite: their lines have gaps
def write_report(
    folder: Path,
    scenario: Scenario,
    cells: Sequence[Cell],
    records: Mapping[str, CellResult],
    verdicts: Sequence[Verdict],
    provenance: Mapping[str, Any],
    sensitivity: SensitivityIndices | None = None,
) -> None:
    """Write `report.html`, and the figures as PNG and SVG in `figures/`.

    The report uses the cells of the arms, and their results by cell id.
    """
    import jinja2

    data = ReportData.from_run(scenario, cells, records)
    figures = render_figures(data, sensitivity)
    (folder / "figures").mkdir(exist_ok=True)
    for figure in figures:
        if figure.svgs:
            write_bytes(folder / "figures" / f"{figure.spec.name}.png", figure.png)
            write_text(folder / "figures" / f"{figure.spec.name}.svg", figure.svg)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mores.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        scenario=scenario,
        data=data,
        verdicts=verdicts,
        sections=_sections(data, figures),
        headline=headline(data, verdicts),
        drift_summary=summarize_drift(data),
        effects=arm_effects(data),
        provenance=provenance,
        provenance_json=json.dumps(provenance, indent=2, ensure_ascii=False),
        claims_section=claims_section,
        table_rows=table_rows,
        theme=theme,
    )
    write_text(folder / "report.html", printable(page))


def _sections(
    data: ReportData, figures: Sequence[RenderedFigure]
) -> dict[str, tuple[str, list[RenderedFigure]]]:
    """Heading and figures of each section, by id.

    With stages, the heading names the last stage, except for figures by episode.
    """
    stages = data.scenario.stages
    sections = {}
    for figure in figures:
        kind = figure.spec.name.partition("_")[0]
        if kind == "figure":  # of the scenario: a section each
            sections[figure.spec.name] = figure.spec.heading, [figure]
            continue
        by_episode = kind in ("learning", "episodes")
        stage = f" (stage {stages[-1].name})" if stages and not by_episode else ""
        _, members = sections.setdefault(kind, (SECTION_HEADINGS[kind] + stage, []))
        members.append(figure)
    return sections


def summarize_drift(data: ReportData) -> str:
    """Sentence on the arm with the largest effect; empty without recorded mean values."""
    distances = ((effect, effect.distance) for effect in arm_effects(data))
    finite = [(e, d) for e, d in distances if d is not None and np.isfinite(d.value)]
    if not finite or data.control_record is None:
        return ""
    effect, distance = max(finite, key=lambda pair: pair[1].value)
    control, record = data.scenario.control, data.control_record
    if distance.value == 0.0:
        return f"No arm changes the mean value relative to the control “{control}”."
    dimension, component = max(effect.components.items(), key=lambda item: abs(item[1].value))
    stage = f" of stage “{record.stages[-1].name}”" if data.scenario.stages else ""
    return (
        f"Largest effect: “{effect.name}” ({', '.join(effect.factors)}). After "
        f"{record.rounds[-1]} rounds{stage}, the distance of the mean value from that "
        f"in the control “{control}” is {format_interval(distance)} value units; the "
        f"largest component is {dimension} ({format_number(component.value)})."
    )
