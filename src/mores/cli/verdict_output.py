"""What a command prints about runs that have finished."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mores.cli.console import stdout_console
from mores.cli.exit_codes import exit_code_of
from mores.cli.verdict_table import verdict_table

if TYPE_CHECKING:
    from rich.console import Console

    from mores.experiments.run import RunResult


def print_result(result: RunResult, allow_undecided: bool) -> int:
    """Print the verdicts and report of a run; returns the exit code."""
    console = stdout_console()
    if result.verdicts:
        print_verdicts(console, [result])
    else:
        console.print("The scenario has no claims.")
    console.print(f"report: {result.report_path}", soft_wrap=True, highlight=False)
    return exit_code_of([result], allow_undecided)


def print_verdicts(console: Console, results: Sequence[RunResult]) -> None:
    """Print the table of verdicts and, for scenarios with several claims, a note on them."""
    from mores.experiments.claims.several_claims import describe_several

    console.print(verdict_table(results))
    for result in results:
        text = describe_several([(v.claim, v.adjusted_status) for v in result.verdicts])
        if text:
            console.print(f"{result.scenario.name}: {text}", highlight=False)
