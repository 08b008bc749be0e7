"""Commands: `mores run`, `resume`, `extend`, `check`, `calibrate`, `list`, `describe`, `claims`.

Exit codes: see `EXIT_CODES`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mores.cli.console import claim_list, pluralize, stdout_console, verdict_table
from mores.core.errors import UserError, describe_exception, nearest_name, printable
from mores.registry.plugins import load_plugins

if TYPE_CHECKING:
    from rich.console import Console

    from mores.experiments.run import RunResult
    from mores.experiments.run.cell_executor import CellExecutor
    from mores.experiments.scenario.loading import LoadedScenario

USER_ERROR, DEFECT, INTERRUPTED, PIPE_CLOSED = 2, 3, 130, 141
RUNS_FOLDER = Path("runs")
# Errors of the file system that depend on the folder that the user chose.
DISK_ERRNOS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EEXIST, errno.ENOTDIR,
    errno.ENOENT, errno.EFBIG, errno.EDQUOT, errno.EIO,
}  # fmt: skip

EXIT_CODES = (
    "Exit codes: 0: success; 1: a claim failed or, without --allow-undecided, is undecided; "
    "2: wrong input, one line for each error on standard error; 3: an unexpected exception; "
    "130: interrupted (Ctrl-C); 141: the pipe of the output was closed; 143: terminated (SIGTERM)."
)

app = typer.Typer(
    epilog=EXIT_CODES,
    help="Communities of people and AI agents whose values move.",
    add_completion=False,
    no_args_is_help=False,
)

ScenarioFile = Annotated[
    str, typer.Argument(metavar="FILE", help="Scenario file, or name of a bundled scenario.")
]
ScenarioFiles = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE", help="Scenario files; default: all bundled scenarios."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH=VALUE",
        help="Overrides of the scenario, such as rounds=50 env.num_people=30.",
    ),
]
Additions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH=VALUE",
        help="Settings of the extended run: replicates=128 are 128 in all, not 128 more.",
    ),
]
ExtendedScenario = Annotated[
    Path | None,
    typer.Option(
        "--scenario",
        metavar="FILE",
        help="Scenario file that has further arms, or other figures; default: that of the run.",
    ),
]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--load",
        metavar="FILE.py",
        help="Python file with classes of your own, executed first; repeat it for several files.",
    ),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Output folder.")]
ReplicateList = Annotated[
    str | None,
    typer.Option("--only", metavar="LIST", help="Replicates to run, such as 37,40-43."),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        min=0,
        help="Number of parallel processes; 0: one per core; default 1. With --launcher: number of "
        "cells at a time; default: as many as there is room for.",
    ),
]
LauncherName = Annotated[
    str | None,
    typer.Option(
        "--launcher",
        metavar="NAME",
        help="Where cells are simulated: local (this machine), ray, slurm, or a launcher of your "
        "own.",
    ),
]
LauncherOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--launcher-option",
        metavar="NAME=VALUE",
        help="Option of the launcher, see `mores describe ray`; repeat it for several.",
    ),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Log metrics of every cell while it is simulated: tensorboard, wandb, mlflow, jsonl, "
        "or a tracker of your own; repeat it for several trackers.",
    ),
]
AllowUndecided = Annotated[
    bool, typer.Option("--allow-undecided", help="Exit with 0 also if a claim is undecided.")
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")]
MovedPluginFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--load",
        metavar="FILE.py",
        help="Python file of the run that is now at another path, or (extend) a file that new arms "
        "need.",
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Resume even if versions of packages or files of --load have changed.",
    ),
]
HoldOut = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Target that is not fitted but predicted; repeat it for several."
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A name from `mores list`.")]
TagFilters = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="TAG[=VALUE]",
        help="Only entries with this tag; repeat it for several tags.",
    ),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are lines on standard error."""
    command = typer.main.get_command(app)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a character of a claim
    try:
        with command.make_context("mores", arguments or ["--help"]) as context:
            code = command.invoke(context)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except UserError as error:
        return _print_errors(_with_remedy(str(error), error))
    except KeyboardInterrupt as error:
        name = str(error)  # of a signal; none for Ctrl-C
        reason = f"stopped by {name}" if name else "interrupted"
        print(_with_remedy(f"mores: {reason}", error), file=sys.stderr)
        return 128 + signal.Signals[name] if name in signal.Signals.__members__ else INTERRUPTED
    except BrokenPipeError:
        # Buffered output has no reader; Python would report an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # of rich, which prints the help
            return PIPE_CLOSED
        print(f"mores: {describe_exception(error)}: a class ended the process", file=sys.stderr)
        return DEFECT
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
            return _print_errors(f"mores: {error.filename or 'the disk'}: {error.strerror}")
        code = getattr(error, "exit_code", None)  # typer's classes move between versions
        if code is None:
            if os.environ.get("MORES_TRACEBACK"):
                raise
            line = f"mores: {describe_exception(error)}; traceback: set MORES_TRACEBACK=1"
            print(_with_remedy(line, error), file=sys.stderr)
            return DEFECT
        if hasattr(error, "format_message"):
            return _print_errors(_usage_message(error, command, arguments))
        return int(code)


def _with_remedy(lines: str, error: BaseException) -> str:
    """The lines of an error, and the command that resumes its run if there is one."""
    notes = [note for note in getattr(error, "__notes__", []) if "mores resume" in note]
    return "\n".join([lines, *notes[-1:]])


def _print_errors(lines: str) -> int:
    for line in lines.splitlines():
        print(printable(line, 2000), file=sys.stderr)
    return USER_ERROR


def _usage_message(error: Any, command: Any, arguments: Sequence[str]) -> str:
    """Message for a wrong option or command, with the nearest valid one."""
    context = getattr(error, "ctx", None)
    name = f"mores {arguments[0]}" if arguments and arguments[0] in command.commands else "mores"
    message = error.format_message().splitlines()[0]
    message = re.sub(r" ?\(Possible options: .*\)| Did you mean .*", "", message).rstrip(".")
    option = getattr(error, "option_name", None)
    wrong = re.search(r"No such command '(.*)'", message)
    if option and context is not None:
        known = [text for parameter in context.command.params for text in parameter.opts]
        message += nearest_name(option, [text for text in known if text.startswith("-")])
    elif wrong:
        message += nearest_name(wrong[1], command.commands)
    return f"{name}: {message[:1].lower()}{message[1:]}; see {name} --help"


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib import metadata

        print(f"mores {metadata.version('mores')}")
        raise typer.Exit(0)


@app.command("run", epilog=EXIT_CODES)
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
) -> int:
    """Run a scenario, evaluate its claims, and write a report."""
    loaded = _load(file, overrides, load)
    replicates = None if only is None else _replicates(only, loaded.scenario.replicates)
    from mores.experiments.run import run_scenario

    with _workers(jobs, launcher, launcher_option) as workers:
        options: Any = {"only_replicates": replicates, "jobs": workers, "track": track}
        result = run_scenario(loaded, out=out, **options)
    return _print_result(result, allow_undecided)


@app.command("resume", epilog=EXIT_CODES)
def resume_command(
    folder: Folder,
    jobs: Jobs = None,
    launcher: LauncherName = None,
    launcher_option: LauncherOptions = None,
    load: MovedPluginFiles = None,
    force: Force = False,
    track: Track = None,
    allow_undecided: AllowUndecided = False,
) -> int:
    """Resume a run that was stopped: simulate missing cells, evaluate claims, write the report."""
    from mores.experiments.run import resume_run

    with _workers(jobs, launcher, launcher_option, load) as workers:
        result = resume_run(folder, workers, load or (), force, track=track)
    return _print_result(result, allow_undecided)


@app.command("extend", epilog=EXIT_CODES)
def extend_command(
    folder: Folder,
    overrides: Additions = None,
    scenario: ExtendedScenario = None,
    jobs: Jobs = None,
    launcher: LauncherName = None,
    launcher_option: LauncherOptions = None,
    load: MovedPluginFiles = None,
    allow_undecided: AllowUndecided = False,
) -> int:
    """Add replicates, arms or rounds to a run, and simulate only what is new.

    With more rounds, all are simulated again. Claims whose data changed get a new verdict.
    """
    from mores.experiments.run import extend

    options: Any = {"overrides": overrides or (), "scenario": scenario}
    with _workers(jobs, launcher, launcher_option, load) as workers:
        result = extend(folder, **options, jobs=workers, plugin_files=load or ())
    return _print_result(result, allow_undecided)


@app.command("check")
def check_command(
    file: ScenarioFile, overrides: Overrides = None, load: PluginFiles = None
) -> None:
    """Check a scenario without running it."""
    loaded = _load(file, overrides, load)
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


@app.command("calibrate")
def calibrate_command(
    file: ScenarioFile,
    overrides: Overrides = None,
    hold_out: HoldOut = None,
    out: Out = None,
    load: PluginFiles = None,
) -> int:
    """Fit a scenario's parameters to empirical targets, and predict held-out targets."""
    loaded = _load(file, overrides, load)
    from mores.experiments.calibration import run_calibrate_command

    return run_calibrate_command(loaded, stdout_console(), out, hold_out or ())


@app.command("list")
def list_command(where: TagFilters = None, load: PluginFiles = None) -> None:
    """List what is registered: environments, policies, graphs, metrics, scenarios ..."""
    load_plugins(load or ())
    from rich.table import Table
    from rich.text import Text

    from mores.experiments.scenario import catalog

    entries = catalog.filter_entries(catalog.list_entries(), where or ())
    console = stdout_console()
    for category in dict.fromkeys(entry.category for entry in entries):
        title = "policies" if category == "policy" else f"{category.replace('_', ' ')}s"
        table = Table(title=title, title_justify="left", title_style="bold")
        for heading in ("name", "description", "tags"):
            table.add_column(heading, overflow="fold")
        for entry in entries:
            if entry.category == category:
                tags = ", ".join(catalog.format_tag(tag) for tag in entry.tags.items())
                table.add_row(Text(entry.name), Text(entry.summary), Text(tags))
        console.print(table)
    if not entries:
        console.print("No entry has these tags.")


@app.command("describe")
def describe_command(name: Name, load: PluginFiles = None) -> None:
    """Print documentation, parameters and text of an entry of `mores list`."""
    load_plugins(load or ())
    from rich.padding import Padding
    from rich.text import Text

    from mores.experiments.scenario import catalog
    from mores.experiments.scenario.example_texts import example_texts

    console = stdout_console()
    for description in catalog.describe_kind(name):
        console.print(Text(f"{description.registry.replace('_', ' ')} {name}\n", style="bold"))
        console.print(Text(description.text), soft_wrap=True)  # its tables have their own lines
        if description.parameters:
            console.print("\nFields:")
        for parameter in description.parameters:
            default = f" = {parameter.default}" if parameter.default else ""
            allowed = f"  ({parameter.allowed})" if parameter.allowed else ""
            heading = Text.assemble((parameter.name, "bold"), default, (allowed, "dim"))
            console.print(Padding(heading, (0, 0, 0, 4)))
            console.print(Padding(Text(parameter.description), (0, 0, 0, 8)))
        for example in example_texts(description.registry, name):
            console.print(Text(f"\n{example.heading}", style="bold"))
            console.print(Padding(Text(example.text), (0, 0, 0, 4)))


@app.command("claims", epilog=EXIT_CODES)
def claims_command(
    files: ScenarioFiles = None,
    run: Annotated[bool, typer.Option("--run", help="Run the scenarios first.")] = False,
    out: Out = None,
    load: PluginFiles = None,
    jobs: Jobs = None,
    launcher: LauncherName = None,
    launcher_option: LauncherOptions = None,
    allow_undecided: AllowUndecided = False,
) -> int:
    """List the claims of scenarios with their papers and last verdicts; default: all bundled ones.

    The last verdicts are those of the newest finished run under `runs/`.
    """
    from mores.experiments.scenario.loading import bundled_scenarios

    loaded = [_load(file, None, load) for file in files or bundled_scenarios()]
    if out is not None and not run:
        raise UserError("--out is the folder of new runs: add --run", code="conflict", path="out")
    if launcher is not None and not run:
        raise UserError("--launcher runs scenarios: add --run", code="conflict", path="launcher")
    if run:
        with _workers(jobs, launcher, launcher_option) as workers:  # for all scenarios
            return _run_claims(loaded, out, workers, allow_undecided)
    from mores.experiments.run.earlier_runs import finished_runs

    newest = {}
    for each in loaded:
        name = each.scenario.name
        if runs := finished_runs(RUNS_FOLDER / name, name):
            newest[name] = runs[0]
    stdout_console().print(claim_list([each.scenario for each in loaded], newest))
    return 0


def _run_claims(
    loaded: Sequence[LoadedScenario],
    out: Path | None,
    workers: int | CellExecutor,
    allow_undecided: bool,
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
    _print_verdicts(stdout_console(), results)
    return _exit_code(results, allow_undecided)


@contextlib.contextmanager
def _workers(
    jobs: int | None,
    launcher: str | None,
    options: list[str] | None,
    load: list[Path] | None = None,
) -> Iterator[int | CellExecutor]:
    """What simulates cells: the executor of a launcher, which may be in a file of `load`, or 1."""
    from mores.experiments.launchers.launcher import open_executor, parse_options

    if launcher is None and options:
        message = "--launcher-option is an option of a launcher: add --launcher NAME"
        raise UserError(message, code="conflict", path="launcher_option")
    if launcher is None and jobs in (None, 1):
        yield 1  # this process
        return
    if launcher is not None:
        load_plugins(load or ())
    with open_executor(launcher or "local", jobs, parse_options(options or ())) as executor:
        yield executor


def _load(file: str, overrides: list[str] | None, load: list[Path] | None) -> LoadedScenario:
    """Load the user's plugin files, then the scenario."""
    load_plugins(load or ())
    from mores.experiments.scenario.loading import load_scenario

    return load_scenario(file, overrides or ())


def _print_result(result: RunResult, allow_undecided: bool) -> int:
    """Print the verdicts and report of a run; returns the exit code."""
    console = stdout_console()
    if result.verdicts:
        _print_verdicts(console, [result])
    else:
        console.print("The scenario has no claims.")
    console.print(f"report: {result.report_path}", soft_wrap=True, highlight=False)
    return _exit_code([result], allow_undecided)


def _print_verdicts(console: Console, results: Sequence[RunResult]) -> None:
    """Print the table of verdicts and, for scenarios with several claims, a note on them."""
    from mores.experiments.claims.several_claims import describe_several

    console.print(verdict_table(results))
    for result in results:
        text = describe_several([(v.claim, v.adjusted_status) for v in result.verdicts])
        if text:
            console.print(f"{result.scenario.name}: {text}", highlight=False)


def _exit_code(results: Sequence[RunResult], allow_undecided: bool) -> int:
    """1 if a claim of any run failed or, without `allow_undecided`, is undecided; else 0."""
    failed = any(result.failed for result in results)
    undecided = any(result.undecided for result in results)
    return int(failed or (undecided and not allow_undecided))


def _replicates(text: str, count: int) -> list[int]:
    """Replicate indices from text such as `37,40-43`."""
    replicates: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
        if not match:
            message = f"--only {text}: must look like 37,40-43"
            raise UserError(message, code="invalid_value", path="only")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < count:
            message = f"--only {text}: replicates must be between 0 and {count - 1}"
            raise UserError(message, code="out_of_range", path="only")
        replicates.update(range(first, last + 1))
    return sorted(replicates)


if __name__ == "__main__":
    sys.exit(main())
