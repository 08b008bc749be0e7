"""Commands `mores run`, `resume` and `extend`."""

from __future__ import annotations

import re
from typing import Any

from mores.cli.cell_workers import cell_workers
from mores.cli.command_output import command_output
from mores.cli.inputs import activity, load_with_plugins
from mores.cli.options import (
    Additions,
    AllowUndecided,
    ExtendedScenario,
    Folder,
    Force,
    Jobs,
    Json,
    LauncherName,
    LauncherOptions,
    MovedPluginFiles,
    Open,
    Out,
    Overrides,
    PluginFiles,
    Quiet,
    ReplicateList,
    ScenarioFile,
    Track,
    Verbose,
)
from mores.cli.verdict_output import print_result
from mores.core.errors import UserError


def run_command(
    file: ScenarioFile,
    overrides: Overrides = None,
    out: Out = None,
    load: PluginFiles = None,
    only: ReplicateList = None,
    jobs: Jobs = None,
    launcher: LauncherName = None,
    launcher_option: LauncherOptions = None,
    track: Track = None,
    allow_undecided: AllowUndecided = False,
    open_browser: Open = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> int:
    """Run a scenario, evaluate its claims, and write a report."""
    with command_output(quiet, verbose, json) as output:
        loaded = load_with_plugins(file, overrides, load)
        replicates = None if only is None else _replicates(only, loaded.scenario.replicates)
        from mores.experiments.run import run_scenario

        with cell_workers(jobs, launcher, launcher_option) as workers:
            options: Any = {"only_replicates": replicates, "jobs": workers, "track": track}
            result = run_scenario(loaded, out=out, **options)
        return print_result(output, result, allow_undecided, open_browser)


def resume_command(
    folder: Folder,
    jobs: Jobs = None,
    launcher: LauncherName = None,
    launcher_option: LauncherOptions = None,
    load: MovedPluginFiles = None,
    force: Force = False,
    track: Track = None,
    allow_undecided: AllowUndecided = False,
    open_browser: Open = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> int:
    """Resume a run that was stopped: simulate missing cells, evaluate claims, write the report."""
    with command_output(quiet, verbose, json) as output:
        with activity(f"reading {folder}"):
            from mores.experiments.run import resume_run

        with cell_workers(jobs, launcher, launcher_option, load) as workers:
            result = resume_run(folder, workers, load or (), force, track=track)
        return print_result(output, result, allow_undecided, open_browser)


def extend_command(
    folder: Folder,
    overrides: Additions = None,
    scenario: ExtendedScenario = None,
    jobs: Jobs = None,
    launcher: LauncherName = None,
    launcher_option: LauncherOptions = None,
    load: MovedPluginFiles = None,
    allow_undecided: AllowUndecided = False,
    open_browser: Open = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> int:
    """Add replicates, arms or rounds to a run, and simulate only what is new.

    If `rounds` increases, every cell is simulated again from round 0. Claims whose data changed get
    a new verdict.
    """
    with command_output(quiet, verbose, json) as output:
        with activity(f"reading {folder}"):
            from mores.experiments.run import extend

        options: Any = {"overrides": overrides or (), "scenario": scenario}
        with cell_workers(jobs, launcher, launcher_option, load) as workers:
            result = extend(folder, **options, jobs=workers, plugin_files=load or ())
        return print_result(output, result, allow_undecided, open_browser)


def _replicates(text: str, count: int) -> list[int]:
    """Replicate indices from text such as `37,40-43`."""
    replicates: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
        if not match:
            message = f"--only {text}: must look like 37,40-43"
            raise UserError(message, code="invalid_value", path="only")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            message = f"--only {text}: {first}-{last} is reversed, write {last}-{first}"
            raise UserError(message, code="invalid_value", path="only")
        if last >= count:
            message = f"--only {text}: replicates must be between 0 and {count - 1}"
            raise UserError(message, code="out_of_range", path="only")
        replicates.update(range(first, last + 1))
    return sorted(replicates)
