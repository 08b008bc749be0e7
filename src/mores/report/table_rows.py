"""Rows of the report's tables: conditions, effects, metrics, calibration, provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mores.analysis.intervals import compare, estimate
from mores.experiments.claims.claim_evaluation import make_claim_data
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Target
from mores.report.figures.attribution_plots import ArmEffect
from mores.report.figures.plot_data import ReportData, format_interval, format_number, metric_label
from mores.report.figures.sweep_plots import format_value

TableRow = dict[str, Any]
MAX_ROWS, MAX_COLUMNS = 200, 12


def arm_rows(data: ReportData) -> list[TableRow]:
    """Rows of the arms: name, style, changed parameters, whether it is the control."""
    scenario = data.scenario
    return [
        {
            "name": name,
            "style": data.style(name),
            "changes": _format_changes(changes) or "none",
            "is_control": name == scenario.control,
        }
        for name, changes in scenario.arms.items()
    ]


def stage_rows(scenario: Scenario) -> list[TableRow]:
    """Rows of the stages; empty for a scenario without stages."""
    return [
        {
            "name": stage.name,
            "loop": stage.loop,
            "roles_to_train": ", ".join(stage.roles_to_train) or "none",
            "episodes": stage.episodes,
            "rounds": scenario.rounds_per_episode(stage),
            "changes": _format_changes({**stage.env, **stage.policies}),
        }
        for stage in scenario.stages
    ]


def training_warnings(data: ReportData, max_listed: int = 3) -> list[str]:
    """Sentences on models that stopped early or were never updated, for each cell."""

    def listing(messages: Sequence[Any]) -> str:
        text, omitted = "; ".join(map(str, messages[:max_listed])), len(messages) - max_listed
        return f"{text}; and {omitted} more, in log.txt" if omitted > 0 else text

    sentences = []
    for cell in data.cells:
        record = data.records[cell.id]
        if count := len(record.stopped):
            total = f" of {record.num_models}" if record.num_models else ""
            models = f"{count}{total} {'models' if total or count > 1 else 'model'}"
            where = f" in {cell.id}" if len(data.cells) > 1 else ""
            text = f"{models} stopped training early{where}, with results included"
            sentences.append(f"{text}: {listing(record.stopped)}.")
        untrained = [status for status in record.training_statuses if status.num_not_updated]
        if untrained:
            sentences.append(f"In {cell.id}, {listing(untrained)}.")
    return sentences


def parameter_rows(scenario: Scenario) -> list[tuple[str, str]]:
    """Parameters set in the scenario file, by dotted path."""
    components = {"env": scenario.env, "population": scenario.population}
    components |= {f"policies.{role}": policy for role, policy in scenario.policies.items()}
    rows = []
    for path, component in components.items():
        if component is not None:
            rows.append((path, component.kind))
            parameters = _flatten(component.parameters, path) if component.parameters else ()
            rows += [(name, _format_nested(value)) for name, value in parameters]
    return rows


def range_rows(scenario: Scenario) -> list[tuple[str, str]]:
    """Swept values and ranges of uncertain parameters."""
    swept = [
        (path, ", ".join(map(format_value, values))) for path, values in scenario.sweep.items()
    ]
    uncertain = scenario.uncertainty.parameters if scenario.uncertainty else {}
    uncertain_rows = [
        (path, f"{format_number(low)} to {format_number(high)}, uncertain")
        for path, (low, high) in uncertain.items()
    ]
    return swept + uncertain_rows


def _flatten(config: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(config, Mapping) and config:
        for name, child in config.items():
            yield from _flatten(child, f"{path}.{name}")
    else:
        yield path, config


def _format_changes(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{path} = {_format_nested(value)}" for path, value in changes.items())


def _format_nested(value: Any) -> str:
    if isinstance(value, Mapping) and "kind" in value:
        parameters = ", ".join(f"{n} {_format_nested(v)}" for n, v in value.items() if n != "kind")
        return f"{value['kind']} ({parameters})" if parameters else str(value["kind"])
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_format_nested, value))}]"
    return "none" if value is None else str(value)


def effect_rows(effects: Sequence[ArmEffect]) -> list[TableRow]:
    """Rows of the arms' effects: distance from the control and signed components."""
    return [
        {
            "name": effect.name,
            "is_interaction": effect.is_interaction,
            "factors": ", ".join(effect.factors),
            "distance": "" if effect.distance is None else format_interval(effect.distance),
            "components": [format_interval(component) for component in effect.components.values()],
        }
        for effect in effects
    ]


def final_metric_rows(data: ReportData) -> tuple[list[str], list[TableRow]]:
    """Columns and rows of the metrics at the end of the last stage, one row per cell."""
    names: dict[str, None] = {}
    rows = []
    for cell in data.cells[:MAX_ROWS]:
        record = data.records[cell.id]
        point = ", ".join(f"{path} = {format_value(value)}" for path, value in cell.point.items())
        arm = cell.arm if data.scenario.arms else ""
        values = {}
        for name in list(record.metrics)[:MAX_COLUMNS]:
            label = metric_label(name, record)
            final = record.by_replicate(name)[:, -1]
            values[label] = format_interval(estimate(final)) if np.isfinite(final).all() else "–"
        names |= dict.fromkeys(values)
        title = " · ".join(filter(None, (arm, point))) or cell.id
        rows.append({"name": title, "final_values": values})
    columns = list(names)
    for row in rows:
        row["final_values"] = [row["final_values"].get(name, "") for name in columns]
    return columns, rows


# --- calibration --------------------------------------------------------------------------------


def fitted_parameter_rows(data: ReportData, calibration: Any = None) -> list[TableRow]:
    """Rows of the calibrated parameters: search range, value in this run, interval.

    Args:
        data: data of the run.
        calibration: `mores.experiments.calibration.CalibrationResult` of the fit, if available.
    """
    section = data.scenario.calibration
    if section is None or not data.cells:
        return []
    fits = {p.path: p for p in calibration.parameters} if calibration is not None else {}
    cell = data.cells[0] if data.scenario.control is None else data.cell(data.scenario.control)
    config = {"env": cell.env, "population": cell.population, "policies": cell.policies}
    rows = []
    for path, (low, high) in section.parameters.items():
        fit = fits.get(path)
        value = _value_at_path(config, path)
        rows.append(
            {
                "path": path,
                "value": "default" if value is None else _format_nested(value),
                "search_range": f"{format_number(low)} to {format_number(high)}",
                "interval": f"{format_number(fit.low)} to {format_number(fit.high)}" if fit else "",
            }
        )
    return rows


def _value_at_path(config: Any, path: str) -> Any:
    for key in path.split("."):
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def target_rows(data: ReportData) -> list[TableRow]:
    """Rows of the calibration targets with their simulated values at the first point."""
    section = data.scenario.calibration
    if section is None or not data.cells:
        return []
    return [_target_row(target, data) for target in section.targets]


def _target_row(target: Target, data: ReportData) -> TableRow:
    claim = Claim(
        statement=target.statement, kind="report", metric=target.metric, arm=target.arm,
        compare_to=target.compare_to, at_round=target.at_round,
    )  # fmt: skip
    scenario = data.scenario
    error = target.standard_error
    row: TableRow = {
        "statement": target.statement,
        "value": format_number(target.value),
        "error": "" if error is None else f"± {format_number(error)}",
        "source": target.source or "",
        "held_out": target.held_out,
        "simulated": "not recorded",
        "deviation": "",
    }
    try:
        arm, records = claim_arm(scenario, claim) or "", data.records_at(data.points[0])
        values, reference, _ = make_claim_data(claim, scenario, arm, records)
    except (KeyError, ValueError):  # this run lacks the metric, the arm or the round
        return row
    mean = estimate(values) if reference is None else compare(values, reference)
    if error is None and len(values) > 1:
        differences = values if reference is None else values - reference
        error = float(np.std(differences, ddof=1))
        row["error"] = f"± {format_number(error)} (one replicate)"
    deviation = mean.value - target.value
    row |= {"simulated": format_interval(mean), "deviation": format_number(deviation)}
    if error:
        row["deviation"] += f" ({format_number(deviation / error, 2)} standard errors)"
    return row


# --- provenance ---------------------------------------------------------------------------------


def provenance_rows(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the main provenance fields."""
    versions, source = provenance.get("versions") or {}, provenance.get("source") or {}
    facts = {
        "mores": versions.get("mores"),
        "commit": source.get("commit") and source["commit"][:12],
        "uncommitted changes": source.get("changed") and f"yes, {source['changed']}",
        "PyTorch": versions.get("torch"),
        "Python": provenance.get("python"),
        "command": " ".join(map(str, provenance.get("command") or [])),
        "seed": provenance.get("seed"),
        "device": provenance.get("device"),
        "threads": provenance.get("threads"),
        "scenario hash": provenance.get("resolved_hash"),
        "started": provenance.get("started"),
        "finished": provenance.get("finished"),
        "duration in seconds": provenance.get("seconds"),
        "platform": provenance.get("platform"),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]
