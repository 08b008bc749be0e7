"""Tables of a report: conditions, what was calibrated to what, effects in numbers, provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mores.analysis.intervals import compare, estimate
from mores.experiments.claims.claim_evaluation import figures_of
from mores.experiments.scenario.claim_inputs import arm_of
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Target
from mores.report.figures.attribution_plots import Effect
from mores.report.figures.plot_data import Shown, interval, measure_name, number
from mores.report.figures.sweep_plots import said

Row = dict[str, Any]
MOST_ROWS, MOST_COLUMNS = 200, 12


def arms(shown: Shown) -> list[Row]:
    """The arms: name, look, what differs, which is the control."""
    scenario = shown.scenario
    return [
        {
            "name": name,
            "look": shown.look(name),
            "differs": ", ".join(f"{path} = {_plain(value)}" for path, value in changes.items())
            or "nothing: as the scenario says",
            "control": name == scenario.control,
        }
        for name, changes in scenario.arms.items()
    ]


def stages(scenario: Scenario) -> list[Row]:
    """The stages, where any are named."""
    return [
        {
            "name": stage.name,
            "loop": stage.loop,
            "learn": ", ".join(stage.learn) or "nobody",
            "episodes": stage.episodes,
            "rounds": scenario.rounds_in(stage),
            "differs": ", ".join(
                f"{path} = {_plain(value)}"
                for path, value in {**stage.env, **stage.players}.items()
            ),
        }
        for stage in scenario.stages
    ]


def stopped(shown: Shown, most: int = 3) -> list[str]:
    """How many learners stopped early, and who learned nothing, a line for each cell."""
    lines = []
    for cell in shown.cells:
        record = shown.records[cell.id]
        count = len(record.stopped)
        if count:
            of = f" of {record.learners}" if record.learners else ""
            who = f"{count}{of} learner{'s' if of or count > 1 else ''}"
            where = f" in {cell.id}" if len(shown.cells) > 1 else ""
            so = "count as they were then" if count > 1 else "counts as it was then"
            told = "; ".join(map(str, record.stopped[:most]))
            more = f"; and {count - most} more, in log.txt" if count > most else ""
            lines.append(f"{who} stopped early{where}, and {so}: {told}{more}.")
        idle = [one for one in record.taught if one.idle]
        if idle:
            more = f"; and {len(idle) - most} more, in log.txt" if len(idle) > most else ""
            lines.append(f"In {cell.id}, {'; '.join(map(str, idle[:most]))}{more}.")
    return lines


def parameters(scenario: Scenario) -> list[tuple[str, str]]:
    """What the file sets, by dotted path; the rest is at its default."""
    named = {"env": scenario.env, "people": scenario.people}
    named |= {f"players.{role}": player for role, player in scenario.players.items()}
    rows = []
    for path, part in named.items():
        if part is not None:
            rows.append((path, part.kind))
            parts = _flat(part.parameters, path) if part.parameters else ()
            rows += [(place, _plain(value)) for place, value in parts]
    return rows


def ranges(scenario: Scenario) -> list[tuple[str, str]]:
    """What is swept, and what is not known."""
    swept = [(path, ", ".join(map(said, values))) for path, values in scenario.sweep.items()]
    uncertain = scenario.uncertain.parameters if scenario.uncertain else {}
    known = [(path, f"{number(a)} to {number(b)}, uncertain") for path, (a, b) in uncertain.items()]
    return swept + known


def _flat(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(part, Mapping) and part:
        for name, below in part.items():
            yield from _flat(below, f"{path}.{name}")
    else:
        yield path, part


def _plain(value: Any) -> str:
    if isinstance(value, Mapping) and "kind" in value:
        rest = ", ".join(f"{n} {_plain(v)}" for n, v in value.items() if n != "kind")
        return f"{value['kind']} ({rest})" if rest else str(value["kind"])
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_plain, value))}]"
    return "none" if value is None else str(value)


def effects(rows: Sequence[Effect]) -> list[Row]:
    """Effects in numbers: how far each arm went from its twin, and which way."""
    return [
        {
            "name": row.name,
            "beyond": row.beyond,
            "causes": ", ".join(row.causes),
            "far": "" if row.distance is None else interval(row.distance),
            "parts": [interval(part) for part in row.parts.values()],
        }
        for row in rows
    ]


def ends(shown: Shown) -> tuple[list[str], list[Row]]:
    """Every measure at the end of the last stage: names of columns, and a row for each cell."""
    names: dict[str, None] = {}
    rows = []
    for cell in shown.cells[:MOST_ROWS]:
        record = shown.records[cell.id]
        point = ", ".join(f"{path} = {said(value)}" for path, value in cell.point.items())
        arm = cell.arm if shown.scenario.arms else ""
        found = {}
        for name in list(record.measures)[:MOST_COLUMNS]:
            title = measure_name(name, record)
            last = record.by_replicate(name)[:, -1]
            found[title] = interval(estimate(last)) if np.isfinite(last).all() else "–"
        names |= dict.fromkeys(found)
        rows.append({"name": " · ".join(filter(None, (arm, point))) or "everybody", "ends": found})
    columns = list(names)
    for row in rows:
        row["ends"] = [row["ends"].get(name, "") for name in columns]
    return columns, rows


# --- calibration --------------------------------------------------------------------------------


def fitted(shown: Shown, calibration: Any = None) -> list[Row]:
    """Parameters that are fitted: the range searched, the value in this run, its interval.

    Args:
        shown: the run.
        calibration: the `mores.experiments.calibration.Calibrated` that set them, where it is at hand.
    """
    asked = shown.scenario.calibration
    if asked is None or not shown.cells:
        return []
    found = {p.path: p for p in calibration.parameters} if calibration is not None else {}
    cell = shown.cells[0] if shown.scenario.control is None else shown.cell(shown.scenario.control)
    whole = {"env": cell.env, "people": cell.people, "players": cell.players}
    rows = []
    for path, (low, high) in asked.parameters.items():
        fit = found.get(path)
        value = _standing(whole, path)
        rows.append(
            {
                "path": path,
                "value": "its default" if value is None else _plain(value),
                "searched": f"{number(low)} to {number(high)}",
                "interval": f"{number(fit.low)} to {number(fit.high)}" if fit else "",
            }
        )
    return rows


def _standing(whole: Any, path: str) -> Any:
    for part in path.split("."):
        whole = whole.get(part) if isinstance(whole, Mapping) else None
    return whole


def targets(shown: Shown) -> list[Row]:
    """Figures of the real world, and what this run has: over replicates, at the first point."""
    asked = shown.scenario.calibration
    if asked is None or not shown.cells:
        return []
    return [_target(target, shown) for target in asked.targets]


def _target(target: Target, shown: Shown) -> Row:
    claim = Claim(
        says=target.says, kind="report", measure=target.measure, arm=target.arm,
        against=target.against, at=target.at,
    )  # fmt: skip
    scenario = shown.scenario
    row: Row = {
        "says": target.says,
        "value": number(target.value),
        "error": "" if target.error is None else f"± {number(target.error)}",
        "source": target.source or "",
        "held_out": target.held_out,
        "simulated": "not measured",
        "off": "",
    }
    try:
        found = figures_of(
            claim, scenario, arm_of(scenario, claim) or "", shown.at(shown.points[0])
        )
    except (KeyError, ValueError):  # a measure, an arm or a round that this run has not
        return row
    values = found.values if found.reference is None else found.values - found.reference
    mean = (
        estimate(found.values)
        if found.reference is None
        else compare(found.values, found.reference)
    )
    error = target.error
    if error is None and len(values) > 1:
        error = float(np.std(values, ddof=1))  # as much as one replicate varies
        row["error"] = f"± {number(error)} (one replicate)"
    off = mean.value - target.value
    row |= {"simulated": interval(mean), "off": number(off)}
    if error:
        row["off"] += f" ({number(off / error, 2)} standard errors)"
    return row


# --- where it comes from ------------------------------------------------------------------------


def provenance(origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few facts that a reader looks for; all of it stands below them."""
    versions, source = origin.get("versions") or {}, origin.get("source") or {}
    told = {
        "mores": versions.get("mores"),
        "source": source.get("commit") and source["commit"][:12],
        "changed since": source.get("changed") and f"yes, {source['changed']}",
        "PyTorch": versions.get("torch"),
        "Python": origin.get("python"),
        "command": " ".join(map(str, origin.get("command") or [])),
        "seed": origin.get("seed"),
        "device": origin.get("device"),
        "threads": origin.get("threads"),
        "scenario": origin.get("resolved_hash"),
        "started": origin.get("started"),
        "finished": origin.get("finished"),
        "seconds": origin.get("seconds"),
        "machine": origin.get("platform"),
    }
    return [(name, str(value)) for name, value in told.items() if value not in (None, "")]
