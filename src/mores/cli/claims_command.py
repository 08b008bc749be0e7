"""Command `mores claims`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mores.cli.console import stdout_console
from mores.cli.exit_codes import exit_code_of
from mores.cli.inputs import load_with_plugins
from mores.cli.options import AllowUndecided, Jobs, Out, PluginFiles, ScenarioFiles
from mores.cli.verdict_output import print_verdicts
from mores.cli.verdict_table import claim_list
from mores.core.errors import UserError

if TYPE_CHECKING:
    from mores.experiments.scenario.loading import LoadedScenario

RUNS_FOLDER = Path("runs")


def claims_command(
    files: ScenarioFiles = None,
    run: Annotated[bool, typer.Option("--run", help="Run the scenarios first.")] = False,
    out: Out = None,
    load: PluginFiles = None,
    jobs: Jobs = 1,
    allow_undecided: AllowUndecided = False,
) -> int:
    """List the claims of scenarios with their papers and last verdicts; default: all bundled ones.

    The last verdicts are those of the newest finished run under `runs/`.
    """
    from mores.experiments.scenario.loading import bundled_scenarios

    loaded = [load_with_plugins(file, None, load) for file in files or bundled_scenarios()]
    if out is not None and not run:
        raise UserError("--out is the folder of new runs: add --run", code="conflict", path="out")
    if run:
        return _run_claims(loaded, out, jobs, allow_undecided)
    from mores.experiments.run.earlier_runs import finished_runs

    newest = {}
    for each in loaded:
        name = each.scenario.name
        if runs := finished_runs(RUNS_FOLDER / name, name):
            newest[name] = runs[0]
    stdout_console().print(claim_list([each.scenario for each in loaded], newest))
    return 0


def _run_claims(
    loaded: Sequence[LoadedScenario], out: Path | None, jobs: int, allow_undecided: bool
) -> int:
    """Run scenarios, print the verdicts on their claims, and return the exit code."""
    from mores.experiments.run import run_scenario
    from mores.experiments.run.parameter_uncertainty import plan_cells
    from mores.experiments.run.worker_pool import WorkerPool, num_processes

    plans = [plan_cells(scenario) for scenario in loaded]  # finds all errors before the first run
    results = []
    with contextlib.ExitStack() as stack:
        temporary = None if out else stack.enter_context(tempfile.TemporaryDirectory("", "mores-"))
        workers = 1  # one pool for all scenarios
        if num_processes(jobs) > 1:
            workers = stack.enter_context(WorkerPool(num_processes(jobs)))
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
    print_verdicts(stdout_console(), results)
    return exit_code_of(results, allow_undecided)
