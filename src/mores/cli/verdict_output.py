"""What a command prints about runs that have finished."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mores.cli.command_output import CommandOutput
from mores.cli.exit_codes import exit_code_of
from mores.cli.report_opening import open_report

if TYPE_CHECKING:
    from mores.experiments.run import RunResult


def print_result(
    output: CommandOutput, result: RunResult, allow_undecided: bool, open_browser: bool
) -> int:
    """Print the verdicts and report of a run, and open the report; returns the exit code."""
    if output.json:
        from mores.cli.json_output import run_report

        output.print_json(run_report(result))
    elif result.verdicts:
        print_verdicts(output, [result])
    else:
        output.print("The scenario has no claims.")
    output.print(f"report: {result.report_path}")
    if open_browser:
        open_report(result.report_path)
    return exit_code_of([result], allow_undecided)


def print_verdicts(output: CommandOutput, results: Sequence[RunResult]) -> None:
    """Print the verdicts on claims and, for scenarios with several claims, a note on them."""
    from mores.cli.verdict_tables import verdict_view
    from mores.report.claims_section import summarize_several

    output.console.print(verdict_view(results, output.console.width))
    for result in results:
        if text := summarize_several(result.verdicts):
            output.console.print(f"{result.scenario.name}: {text}", highlight=False)
