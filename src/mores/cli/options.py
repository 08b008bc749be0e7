"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mores.cli.completion import (
    complete_category,
    complete_entry,
    complete_launcher,
    complete_scenario,
    complete_tag_filter,
    complete_tracker,
)

ScenarioFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="Scenario file, or name of a bundled scenario.",
        autocompletion=complete_scenario,
    ),
]
ScenarioFiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE",
        help="Scenario files; default: all bundled scenarios.",
        autocompletion=complete_scenario,
    ),
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
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Output folder; default: a new folder under runs/SCENARIO.",
    ),
]
OutOfClaims = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Output folder of the new runs (needs --run); default: a temporary folder.",
    ),
]
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
        help="Largest number of cells simulated at a time; 0: one per core; default 1. With the "
        "launchers ray and slurm, by default and with 0: no limit but the cluster's.",
    ),
]
LauncherName = Annotated[
    str | None,
    typer.Option(
        "--launcher",
        metavar="NAME",
        help="Where cells are simulated: local (this machine), ray, slurm, or a launcher of your "
        "own.",
        autocompletion=complete_launcher,
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
        autocompletion=complete_tracker,
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
        help="New path of a --load file of this run that has moved; with extend also a file with "
        "classes that new arms use.",
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
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A name from `mores list`; category/name where several categories have it.",
        autocompletion=complete_entry,
    ),
]
Categories = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CATEGORY",
        help="Only these categories, such as environments or policies; default: all.",
        autocompletion=complete_category,
    ),
]
TagFilters = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="TAG[=VALUE]",
        help="Only entries with this tag; repeat it for several tags.",
        autocompletion=complete_tag_filter,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print only errors: no progress, no tables, no paths."),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Print log lines of the cells as they are written, and the traceback of an "
        "unexpected exception.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON on standard output, and nothing else there."),
]
Open = Annotated[bool, typer.Option("--open", help="Open the report in the browser.")]
