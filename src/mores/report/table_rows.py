"""Rows of the report's tables: conditions, effects, metrics, calibration, provenance."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mores.analysis.intervals import estimate
from mores.core.component_names import split_component
from mores.core.environment import ENVIRONMENT
from mores.experiments.claims.claim_estimates import estimate_claim
from mores.experiments.scenario.specification import Claim, Scenario
from mores.report.figures.attribution import ArmEffect
from mores.report.figures.plot_data import (
    ReportData,
    flatten,
    format_interval,
    format_number,
    format_range,
    metric_label,
)
from mores.report.figures.value_labels import PointLabels, value_labels

Rows = list[list[Any]]
MAX_ROWS, MAX_COLUMNS = 200, 12
MAX_LISTED = 3  # models that stopped early


def arm_rows(scenario: Scenario) -> Rows:
    """Name of each arm, and the parameters that it sets."""
    return [[name, _format_changes(changes) or "none"] for name, changes in scenario.arms.items()]


def stage_rows(scenario: Scenario) -> Rows:
    """Name, loop, trained roles, episodes, rounds and parameters of each stage."""
    return [
        [
            stage.name,
            stage.loop,
            ", ".join(stage.roles_to_train) or "none",
            stage.episodes,
            scenario.rounds_per_episode(stage),
            _format_changes({**stage.env, **stage.policies}),
        ]
        for stage in scenario.stages
    ]


def training_warnings(data: ReportData) -> list[str]:
    """Sentences on models that stopped early or were never updated, for each cell."""

    def listing(messages: Sequence[Any]) -> str:
        text, omitted = "; ".join(map(str, messages[:MAX_LISTED])), len(messages) - MAX_LISTED
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


def parameter_rows(scenario: Scenario) -> Rows:
    """Parameters set in the scenario file, by dotted path."""
    components = {"env": scenario.env, "population": scenario.population}
    components |= {f"policies.{role}": policy for role, policy in scenario.policies.items()}
    rows: Rows = []
    for path, component in components.items():
        if component is not None:
            rows.append([path, component.kind])
            parameters = flatten(component.parameters, path).items()
            rows += [[name, _format_nested(value)] for name, value in parameters]
    return rows


def range_rows(scenario: Scenario) -> Rows:
    """Swept values and ranges of uncertain parameters."""
    swept = scenario.sweep.items()
    uncertain = scenario.uncertainty.parameters if scenario.uncertainty else {}
    rows = [[path, ", ".join(value_labels(values))] for path, values in swept]
    return rows + [[path, f"{format_range(*ends)}, uncertain"] for path, ends in uncertain.items()]


def _format_changes(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{path} = {_format_nested(value)}" for path, value in changes.items())


def _format_nested(value: Any) -> str:
    if isinstance(value, Mapping) and "kind" in value:
        parameters = ", ".join(f"{n} {_format_nested(v)}" for n, v in value.items() if n != "kind")
        return f"{value['kind']} ({parameters})" if parameters else str(value["kind"])
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_format_nested, value))}]"
    return "none" if value is None else str(value)


def effect_table(effects: Sequence[ArmEffect]) -> tuple[list[str], Rows]:
    """Columns and rows of the arms' effects: distance from the control and signed components."""
    names, rows = list(effects[0].components), []
    distance = [] if effects[0].distance is None else ["distance from the control"]
    for effect in effects:
        name = f"{effect.name} (interaction)" if effect.is_interaction else effect.name
        intervals = dict.fromkeys(distance, effect.distance) | dict(effect.components)
        texts = [format_interval(x) if (x := intervals.get(n)) else "" for n in distance + names]
        rows.append([name, ", ".join(effect.factors), *texts])
    return ["arm", "factors that differ from the control", *distance, *names], rows


def final_metric_table(data: ReportData) -> tuple[list[str], Rows]:
    """Columns and rows of the metrics at the end of the last stage, one row per cell."""
    values: dict[str, dict[str, str]] = {}
    labels = PointLabels(data.scenario.sweep)
    for cell in data.cells[:MAX_ROWS]:
        record = data.records[cell.id]
        point = labels.describe(cell.point)
        arm = cell.arm if data.scenario.arms else ""
        by_metric = values.setdefault(" · ".join(filter(None, (arm, point))) or cell.id, {})
        for name in _requested(data.scenario, record.names)[:MAX_COLUMNS]:
            final = record.by_replicate(name)[:, -1]
            is_finite = np.isfinite(final).all()
            text = format_interval(estimate(final)) if is_finite else "–"
            by_metric[metric_label(name, record)] = text
    columns = list(dict.fromkeys(name for by_metric in values.values() for name in by_metric))
    rows = [[title, *(row.get(name, "") for name in columns)] for title, row in values.items()]
    return ["arm" if data.scenario.arms else "cell", *columns], rows


def _requested(scenario: Scenario, names: Sequence[str]) -> list[str]:
    """The names without those of policies' metrics that the scenario does not list."""
    return [name for name in names if split_component(name)[0] in scenario.metric_names]


def _is_of_policy(scenario: Scenario, name: str) -> bool:
    """Whether a metric is one of `Policy.metrics`, called `ROLE.NAME`."""
    return "." in name and scenario.metric_specs.get(name, name) == name


def policy_totals(data: ReportData) -> tuple[list[str], Rows]:
    """Columns and rows of the metrics of policies: sums over all worlds, episodes and stages.

    Such as requests to a language model, replies without an action, and near ties. One row for each
    cell and role; no rows without such metrics.
    """
    totals: dict[tuple[str, str], dict[str, float]] = {}
    for cell in data.cells[:MAX_ROWS]:
        record = data.records[cell.id]
        for stage in record.stages:
            for name in filter(functools.partial(_is_of_policy, data.scenario), stage.names):
                role, _, metric = name.rpartition(".")
                row = totals.setdefault((cell.id, role), {})
                row[metric] = row.get(metric, 0.0) + float(stage.values(name)[..., -1].sum())
    columns = list(dict.fromkeys(name for row in totals.values() for name in sorted(row)))
    rows = [
        [cell, role, *(f"{row[name]:,.0f}" if name in row else "" for name in columns)]
        for (cell, role), row in totals.items()
    ]
    return ["cell", "role", *(name.replace("_", " ") for name in columns)], rows


def agent_rows(data: ReportData) -> Rows:
    """Arm and agents of each role with a `per_agent` policy: `player_0 (ppo), player_1 (random)`.

    The agents are in the order of the components of metrics by agent.
    """
    rows: Rows = []
    for arm, cell in data.cells_at_points[0].items():
        for role, policy in cell.policies.items():
            if policy["kind"] == "per_agent":
                rows.append([arm, _format_agents(role, policy)])
    return rows


def _format_agents(role: str, policy: Mapping[str, Any]) -> str:
    texts, first = [], 0
    members = policy["policies"]
    for member, count in zip(
        members, policy.get("agents_per_policy") or [1] * len(members), strict=True
    ):
        last = f" to {role}_{first + count - 1}" if count > 1 else ""
        kind = member["kind"] if isinstance(member, Mapping) else member
        texts.append(f"{role}_{first}{last} ({kind})")
        first += count
    return ", ".join(texts)


def uncoupled_roles(data: ReportData) -> list[str]:
    """Roles whose draws the arms do not share."""
    return sorted(data.uncoupled_roles - {ENVIRONMENT})


def fitted_parameter_rows(data: ReportData) -> Rows:
    """Path, value in this run and search range of each calibrated parameter."""
    section = data.scenario.calibration
    values = data.parameters(data.scenario.control or data.arms[0])
    texts = {path: _format_nested(value) for path, value in values.items() if value is not None}
    ranges = section.parameters.items() if section else ()
    return [[path, texts.get(path, "default"), format_range(*ends)] for path, ends in ranges]


def target_rows(data: ReportData) -> Rows:
    """Rows of the calibration targets with their simulated values at the first point.

    Statement, empirical value with its error, simulated value, deviation, usage, source.
    """
    section, rows = data.scenario.calibration, []
    for target in section.targets if section else ():
        fields = target.model_dump(include={"statement", "metric", "arm", "compare_to", "at_round"})
        error = target.standard_error
        value, note = format_number(target.value), ""
        simulated, deviation = "not recorded", ""
        try:
            claim = Claim(kind="report", **fields)
            claim_data = data.claim_data(claim)[0]
        except (KeyError, ValueError):  # this run lacks the metric, the arm or the round
            pass
        else:
            mean, differences = estimate_claim(claim, claim_data), claim_data.differences
            if error is None and len(differences) > 1:
                error, note = float(np.std(differences, ddof=1)), " (one replicate)"
            simulated, difference = format_interval(mean), mean.value - target.value
            deviation = format_number(difference)
            if error:
                deviation += f" ({format_number(difference / error, 2)} standard errors)"
        empirical = value if error is None else f"{value} ± {format_number(error)}{note}"
        usage = "held out (predicted)" if target.held_out else "fitted"
        rows.append([target.statement, empirical, simulated, deviation, usage, target.source or ""])
    return rows


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
