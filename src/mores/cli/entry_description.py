"""The text of `mores describe`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from mores.cli.console import pluralize

if TYPE_CHECKING:
    from rich.console import Console

    from mores.cli.json_output import DescribedEntry, Parameter, ScenarioSummary


def print_entry(console: Console, entry: DescribedEntry) -> None:
    """Print the documentation of an entry, its parameters and example texts."""
    console.print(Text(f"{entry.category.replace('_', ' ')} {entry.name}\n", style="bold"))
    if entry.scenario is not None:
        console.print(Text(entry.text))
        _print_scenario(console, entry.scenario)
        return
    console.print(Text(entry.text), soft_wrap=True)  # its tables have their own lines
    if entry.parameters:
        console.print("\nParameters:")
    for parameter in entry.parameters:
        _print_parameter(console, parameter)
    for example in entry.examples:
        console.print(Text(f"\n{example.heading}", style="bold"))
        _print_indented(console, Text(example.text))
    console.print()


def _print_parameter(console: Console, parameter: Parameter) -> None:
    default = f" = {parameter.default}" if parameter.default else ""
    allowed = f"  ({parameter.allowed})" if parameter.allowed else ""
    heading = Text.assemble((parameter.name, "bold"), default, (allowed, "dim"))
    _print_indented(console, heading)
    _print_indented(console, Text(parameter.description), 8)


def _print_scenario(console: Console, scenario: ScenarioSummary) -> None:
    arms = [f"{arm} (control)" if arm == scenario.control else arm for arm in scenario.arms]
    duration = "unknown: no finished run under runs/"
    if scenario.seconds is not None:
        seconds = timedelta(seconds=round(scenario.seconds))
        duration = f"{seconds} in the newest run under runs/ (hours:minutes:seconds)"
    facts = {
        "paper": scenario.source,
        "environment": scenario.environment,
        "arms": ", ".join(arms),
        "replicates": scenario.replicates,
        "duration": duration,
        "file": scenario.file,
        "command": scenario.command,
    }
    console.print()
    for name, value in facts.items():
        if value:
            _print_indented(console, Text.assemble((f"{name}: ", "bold"), str(value)))
    console.print(f"\n{pluralize(len(scenario.claims), 'claim')}:")
    for claim in scenario.claims:
        source = f", {claim.source}" if claim.source else ""
        kind = (f"  ({claim.kind.replace('_', ' ')}{source})", "dim")
        _print_indented(console, Text.assemble(claim.statement, kind))
    console.print()


def _print_indented(console: Console, text: Text, columns: int = 4) -> None:
    for line in text.split("\n", allow_blank=True):
        console.print(Padding(line, (0, 0, 0, columns), expand=False))
