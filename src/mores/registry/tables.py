"""The registries: which kinds there are of each part of an experiment, and what an entry must be.

A registry holds entries by kind: a class or function, or its location `module:Name`, imported at
its first use, so that `import mores` and `mores list` stay light. Three sources: the package
(`mores.registry.entries`), a file of the user that calls `mores.register`, and installed packages,
whose entry points of the group `mores.<registry>` have the name of the kind:

    [project.entry-points."mores.update_rule"]
    my_rule = "my_package.rules:MyRule"

A scenario's location `my_package.folder:name` is the file `name.yaml` in that package.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mores.core.errors import UserError, describe_exception
from mores.registry import entries

SCENARIO_FOLDER = Path(__file__).parents[1] / "scenarios"


def import_location(location: str) -> Any:
    """The object at `module:Name`.

    Raises:
        ImportError: there is no such module or name.
    """
    module, _, name = location.partition(":")
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except AttributeError:
        raise ImportError(f"{module} has no {name!r}") from None


def module_file(module: str) -> Path:
    """The source file of a module. Unlike `find_spec(module)`, this imports no parent package.

    Raises:
        ImportError: there is no such module.
    """
    top, *below = module.split(".")
    spec = importlib.util.find_spec(top)
    for name in below:
        folders = list(spec.submodule_search_locations or ()) if spec else []
        spec = PathFinder.find_spec(f"{spec.name}.{name}", folders) if spec else None
    if spec is None or spec.origin is None:
        raise ImportError(f"no module {module}")
    return Path(spec.origin)


def location_of(entry: Any) -> str:
    """`module:Name` of a class or function; of other objects `:`."""
    return f"{getattr(entry, '__module__', '')}:{getattr(entry, '__qualname__', '')}"


def locate_scenario(location: str) -> Path:
    """The file of a scenario: a path, or `package:name`. No package is imported.

    Raises:
        ImportError: there is no such package.
    """
    package, colon, name = location.partition(":")
    if not colon or location.endswith(".yaml"):
        return Path(location)
    return module_file(package).parent / f"{name}.yaml"


class Registry(dict[str, Any]):
    """Entries of one registry by kind: as registered, or their location.

    Attributes:
        name: name of the registry.
        protocol: location of the class that an entry subclasses; scenarios are paths.
        adapter: location of a function `(kind, entry) -> entry` that turns what users register (a
            function, a class of another library) into what `protocol` asks for; empty: none.
        includes: registries whose entries can be used as entries of this one.
        locate: finds the entry of a location.
        package_kinds: kinds of the entries that come with mores.
    """

    def __init__(
        self,
        name: str,
        table: Mapping[str, Any],
        protocol: str,
        adapter: str = "",
        includes: tuple[str, ...] = (),
        locate: Callable[[str], Any] = import_location,
    ) -> None:
        super().__init__(table)
        self.name, self.protocol, self.adapter = name, protocol, adapter
        self.includes, self.locate = includes, locate
        self.package_kinds = frozenset(table)
        self._loaded: dict[str, tuple[Any, Any]] = {}  # entry as registered, and as used

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of this registry and those that it includes."""
        return (self.name, *self.includes)

    def load(self, kind: str) -> Any:
        """The entry of a kind, imported, adapted and checked.

        Raises:
            UserError: it cannot be imported, or is not what the registry holds.
        """
        registered = self[kind]
        if kind not in self._loaded or self._loaded[kind][0] is not registered:
            entry = registered
            if isinstance(registered, str):
                try:
                    entry = self.locate(registered)
                except UserError:
                    raise
                except (Exception, SystemExit) as error:
                    reason = describe_exception(error)
                    raise UserError(
                        f"{self.name} {kind!r}: {registered} cannot be imported: {reason}",
                        code="not_installed" if isinstance(error, ImportError) else "failed",
                        path=kind,
                    ) from error
            if self.adapter:
                entry = import_location(self.adapter)(kind, entry)
            protocol = import_location(self.protocol)
            is_file = protocol is Path and isinstance(entry, Path)
            if not is_file and not (inspect.isclass(entry) and issubclass(entry, protocol)):
                raise UserError(
                    f"{self.name} {kind!r}: {getattr(entry, '__name__', repr(entry)):.60} must be "
                    f"a subclass of {protocol.__name__}",
                    code="wrong_type",
                    path=kind,
                )
            self._loaded[kind] = registered, entry
        return self._loaded[kind][1]

    def kind_of(self, entry: Any) -> str | None:
        """The kind of an entry, or `None`. Nothing is imported."""
        for kind, registered in self.items():
            loaded = self._loaded.get(kind, (None, None))[1]
            if registered in (entry, location_of(entry)) or loaded is entry:
                return kind
        return None


REGISTRIES: dict[str, Registry] = {
    registry.name: registry
    for registry in (
        Registry(
            "environment",
            entries.ENVIRONMENTS,
            "mores.core.environment:Environment",
            adapter="mores.clients.mesa.adapter:as_environment_class",
        ),
        Registry("policy", entries.POLICIES, "mores.core.policy:Policy", includes=("recipe",)),
        Registry("recipe", entries.RECIPES, "mores.core.learner:Learner"),
        Registry(
            "network",
            entries.NETWORKS,
            "mores.agents.learning.networks.network:Network",
            adapter="mores.agents.learning.networks.module_network:as_network",
        ),
        Registry("population", entries.POPULATIONS, "mores.core.people:Population"),
        Registry("question_set", entries.QUESTION_SETS, "mores.core.survey_questions:QuestionSet"),
        Registry(
            "person_parameter",
            entries.PERSON_PARAMETERS,
            "mores.core.person_parameters:PersonParameter",
        ),
        Registry("human", entries.HUMANS, "mores.core.human:Human"),
        Registry("update_rule", entries.UPDATE_RULES, "mores.core.update_rule:UpdateRule"),
        Registry(
            "graph",
            entries.GRAPHS,
            "mores.core.graph:GraphSource",
            adapter="mores.envs.graphs.graph_function:adapt",
        ),
        Registry("welfare", entries.WELFARE_FUNCTIONS, "mores.core.welfare:Welfare"),
        Registry(
            "contract_game",
            entries.CONTRACT_GAMES,
            "mores.envs.strategic.contract_games.game:ContractGame",
        ),
        Registry("channel", entries.CHANNELS, "mores.core.channel:Channel"),
        Registry(
            "protocol",
            entries.PROTOCOLS,
            "mores.envs.oversight.protocols.protocol:ControlProtocol",
        ),
        Registry(
            "metric",
            entries.METRICS,
            "mores.core.metric:Metric",
            adapter="mores.core.metric:metric_class",
        ),
        Registry(
            "language_model",
            entries.LANGUAGE_MODELS,
            "mores.agents.language.language_model:LanguageModel",
        ),
        Registry("persona", entries.PERSONAS, "mores.agents.language.personas.persona:Persona"),
        Registry("readout", entries.READOUTS, "mores.agents.language.readouts.readout:Readout"),
        Registry("tracker", entries.TRACKERS, "mores.core.tracker:Tracker"),
        Registry("launcher", entries.LAUNCHERS, "mores.experiments.launchers.launcher:Launcher"),
        Registry("figure", entries.FIGURES, "mores.report.figures.figure:Figure"),
        Registry(
            "scenario",
            {file.stem: file for file in sorted(SCENARIO_FOLDER.glob("*.yaml"))},
            "pathlib:Path",
            locate=locate_scenario,
        ),
    )
}


def sharing(registries: Mapping[str, Registry], name: str) -> list[Registry]:
    """The registry of a name, and those whose kinds can be used in its place or the reverse."""
    searched = registries[name].searched
    return [each for n, each in registries.items() if n in searched or name in each.includes]


def add_installed(registries: Mapping[str, Registry]) -> None:
    """Add the entry points of installed packages. A name that is taken keeps its entry."""
    installed = entry_points()
    for name, registry in registries.items():
        taken = {kind for each in sharing(registries, name) for kind in each}
        group = installed.select(group=f"mores.{name}")
        for each in sorted(group, key=lambda point: (point.name, point.value)):
            if each.name.isidentifier() and each.name not in taken:
                registry.setdefault(each.name, f"{each.module}:{each.attr}")


add_installed(REGISTRIES)
