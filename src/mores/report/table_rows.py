"""Tables of a report: conditions, what was calibrated to what, effects in numbers, provenance."""

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
    """The arms: name, look, what differs, which is the control."""
    scenario = data.scenario
    return [
        {
            "name": name,
            "look": data.style(name),
            "differs": ", ".join(
                f"{path} = {_format_nested(value)}" for path, value in changes.items()
            )
            or "nothing: as the scenario says",
            "control": name == scenario.control,
        }
        for name, changes in scenario.arms.items()
    ]


def stage_rows(scenario: Scenario) -> list[TableRow]:
    """The stages, where any are named."""
    return [
        {
            "name": stage.name,
            "loop": stage.loop,
            "learn": ", ".join(stage.roles_to_train) or "nobody",
            "episodes": stage.episodes,
            "rounds": scenario.rounds_per_episode(stage),
            "differs": ", ".join(
                f"{path} = {_format_nested(value)}"
                for path, value in {**stage.env, **stage.policies}.items()
            ),
        }
        for stage in scenario.stages
    ]


def training_warnings(data: ReportData, max_listed: int = 3) -> list[str]:
    """How many learners stopped early, and who learned nothing, a line for each cell."""
    lines = []
    for cell in data.cells:
        record = data.records[cell.id]
        count = len(record.stopped)
        if count:
            of = f" of {record.num_models}" if record.num_models else ""
            who = f"{count}{of} learner{'s' if of or count > 1 else ''}"
            where = f" in {cell.id}" if len(data.cells) > 1 else ""
            so = "count as they were then" if count > 1 else "counts as it was then"
            told = "; ".join(map(str, record.stopped[:max_listed]))
            more = f"; and {count - max_listed} more, in log.txt" if count > max_listed else ""
            lines.append(f"{who} stopped early{where}, and {so}: {told}{more}.")
        idle = [one for one in record.training_statuses if one.num_not_updated]
        if idle:
            more = (
                f"; and {len(idle) - max_listed} more, in log.txt" if len(idle) > max_listed else ""
            )
            lines.append(f"In {cell.id}, {'; '.join(map(str, idle[:max_listed]))}{more}.")
    return lines


def parameter_rows(scenario: Scenario) -> list[tuple[str, str]]:
    """What the file sets, by dotted path; the rest is at its default."""
    named = {"env": scenario.env, "people": scenario.population}
    named |= {f"players.{role}": player for role, player in scenario.policies.items()}
    rows = []
    for path, part in named.items():
        if part is not None:
            rows.append((path, part.kind))
            parts = _flatten(part.parameters, path) if part.parameters else ()
            rows += [(place, _format_nested(value)) for place, value in parts]
    return rows


def range_rows(scenario: Scenario) -> list[tuple[str, str]]:
    """What is swept, and what is not known."""
    swept = [
        (path, ", ".join(map(format_value, values))) for path, values in scenario.sweep.items()
    ]
    uncertain = scenario.uncertainty.parameters if scenario.uncertainty else {}
    known = [
        (path, f"{format_number(a)} to {format_number(b)}, uncertain")
        for path, (a, b) in uncertain.items()
    ]
    return swept + known


def _flatten(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(part, Mapping) and part:
        for name, below in part.items():
            yield from _flatten(below, f"{path}.{name}")
    else:
        yield path, part


def _format_nested(value: Any) -> str:
    if isinstance(value, Mapping) and "kind" in value:
        rest = ", ".join(f"{n} {_format_nested(v)}" for n, v in value.items() if n != "kind")
        return f"{value['kind']} ({rest})" if rest else str(value["kind"])
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_format_nested, value))}]"
    return "none" if value is None else str(value)


def effect_rows(effects: Sequence[ArmEffect]) -> list[TableRow]:
    """Effects in numbers: how far each arm went from its twin, and which way."""
    return [
        {
            "name": row.name,
            "beyond": row.is_interaction,
            "causes": ", ".join(row.factors),
            "far": "" if row.distance is None else format_interval(row.distance),
            "parts": [format_interval(part) for part in row.components.values()],
        }
        for row in effects
    ]


def final_metric_rows(data: ReportData) -> tuple[list[str], list[TableRow]]:
    """Every measure at the end of the last stage: names of columns, and a row for each cell."""
    names: dict[str, None] = {}
    rows = []
    for cell in data.cells[:MAX_ROWS]:
        record = data.records[cell.id]
        point = ", ".join(f"{path} = {format_value(value)}" for path, value in cell.point.items())
        arm = cell.arm if data.scenario.arms else ""
        found = {}
        for name in list(record.metrics)[:MAX_COLUMNS]:
            title = metric_label(name, record)
            last = record.by_replicate(name)[:, -1]
            found[title] = format_interval(estimate(last)) if np.isfinite(last).all() else "–"
        names |= dict.fromkeys(found)
        rows.append({"name": " · ".join(filter(None, (arm, point))) or "everybody", "ends": found})
    columns = list(names)
    for row in rows:
        row["ends"] = [row["ends"].get(name, "") for name in columns]
    return columns, rows


# --- calibration --------------------------------------------------------------------------------


def fitted_parameter_rows(data: ReportData, calibration: Any = None) -> list[TableRow]:
    """Parameters that are fitted: the range searched, the value in this run, its interval.

    Args:
        data: the run.
        calibration: the `mores.experiments.calibration.CalibrationResult` that set them, where it is at hand.
    """
    asked = data.scenario.calibration
    if asked is None or not data.cells:
        return []
    found = {p.path: p for p in calibration.parameters} if calibration is not None else {}
    cell = data.cells[0] if data.scenario.control is None else data.cell(data.scenario.control)
    whole = {"env": cell.env, "people": cell.population, "players": cell.policies}
    rows = []
    for path, (low, high) in asked.parameters.items():
        fit = found.get(path)
        value = _value_at_path(whole, path)
        rows.append(
            {
                "path": path,
                "value": "its default" if value is None else _format_nested(value),
                "searched": f"{format_number(low)} to {format_number(high)}",
                "interval": f"{format_number(fit.low)} to {format_number(fit.high)}" if fit else "",
            }
        )
    return rows


def _value_at_path(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def target_rows(data: ReportData) -> list[TableRow]:
    """Figures of the real world, and what this run has: over replicates, at the first point."""
    asked = data.scenario.calibration
    if asked is None or not data.cells:
        return []
    return [_target_row(target, data) for target in asked.targets]


def _target_row(target: Target, data: ReportData) -> TableRow:
    claim = Claim(
        statement=target.statement, kind="report", metric=target.metric, arm=target.arm,
        compare_to=target.compare_to, at_round=target.at_round,
    )  # fmt: skip
    scenario = data.scenario
    row: TableRow = {
        "says": target.statement,
        "value": format_number(target.value),
        "error": ""
        if target.standard_error is None
        else f"± {format_number(target.standard_error)}",
        "source": target.source or "",
        "held_out": target.held_out,
        "simulated": "not measured",
        "off": "",
    }
    try:
        found = make_claim_data(
            claim, scenario, claim_arm(scenario, claim) or "", data.records_at(data.points[0])
        )
    except (KeyError, ValueError):  # a measure, an arm or a round that this run has not
        return row
    values = found.values if found.reference is None else found.values - found.reference
    mean = (
        estimate(found.values)
        if found.reference is None
        else compare(found.values, found.reference)
    )
    error = target.standard_error
    if error is None and len(values) > 1:
        error = float(np.std(values, ddof=1))  # as much as one replicate varies
        row["error"] = f"± {format_number(error)} (one replicate)"
    off = mean.value - target.value
    row |= {"simulated": format_interval(mean), "off": format_number(off)}
    if error:
        row["off"] += f" ({format_number(off / error, 2)} standard errors)"
    return row


# --- where it comes from ------------------------------------------------------------------------


def provenance_rows(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few facts that a reader looks for; all of it stands below them."""
    versions, source = provenance.get("versions") or {}, provenance.get("source") or {}
    told = {
        "mores": versions.get("mores"),
        "source": source.get("commit") and source["commit"][:12],
        "changed since": source.get("changed") and f"yes, {source['changed']}",
        "PyTorch": versions.get("torch"),
        "Python": provenance.get("python"),
        "command": " ".join(map(str, provenance.get("command") or [])),
        "seed": provenance.get("seed"),
        "device": provenance.get("device"),
        "threads": provenance.get("threads"),
        "scenario": provenance.get("resolved_hash"),
        "started": provenance.get("started"),
        "finished": provenance.get("finished"),
        "seconds": provenance.get("seconds"),
        "machine": provenance.get("platform"),
    }
    return [(name, str(value)) for name, value in told.items() if value not in (None, "")]
