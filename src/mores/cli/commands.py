"""The command line: `mores run`, `mores resume`, `mores check`, `mores list`, `mores claims`.

Exit codes: 0; 1 a claim failed; 2 a mistake of the user, one line for each on standard error;
130 interrupted, 143 terminated; 141 whoever read the output has gone.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import io
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mores.cli.console import count, output, verdicts
from mores.core.errors import UserError
from mores.registry.plugins import load_modules

if TYPE_CHECKING:
    from mores.experiments.run import Result
    from mores.experiments.scenario.specification import Scenario

USER_ERROR, DEFECT, INTERRUPTED, PIPE_CLOSED = 2, 3, 130, 141
# What the disk may say to a run whose folder the user chose.
DISK = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EEXIST, errno.ENOTDIR,
    errno.ENOENT, errno.EFBIG, errno.EDQUOT, errno.EIO,
}  # fmt: skip

app = typer.Typer(
    help="Communities of people and AI agents whose values move.",
    add_completion=False,
    no_args_is_help=False,
)

ScenarioFile = Annotated[
    str, typer.Argument(metavar="FILE", help="A scenario file, or the name of a shipped one.")
]
ScenarioFiles = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE", help="Scenario files; by default all that are shipped."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH=VALUE", help="Changes, such as rounds=50 env.people=30."),
]
Modules = Annotated[
    list[Path] | None,
    typer.Option(
        "--load", metavar="FILE.py", help="Python file that registers classes of your own."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where the run's folder is made.")
]
Only = Annotated[
    str | None,
    typer.Option("--only", metavar="LIST", help="Replicates to run, such as 37,40-43."),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs", metavar="N", min=0, help="Processes that play side by side; 0: one a core."
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")]
Moved = Annotated[
    list[Path] | None,
    typer.Option(
        "--load",
        metavar="FILE.py",
        help="A file of your own that the run had loaded.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on although versions or your own files have changed.")
]
HoldOut = Annotated[list[str] | None, typer.Option(metavar="NAME", help="A target to predict.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `mores list` has it.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="TRAIT[=VALUE]", help="Only what has this trait."),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and turn whatever the user can mend into lines and an exit code."""
    command = typer.main.get_command(app)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a claim may use letters that this output lacks
    try:
        with command.make_context("mores", given or ["--help"]) as context:
            code = command.invoke(context)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except UserError as error:
        return _complain(_with_remedy(str(error), error))
    except KeyboardInterrupt as error:
        word = f"stopped by {error}" if str(error) else "interrupted"  # by a signal, Ctrl-C
        print(_with_remedy(f"mores: {word}", error), file=sys.stderr)
        return getattr(error, "code", INTERRUPTED)
    except BrokenPipeError:
        # What is still buffered has no reader; Python would complain of it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK:
            return _complain(f"mores: {error.filename or 'the disk'}: {error.strerror}")
        code = getattr(error, "exit_code", None)  # typer's own, which has moved between versions
        if code is None:
            if os.environ.get("MORES_TRACEBACK"):
                raise
            from mores.experiments.scenario.first_round_check import broken

            line = f"mores: {broken(error)}; for all of it set MORES_TRACEBACK=1"
            print(_with_remedy(line, error), file=sys.stderr)
            return DEFECT
        if hasattr(error, "format_message"):
            return _complain(_usage(error, command, given))
        return int(code)


def _with_remedy(lines: str, error: BaseException) -> str:
    """An error, and how a run that it ended can go on."""
    notes = [note for note in getattr(error, "__notes__", []) if "mores resume" in note]
    return "\n".join([lines, *notes[-1:]])


def _complain(lines: str) -> int:
    from mores.experiments.scenario.source_locations import shown

    for line in lines.splitlines():
        print(shown(line, 2000), file=sys.stderr)
    return USER_ERROR


def _usage(error: Any, command: Any, given: Sequence[str]) -> str:
    """A wrong option or command, in one line with the nearest right one."""
    context = getattr(error, "ctx", None)
    name = f"mores {given[0]}" if given and given[0] in command.commands else "mores"
    message = error.format_message().splitlines()[0]
    message = re.sub(r" ?\(Possible options: .*\)| Did you mean .*", "", message).rstrip(".")
    option = getattr(error, "option_name", None)
    wrong = re.search(r"No such command '(.*)'", message)
    if option and context is not None:
        known = [text for parameter in context.command.params for text in parameter.opts]
        message += _near(option, [text for text in known if text.startswith("-")])
    elif wrong:
        message += _near(wrong[1], command.commands)
    return f"{name}: {message[:1].lower()}{message[1:]}; see {name} --help"


def _near(given: str, names: Sequence[str] | dict[str, Any]) -> str:
    near = difflib.get_close_matches(given, list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib import metadata

        print(f"mores {metadata.version('mores')}")
        raise typer.Exit(0)


@app.command("run")
def run_command(
    file: ScenarioFile,
    overrides: Overrides = None,
    out: Out = None,
    load: Modules = None,
    only: Only = None,
    jobs: Jobs = 1,
) -> int:
    """Run a scenario, judge its claims, and write a report."""
    load_modules(load or ())
    from mores.experiments.scenario.loading import load as read

    loaded = read(file, overrides or ())
    replicates = None if only is None else _replicates(only, loaded.scenario.replicates)
    from mores.experiments.run import run

    return _told(loaded.scenario, run(loaded, out=out, only=replicates, jobs=jobs))


@app.command("resume")
def resume_command(folder: Folder, jobs: Jobs = 1, load: Moved = None, force: Force = False) -> int:
    """Go on with a run that was stopped: play what is missing, judge its claims, report."""
    from mores.experiments.run import resume

    result = resume(folder, jobs, load or (), force)
    return _told(result.scenario, result)


@app.command("check")
def check_command(file: ScenarioFile, overrides: Overrides = None, load: Modules = None) -> None:
    """Check a scenario without running it."""
    load_modules(load or ())
    from mores.experiments.run.dry_run import check
    from mores.experiments.scenario.loading import load as read

    loaded = read(file, overrides or ())
    cells, scenario = check(loaded), loaded.scenario
    points = len(cells) // max(1, len(scenario.arms))
    parts = [
        count(max(1, len(scenario.arms)), "arm"),
        *([count(points, "point") + " of the sweep"] if scenario.sweep else []),
        count(scenario.replicates, "replicate"),
        count(scenario.rounds, "round"),
        count(len(scenario.claims), "claim"),
    ]
    print(f"{loaded.places.source}: fine: {', '.join(parts)}")


@app.command("calibrate")
def calibrate_command(
    file: ScenarioFile,
    overrides: Overrides = None,
    hold_out: HoldOut = None,
    out: Out = None,
    load: Modules = None,
) -> int:
    """Fit a scenario's parameters to figures of the real world, and predict those held out."""
    load_modules(load or ())
    from mores.experiments.calibration import calibrate_command
    from mores.experiments.scenario.loading import load as read

    return calibrate_command(read(file, overrides or ()), output(), out, hold_out or ())


@app.command("list")
def list_command(where: Where = None, load: Modules = None) -> None:
    """List environments, players, populations and scenarios."""
    load_modules(load or ())
    from rich.table import Table
    from rich.text import Text

    from mores.experiments.scenario import catalog

    found = catalog.catalogue()
    chosen = catalog.chosen(found, where or ())
    console = output()
    for shelf in dict.fromkeys(entry.shelf for entry in chosen):
        table = Table(title=f"{shelf}s", title_justify="left", title_style="bold")
        for heading in ("name", "what it is", "traits"):
            table.add_column(heading, overflow="fold")
        for entry in chosen:
            if entry.shelf == shelf:
                traits = ", ".join(catalog.told(trait) for trait in entry.traits.items())
                table.add_row(Text(entry.name), Text(entry.about), Text(traits))
        console.print(table)
    if not chosen:
        console.print("Nothing has these traits.")


@app.command("describe")
def describe_command(name: Name, load: Modules = None) -> None:
    """Tell all about an environment, a player or a population: what it does, its parameters."""
    load_modules(load or ())
    from rich.table import Table
    from rich.text import Text

    from mores.experiments.scenario import catalog

    found = catalog.described(name)
    console = output()
    console.print(Text(f"{name}, {found.shelf}\n", style="bold"))
    console.print(Text(found.text))
    if found.parameters:
        table = Table(title="parameters", title_justify="left", title_style="bold")
        for heading in ("name", "default", "allowed", "meaning"):
            table.add_column(heading, overflow="fold")
        for row in found.parameters:
            table.add_row(*(Text(part) for part in row))
        console.print(table)


@app.command("claims")
def claims_command(
    files: ScenarioFiles = None, out: Out = None, load: Modules = None, jobs: Jobs = 1
) -> int:
    """Run scenarios and tell which of their claims hold: by default all that are shipped."""
    load_modules(load or ())
    from mores.experiments.run.dry_run import check
    from mores.experiments.scenario.loading import load as read
    from mores.experiments.scenario.loading import shipped

    loaded = [read(file) for file in files or shipped()]
    for one in loaded:  # all mistakes before the first run
        check(one)
    from mores.experiments.run import run
    from mores.experiments.run.worker_pool import Pool, processes

    results = []
    with contextlib.ExitStack() as stack:
        unwanted = None if out else stack.enter_context(tempfile.TemporaryDirectory("", "mores-"))
        many = processes(jobs) > 1
        workers = stack.enter_context(Pool(processes(jobs))) if many else 1  # the same for all
        for number, one in enumerate(loaded):
            folder = (out or Path(unwanted or "")) / one.scenario.name
            if one.scenario.name in {other.scenario.name for other in loaded[:number]}:
                folder = folder.with_name(f"{one.scenario.name}-{number}")
            try:
                results.append((one.scenario, run(one, out=folder, jobs=workers)))
            except BaseException as error:
                if unwanted:
                    error.__notes__ = []  # there will be nothing to resume
                raise
    output().print(verdicts(results))
    return int(any(result.failed for _, result in results))


def _told(scenario: Scenario, result: Result) -> int:
    """Print what became of a run; its exit code."""
    console = output()
    if result.verdicts:
        console.print(verdicts([(scenario, result)]))
    else:
        console.print("The scenario makes no claims.")
    console.print(f"report: {result.report}", soft_wrap=True, highlight=False)
    return int(result.failed)


def _replicates(text: str, count: int) -> list[int]:
    """`37,40-43` to numbers of replicates."""
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
        if not match:
            raise UserError(
                f"--only {text}: write replicates as in 37,40-43", code="invalid_value", path="only"
            )
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if not first <= last < count:
            raise UserError(
                f"--only {text}: replicates are numbered 0 to {count - 1}",
                code="out_of_range",
                path="only",
            )
        chosen.update(range(first, last + 1))
    return sorted(chosen)


if __name__ == "__main__":
    sys.exit(main())
