"""Command `mores claims`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mores.cli.cell_workers import cell_workers
from mores.cli.command_output import CommandOutput, command_output
from mores.cli.exit_codes import exit_code_of
from mores.cli.inputs import RUNS_FOLDER, activity, load_with_plugins
from mores.cli.options import (
    AllowUndecided,
    Jobs,
    Json,
    LauncherName,
    LauncherOptions,
    Open,
    OutOfClaims,
    PluginFiles,
    Quiet,
    ScenarioFiles,
    Verbose,
)
from mores.cli.report_opening import open_report
from mores.cli.verdict_output import print_verdicts
from mores.core.errors import UserError

if TYPE_CHECKING:
    from mores.cli.json_output import ListedScenario
    from mores.experiments.run.cell_executor import CellExecutor
    from mores.experiments.run.earlier_runs import EarlierRun
    from mores.experiments.scenario.loading import LoadedScenario
    from mores.experiments.scenario.specification import Scenario


def claims_command(
    files: ScenarioFiles = None,
    run: Annotated[bool, typer.Option("--run", help="Run the scenarios first.")] = False,
    out: OutOfClaims = None,
    load: PluginFiles = None,
    jobs: Jobs = None,
    launcher: LauncherName = None,
    launcher_option: LauncherOptions = None,
    allow_undecided: AllowUndecided = False,
    open_browser: Open = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> int:
    """List the claims of scenarios with their papers and last verdicts; default: all bundled ones.

    The last verdicts are those of the newest finished run under `runs/`.
    """
    with command_output(quiet, verbose, json) as output:
        with activity("reading scenarios"):
            from mores.experiments.scenario.loading import bundled_scenarios

            loaded = [load_with_plugins(file, None, load) for file in files or bundled_scenarios()]
        if out is not None and not run:
            message = "--out is the folder of new runs: add --run"
            raise UserError(message, code="conflict", path="out")
        if open_browser and out is None:
            message = "--open needs reports that remain: add --run --out DIR"
            raise UserError(message, code="conflict", path="open")
        of_runs = {"jobs": jobs, "launcher": launcher, "launcher_option": launcher_option}
        for name, value in of_runs.items():
            if value is not None and not run:
                message = f"--{name.replace('_', '-')} is an option of new runs: add --run"
                raise UserError(message, code="conflict", path=name)
        if run:
            with cell_workers(jobs, launcher, launcher_option) as workers:  # for all scenarios
                return _run_claims(output, loaded, out, workers, allow_undecided, open_browser)
        _print_claims(output, [each.scenario for each in loaded])
        return 0


def _print_claims(output: CommandOutput, scenarios: Sequence[Scenario]) -> None:
    from mores.experiments.run.earlier_runs import finished_runs

    newest = {}
    for scenario in scenarios:
        if runs := finished_runs(RUNS_FOLDER / scenario.name, scenario.name):
            newest[scenario.name] = runs[0]
    if output.json:
        from mores.cli import json_output

        listed = [_listed_scenario(scenario, newest) for scenario in scenarios]
        output.print_json(json_output.ClaimListing(scenarios=listed))
        return
    from mores.cli.verdict_tables import claim_view

    output.console.print(claim_view(scenarios, newest, output.console.width))


def _listed_scenario(scenario: Scenario, newest: Mapping[str, EarlierRun]) -> ListedScenario:
    from mores.cli import json_output

    run = newest.get(scenario.name)
    return json_output.ListedScenario(
        scenario=scenario.name,
        source=scenario.source,
        last_run=None if run is None else str(run.folder),
        claims=[
            json_output.ListedClaim(
                statement=claim.statement,
                kind=claim.kind,
                source=claim.source,
                verdict=None if run is None else run.verdict(claim),
            )
            for claim in scenario.claims
        ],
    )


def _run_claims(
    output: CommandOutput,
    loaded: Sequence[LoadedScenario],
    out: Path | None,
    workers: int | CellExecutor,
    allow_undecided: bool,
    open_browser: bool,
) -> int:
    """Run scenarios, print the verdicts on their claims, and return the exit code."""
    from mores.experiments.run import run_scenario
    from mores.experiments.run.parameter_uncertainty import plan_cells

    plans = [plan_cells(scenario) for scenario in loaded]  # finds all errors before the first run
    results = []
    with contextlib.ExitStack() as stack:
        temporary = None if out else stack.enter_context(tempfile.TemporaryDirectory("", "mores-"))
        for i, each in enumerate(loaded):
            name = each.scenario.name
            folder = (out or Path(temporary or "")) / name
            if name in {other.scenario.name for other in loaded[:i]}:
                folder = folder.with_name(f"{name}-{i}")
            try:
                results.append(run_scenario(each, out=folder, jobs=workers, plan=plans[i]))
            except BaseException as error:
                if temporary:
                    error.__notes__ = []  # the run folder is deleted: no resume
                raise
    if output.json:
        from mores.cli.json_output import RunReports, run_report

        runs = [run_report(result, is_temporary=out is None) for result in results]
        output.print_json(RunReports(runs=runs))
    else:
        print_verdicts(output, results)
    for result in results if open_browser else ():
        open_report(result.report_path)
    return exit_code_of(results, allow_undecided)
