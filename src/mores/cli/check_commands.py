"""Commands `mores check` and `mores calibrate`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mores.cli.command_output import CommandOutput, command_output
from mores.cli.console import pluralize
from mores.cli.inputs import activity, load_with_plugins
from mores.cli.options import (
    HoldOut,
    Json,
    Out,
    Overrides,
    PluginFiles,
    Quiet,
    ScenarioFile,
    Verbose,
)
from mores.core.errors import UserError

if TYPE_CHECKING:
    from mores.cli.json_output import CheckResult
    from mores.experiments.scenario.cell import BuiltCell
    from mores.experiments.scenario.loading import LoadedScenario


def check_command(
    file: ScenarioFile,
    overrides: Overrides = None,
    load: PluginFiles = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Check a scenario without running it."""
    with command_output(quiet, verbose, json) as output:
        try:
            loaded = load_with_plugins(file, overrides, load)
            from mores.experiments.run.dry_run import check_scenario

            with activity(f"checking {loaded.scenario.name}"):
                result = _check_result(loaded, check_scenario(loaded))
        except UserError as error:
            if json:
                _print_problems(output, file, error)
            raise
        if json:
            output.print_json(result)
            return
        for line in _lines(result):
            output.print(line)


def _check_result(loaded: LoadedScenario, cells: tuple[BuiltCell, ...]) -> CheckResult:
    """Sizes of a valid scenario, and remarks on it."""
    from mores.cli.json_output import CheckResult
    from mores.experiments.claims.decidable import undecidable_claims
    from mores.experiments.scenario.metric_check import undefined_metrics
    from mores.experiments.scenario.request_estimate import estimate_requests

    scenario = loaded.scenario
    num_arms = max(1, len(scenario.arms))
    remarks = list(dict.fromkeys(line for cell in cells for line in cell.remarks))
    undefined = undefined_metrics(scenario, cells)
    remarks += [f"{name} is NaN in every round of every arm" for name in undefined]
    estimate = estimate_requests(scenario, cells)
    return CheckResult(
        file=loaded.source_map.source,
        ok=True,
        problems=[],
        arms=num_arms,
        sweep_points=len(cells) // num_arms if scenario.sweep else None,
        replicates=scenario.replicates,
        rounds=scenario.rounds,
        claims=len(scenario.claims),
        remarks=remarks,
        warnings=list(undecidable_claims(scenario, cells)),
        requests=estimate.requests,
        prompt_tokens=estimate.prompt_tokens,
        reply_tokens=estimate.reply_tokens,
        estimate=str(estimate) if estimate.requests else None,
    )


def _lines(result: CheckResult) -> Iterator[str]:
    """The result in words."""
    counts = {
        "arm": result.arms,
        "sweep point": result.sweep_points,
        "replicate": result.replicates,
        "round": result.rounds,
        "claim": result.claims,
    }
    parts = [pluralize(count, noun) for noun, count in counts.items() if count is not None]
    yield f"{result.file}: OK: {', '.join(parts)}"
    for remark in result.remarks:
        yield f"remark: {remark}"
    if result.estimate:
        yield f"estimate: {result.estimate}"
    for warning in result.warnings:
        yield f"warning: {warning}"


def _print_problems(output: CommandOutput, file: str, error: UserError) -> None:
    """Print an error as JSON: one problem for each error of a scenario."""
    from mores.cli.json_output import CheckProblem, CheckResult
    from mores.experiments.scenario.source_locations import ScenarioError, format_path

    def problem(
        path: str,
        code: str,
        message: str,
        source: str | None = None,
        line: int = 0,
        column: int = 0,
    ) -> CheckProblem:
        place = {"file": source, "line": line or None, "column": column or None}
        return CheckProblem(**place, path=path, code=code, message=message)

    problems = [problem(error.path, error.code, str(error))]
    if isinstance(error, ScenarioError):
        problems = [
            problem(format_path(each.path), each.code, each.message, *each.location)
            for each in error.problems
        ]
    output.print_json(CheckResult(file=file, ok=False, problems=problems))


def calibrate_command(
    file: ScenarioFile,
    overrides: Overrides = None,
    hold_out: HoldOut = None,
    out: Out = None,
    load: PluginFiles = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Fit a scenario's parameters to empirical targets, and predict held-out targets."""
    with command_output(quiet, verbose) as output:
        loaded = load_with_plugins(file, overrides, load)
        with activity(f"checking {loaded.scenario.name}"):
            from mores.experiments.calibration import run_calibrate_command

        return run_calibrate_command(loaded, output.console, out, hold_out or ())
