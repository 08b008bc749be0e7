"""Completion of names in the shell: `mores --install-completion` sets it up.

The names come from the registries, whose classes are not imported. Files are completed by the
shell, where no name fits.
"""

from __future__ import annotations

from mores.registry import REGISTRIES

# From typer's completion scripts: the shell asks for completions in place of a command.
VARIABLE = "_MORES_COMPLETE"


def complete_scenario(incomplete: str) -> list[str]:
    """Names of scenarios."""
    return _beginning_with(incomplete, "scenario")


def complete_tracker(incomplete: str) -> list[str]:
    """Names of trackers."""
    return _beginning_with(incomplete, "tracker")


def complete_category(incomplete: str) -> list[str]:
    """Categories of `mores list`."""
    return [name for name in REGISTRIES if name.startswith(incomplete)]


def complete_launcher(incomplete: str) -> list[str]:
    """Names of launchers."""
    return _beginning_with(incomplete, "launcher")


def complete_entry(incomplete: str) -> list[str]:
    """Names of the entries of all registries, also as `category/name`."""
    category, slash, name = incomplete.partition("/")
    if slash and category in REGISTRIES:
        return [f"{category}/{each}" for each in _beginning_with(name, category)]
    return _beginning_with(incomplete, *REGISTRIES)


def complete_tag_filter(incomplete: str) -> list[str]:
    """Tag filters of `--where` on the environment: `env=` and its name."""
    tag, equals, name = incomplete.partition("=")
    if not equals:
        return ["env="] if "env=".startswith(incomplete) else []
    return [f"env={each}" for each in _beginning_with(name, "environment")] if tag == "env" else []


def _beginning_with(text: str, *registry_names: str) -> list[str]:
    names = {name for each in registry_names for name in REGISTRIES[each]}
    return sorted(name for name in names if name.startswith(text))
