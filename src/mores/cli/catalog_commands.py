"""Commands `mores list` and `mores describe`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mores.cli.command_output import command_output
from mores.cli.console import UNLIMITED_WIDTH, has_room_for_table
from mores.cli.inputs import RUNS_FOLDER, activity
from mores.cli.options import Categories, Json, Name, PluginFiles, TagFilters
from mores.core.errors import UserError, did_you_mean, printable
from mores.registry import REGISTRIES
from mores.registry.plugins import load_plugins

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mores.cli.json_output import DescribedEntry, ScenarioSummary
    from mores.experiments.scenario.catalog import CatalogEntry, KindDescription

MIN_WIDTH_OF_TAG_COLUMN = 120  # of the terminal; else tags stand below the description


def list_command(
    category: Categories = None,
    where: TagFilters = None,
    load: PluginFiles = None,
    json: Json = False,
) -> None:
    """List what is registered: environments, policies, graphs, metrics, scenarios ..."""
    with command_output(json=json) as output:
        with activity("reading the registries"):
            load_plugins(load or ())
            from mores.experiments.scenario import catalog

            chosen = [_category_named(name) for name in category or REGISTRIES]
            entries = [each for each in catalog.list_entries() if each.category in chosen]
            entries = catalog.filter_entries(entries, where or ())
        if json:
            from mores.cli.json_output import ListedEntry, Listing

            output.print_json(Listing(entries=[ListedEntry(**each._asdict()) for each in entries]))
            return
        console = output.console
        for name in dict.fromkeys(entry.category for entry in entries):
            of_category = [entry for entry in entries if entry.category == name]
            console.print(_listing(name, of_category, console.width))
        if not entries:
            console.print("No entry has these tags.")


def _category_named(name: str) -> str:
    """A category by its name, or by the title of its list.

    Raises:
        UserError: no such category; the message suggests the closest one.
    """
    titles = {_title(category): category for category in REGISTRIES}
    category = titles.get(name.replace("_", " "), name.replace(" ", "_"))
    if category not in REGISTRIES:
        message = f"no category named {printable(name)!r}{did_you_mean(name, REGISTRIES)}"
        raise UserError(message, code="unknown_name", path="category")
    return category


def _title(category: str) -> str:
    return "policies" if category == "policy" else f"{category.replace('_', ' ')}s"


def _listing(category: str, entries: Sequence[CatalogEntry], width: int) -> RenderableType:
    """Entries of a category: a table, or a line for each in a pipe.

    Args:
        category: the category.
        entries: its entries.
        width: of the terminal, or `UNLIMITED_WIDTH`.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mores.experiments.scenario.catalog import format_tag

    title = _title(category)
    rows = [
        (each.name, each.summary, ", ".join(map(format_tag, each.tags.items()))) for each in entries
    ]
    if width == UNLIMITED_WIDTH:
        lines = [f"  {name}: {about}{f' ({tags})' if tags else ''}" for name, about, tags in rows]
        return Text("\n".join([title, *lines, ""]))
    table = Table(title=title, title_justify="left", title_style="bold", box=box.HORIZONTALS)
    has_tag_column = has_room_for_table(width, MIN_WIDTH_OF_TAG_COLUMN)
    for heading in ("name", "description", "tags") if has_tag_column else ("name", "description"):
        table.add_column(heading, overflow="fold")
    for name, about, tags in rows:
        cells = [Text(about), Text(tags, style="dim")]
        if not has_tag_column:
            cells = [Text("\n").join(cell for cell in cells if cell)]
        table.add_row(Text(name), *cells)
    return table


def describe_command(name: Name, load: PluginFiles = None, json: Json = False) -> None:
    """Print documentation, parameters and text of an entry of `mores list`."""
    with command_output(json=json) as output:
        with activity(f"reading {name}"):
            load_plugins(load or ())
            from mores.experiments.scenario import catalog

            described = [_described_entry(each) for each in catalog.describe_kind(name)]
        if json:
            from mores.cli.json_output import Descriptions

            output.print_json(Descriptions(entries=described))
            return
        from mores.cli.entry_description import print_entry

        for each in described:
            print_entry(output.console, each)


def _described_entry(description: KindDescription) -> DescribedEntry:
    from mores.cli.json_output import DescribedEntry, Example, Parameter

    registry, name = description.registry, description.name
    examples = []
    if registry != "scenario":
        from mores.experiments.scenario.example_texts import example_texts

        examples = [Example(**each._asdict()) for each in example_texts(registry, name)]
    return DescribedEntry(
        category=registry,
        name=name,
        text=description.text,
        parameters=[Parameter(**each._asdict()) for each in description.parameters],
        examples=examples,
        scenario=_scenario_summary(description),
    )


def _scenario_summary(description: KindDescription) -> ScenarioSummary | None:
    """The parts of a scenario, and how long its newest run took."""
    parts = description.scenario
    if parts is None:
        return None
    from mores.cli.json_output import ScenarioClaim, ScenarioSummary

    name, durations = description.name, []
    folder = RUNS_FOLDER / name
    if folder.is_dir():
        from mores.experiments.run.earlier_runs import finished_runs  # imports torch

        durations = [run.seconds for run in finished_runs(folder, name) if run.seconds]
    return ScenarioSummary(
        source=parts.tags.get("source"),
        environment=parts.tags.get("env"),
        arms=parts.arms,
        control=parts.control,
        replicates=parts.replicates,
        claims=[ScenarioClaim(**claim._asdict()) for claim in parts.claims],
        file=str(REGISTRIES["scenario"].load(name)),
        command=f"mores run {name}",
        seconds=durations[0] if durations else None,
    )
