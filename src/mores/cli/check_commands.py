"""Commands `mores check` and `mores calibrate`."""

from __future__ import annotations

from mores.cli.console import pluralize, stdout_console
from mores.cli.inputs import load_with_plugins
from mores.cli.options import HoldOut, Out, Overrides, PluginFiles, ScenarioFile


def check_command(
    file: ScenarioFile, overrides: Overrides = None, load: PluginFiles = None
) -> None:
    """Check a scenario without running it."""
    loaded = load_with_plugins(file, overrides, load)
    from mores.experiments.claims.decidable import undecidable_claims
    from mores.experiments.run.dry_run import check_scenario
    from mores.experiments.scenario.metric_check import undefined_metrics
    from mores.experiments.scenario.request_estimate import estimate_requests

    cells, scenario = check_scenario(loaded), loaded.scenario
    points = len(cells) // max(1, len(scenario.arms))
    parts = [
        pluralize(max(1, len(scenario.arms)), "arm"),
        *([pluralize(points, "sweep point")] if scenario.sweep else []),
        pluralize(scenario.replicates, "replicate"),
        pluralize(scenario.rounds, "round"),
        pluralize(len(scenario.claims), "claim"),
    ]
    print(f"{loaded.source_map.source}: OK: {', '.join(parts)}")
    populations = [cell.population for cell in cells if cell.population is not None]
    for remark in dict.fromkeys(line for each in populations for line in each.remarks):
        print(f"remark: {remark}")
    if (estimate := estimate_requests(scenario, cells)).requests:
        print(f"estimate: {estimate}")
    for name in undefined_metrics(scenario, cells):
        print(f"remark: {name} is NaN in every round of every arm")
    for line in undecidable_claims(scenario, cells):
        print(f"warning: {line}")


def calibrate_command(
    file: ScenarioFile,
    overrides: Overrides = None,
    hold_out: HoldOut = None,
    out: Out = None,
    load: PluginFiles = None,
) -> int:
    """Fit a scenario's parameters to empirical targets, and predict held-out targets."""
    loaded = load_with_plugins(file, overrides, load)
    from mores.experiments.calibration import run_calibrate_command

    return run_calibrate_command(loaded, stdout_console(), out, hold_out or ())
