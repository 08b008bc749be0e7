"""Commands `mores list` and `mores describe`."""

from __future__ import annotations

from mores.cli.console import stdout_console
from mores.cli.options import Name, PluginFiles, TagFilters
from mores.registry.plugins import load_plugins


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
