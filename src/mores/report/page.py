"""Report of a run: one self-contained HTML file.

The page loads nothing from the network, runs no script, and follows the reader's light or dark
theme. Texts of a scenario are data and are always escaped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mores.analysis.sensitivity import SensitivityIndices
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

SECTION_HEADINGS = {  # by prefix of the figures' names
    "drift": "Drift relative to control",
    "people": "People: initial and final values",
    "attribution": "Effects of the arms, and interactions",
    "learning": "Learning curves",
    "episodes": "Metrics by episode",
    "analytic": "Agreement with analytic values",
    "sweep": "Parameter sweep",
    "sensitivity": "Sensitivity to uncertain parameters",
    "metrics": "Metrics over rounds",
}


def write_report(
    folder: Path,
    scenario: Scenario,
    cells: Sequence[Cell],
    records: Mapping[str, CellResult],
    verdicts: Sequence[Verdict],
    provenance: Mapping[str, Any],
    sensitivity: SensitivityIndices | None = None,
) -> None:
    """Write `report.html`, and the figures as PNG in `figures/`.

    Args:
        folder: run folder.
        scenario: scenario of the run.
        cells: cells of the run; the report uses those of the arms.
        records: results of the cells, by cell id.
        verdicts: verdict of each claim.
        provenance: provenance of the run.
        sensitivity: shares of the uncertain parameters, if available.
    """
    import jinja2

    data = ReportData.from_run(scenario, cells, records)
    figures = render_figures(data, sensitivity)
    (folder / "figures").mkdir(exist_ok=True)
    for figure in figures:
        write_bytes(folder / "figures" / f"{figure.spec.name}.png", figure.png)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = (resources.files("mores.report") / "report.html.j2").read_text(encoding="utf-8")
    last_stage = data.record(data.arms[0]).stages[-1].name
    page = environment.from_string(template).render(
        scenario=scenario,
        light_colors=LIGHT_COLORS,
        dark_colors=DARK_COLORS,
        claims_summary=claims_section.summarize_claims(verdicts),
        drift_summary=summarize_drift(data),
        status_labels=claims_section.STATUS_LABELS,
        status_counts=Counter(verdict.status for verdict in verdicts),
        claims=claims_section.claim_rows(scenario, verdicts),
        claim_kinds={
            kind: description
            for kind, description in claims_section.KIND_DESCRIPTIONS.items()
            if any(verdict.claim.kind == kind for verdict in verdicts)
        },
        sections=_sections(figures, last_stage if scenario.stages else None),
        effects=table_rows.effect_table(arm_effects(data)),
        final_metrics=table_rows.final_metric_table(data),
        fitted_parameters=table_rows.fitted_parameter_rows(data),
        targets=table_rows.target_rows(data),
        arms=table_rows.arm_rows(scenario),
        arm_style=data.style,
        stages=table_rows.stage_rows(scenario),
        training_warnings=table_rows.training_warnings(data),
        parameters=table_rows.parameter_rows(scenario),
        parameter_ranges=table_rows.range_rows(scenario),
        num_points=len(data.points),
        replicates=data.replicates,
        provenance=table_rows.provenance_rows(provenance),
        provenance_json=json.dumps(provenance, indent=2, ensure_ascii=False),
    )
    write_text(folder / "report.html", page)


def _sections(figures: Sequence[RenderedFigure], last_stage: str | None) -> list[dict[str, Any]]:
    """Sections of figures in their order, with id and heading.

    With stages, the heading names the last stage, except for figures by episode.
    """
    sections: dict[str, dict[str, Any]] = {}
    for figure in figures:
        kind = figure.spec.name.partition("_")[0]
        by_episode = last_stage is None or kind in ("learning", "episodes")
        heading = SECTION_HEADINGS[kind] + ("" if by_episode else f" (stage {last_stage})")
        section = sections.setdefault(kind, {"id": kind, "heading": heading, "figures": []})
        section["figures"].append(figure)
    return list(sections.values())


def summarize_drift(data: ReportData) -> str:
    """Sentence on the arm with the largest effect; empty without recorded mean values."""
    effect, record = largest_effect(data), data.control_record
    if effect is None or effect.distance is None or record is None:
        return ""
    control = data.scenario.control
    if effect.distance.value == 0.0:
        return f"No arm changes the mean value relative to the control “{control}”."
    dimension, component = max(effect.components.items(), key=lambda item: abs(item[1].value))
    stage = f" of stage “{record.stages[-1].name}”" if data.scenario.stages else ""
    return (
        f"Largest effect: “{effect.name}” ({', '.join(effect.factors)}). After "
        f"{record.rounds[-1]} rounds{stage}, the distance of the mean value from that "
        f"in the control “{control}” is {format_interval(effect.distance)} value units; the "
        f"largest component is {dimension} ({format_number(component.value)})."
    )
