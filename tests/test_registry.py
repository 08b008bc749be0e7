"""Registries: entries of users and of installed packages, fields chosen from a registry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter

import mores
from mores.agents.scripted.assistants import Silent
from mores.core.config import Config
from mores.core.people import Population
from mores.core.policy import Policy
from mores.registry import REGISTRIES, class_of, make, tables
from mores.registry.component import component
from mores.registry.plugins import load_plugins, loaded_plugin_files
from tests.refusals import refused


class Team(Config):
    """A policy chosen by name, and a reserve."""

    lead: Annotated[Policy, component("policy")]
    others: tuple[Annotated[Policy, component("policy")], ...] = ()


@pytest.mark.parametrize("registry_name", [name for name in REGISTRIES if name != "scenario"])
def test_every_registry_holds_two_entries_that_fit_its_protocol(registry_name: str) -> None:
    registry = REGISTRIES[registry_name]
    assert len(registry.package_kinds) >= 2
    for kind in registry.package_kinds:
        assert registry.load(kind) is registry.load(kind)
        assert registry.kind_of(registry.load(kind)) == kind


def test_registered_by_a_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRIES["population"], "here", None)
    del REGISTRIES["population"]["here"]

    @mores.register("population", "here")
    class Here(Population):
        def sample_people(self, streams: Any) -> Any: ...

    assert class_of("population", "here") is Here
    with refused("duplicate", "here"):
        mores.register("population", "here", Policy)
    with refused("duplicate", "ppo"):  # a recipe is used as a policy
        mores.register("policy", "ppo", Policy)


@pytest.mark.parametrize(
    ("arguments", "code", "path"),
    [
        (("policie", "x", Policy), "unknown_name", "registry_name"),
        (("policy", "not a name", Policy), "invalid_value", "not a name"),
        (("policy", "x", 3), "wrong_type", "x"),
        (("policy", "x", None), "wrong_type", "x"),
    ],
)
def test_registrations_that_are_refused(arguments: tuple[Any, ...], code: str, path: str) -> None:
    with refused(code, path):
        mores.register(*arguments)


@pytest.mark.parametrize("entry", [Config, make("policy", "silent", {})])
def test_an_entry_of_the_wrong_class_is_refused(
    entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGISTRIES["policy"], "wrong", entry)
    with refused("wrong_type", "wrong"):
        class_of("policy", "wrong")


@pytest.mark.parametrize("reason", [ValueError("no"), SystemExit(0)])
def test_exceptions_of_constructors_are_errors(
    reason: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Silent):
        def model_post_init(self, context: Any) -> None:
            if isinstance(reason, SystemExit):
                raise reason
            raise KeyError(reason)

    monkeypatch.setitem(REGISTRIES["policy"], "failing", Failing)
    with refused("failed"):
        make("policy", "failing", {})


def test_two_files_of_one_name_are_both_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once; a file that was moved is the same file."""
    monkeypatch.setattr(sys, "counted", [], raising=False)
    files = [tmp_path / name / "same_name.py" for name in "abc"]
    for file, number in zip(files, (1, 2, 2), strict=True):
        file.parent.mkdir()
        file.write_text(f"import sys\nsys.counted.append({number})\n")
    load_plugins(files)
    load_plugins(list(map(str, files)))
    assert sys.counted == [1, 2]
    assert [file for file in loaded_plugin_files() if file.name == "same_name.py"] == files[:2]
    with refused("wrong_type", "plugin file"):
        load_plugins([3])


def test_an_installed_package_adds_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "plug-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[mores.policy]\nplugged = plug_module:Plugged\nsilent = plug_module:Plugged\n"
        "ppo = plug_module:Plugged\ninner = plug_module:Plugged.Inner [extra]\n"
        "[mores.scenario]\nplugged_study = plug_folder:study\nbroken = no_such_package:study\n"
    )
    (tmp_path / "plug_module.py").write_text(
        "from mores.agents.scripted.assistants import Silent\n\n\nclass Plugged(Silent):\n"
        '    """A policy of a plugin."""\n\n    class Inner(Silent):\n        """An inner one."""\n'
    )
    (tmp_path / "plug_folder").mkdir()
    (tmp_path / "plug_folder" / "__init__.py").write_text("raise AssertionError")
    (tmp_path / "plug_folder" / "study.yaml").write_text("about: a study")
    monkeypatch.syspath_prepend(tmp_path)
    registries = {
        name: tables.Registry(name, {}, REGISTRIES[name].protocol, locate=REGISTRIES[name].locate)
        for name in ("policy", "recipe", "scenario")
    }
    registries["policy"].includes, registries["recipe"]["ppo"] = ("recipe",), "own"
    registries["policy"]["silent"] = "own"
    tables.add_installed(registries)
    plugged, inner = "plug_module:Plugged", "plug_module:Plugged.Inner"
    assert registries["policy"] == {"plugged": plugged, "silent": "own", "inner": inner}
    assert "plug_module" not in sys.modules  # not imported before its first use
    assert registries["policy"].load("plugged").__name__ == "Plugged"
    assert registries["policy"].load("inner").__name__ == "Inner"
    with refused("not_installed", "broken"):
        registries["scenario"].load("broken")
    file = registries["scenario"].load("plugged_study")
    assert file.read_text() == "about: a study"
    assert "plug_folder" not in sys.modules


def test_a_field_accepts_a_name_a_mapping_and_an_object() -> None:
    silent = make("policy", "silent", {})
    for given in ("silent", {"kind": "silent"}, silent):
        assert Team.model_validate({"lead": given}).lead == silent
    team = Team.model_validate({"lead": "silent", "others": [{"kind": "mirror"}, "silent"]})
    data = team.model_dump(mode="json", exclude_unset=True)
    assert data == {
        "lead": {"kind": "silent"},
        "others": [{"kind": "mirror"}, {"kind": "silent"}],
    }
    assert Team.model_validate(data) == team
    assert TypeAdapter(Team).json_schema()["properties"]["lead"]["anyOf"]


@pytest.mark.parametrize(
    ("lead", "code", "path"),
    [
        ("silence", "unknown_name", "lead"),
        ({"kind": "silence"}, "unknown_name", "lead.kind"),
        ({}, "missing", "lead"),
        (3, "wrong_type", "lead"),
        ({"kind": "mirror", "learning_rate": 3}, "out_of_range", "lead.learning_rate"),
        ({"kind": "mirror", "learning_rat": 3}, "unknown_name", "lead.learning_rat"),
        (
            {"kind": "per_agent", "policies": [{"kind": "mirror", "learning_rate": "x"}]},
            "wrong_type",
            "lead.policies.0.learning_rate",
        ),
    ],
)
def test_errors_have_the_path_of_the_parameter(
    lead: Any, code: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Group(Team, Population):
        def sample_people(self, streams: Any) -> Any: ...

    monkeypatch.setitem(REGISTRIES["population"], "group", Group)
    with refused(code, f"group.{path}"):
        make("population", "group", {"lead": lead})
