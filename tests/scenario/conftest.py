"""What tests of scenario files share: toys to write about, and how a mistake is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mores.cli.commands import main
from mores.core.errors import UserError
from mores.experiments.scenario.expansion import expand_and_verify
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.source_locations import (
    MAX_PROBLEMS_SHOWN,
    ScenarioError,
    format_path,
)
from mores.registry import REGISTRIES
from mores.registry.plugins import load_plugins
from tests.refusals import check_message

TOYS = Path(__file__).parent / "toys.py"

GOOD = """\
name: walkers
about: People walk, or do not.
env: {kind: toy_walk, pull: 0.25}
players:
  helper: {kind: toy_still}
rounds: 10
replicates: 5
arms:
  still: {players.person: {kind: toy_still}}
  walking: {players.person: {kind: toy_stride, by: 2}, env.pull: 0.5}
control: still
measures: [centre, drift]
claims:
  - says: Who walks gets somewhere
    kind: statistical
    measure: drift
    arm: walking
    against: still
    bound: {above: 0.1}
"""


def _toys() -> dict[str, dict[str, str | type]]:
    """The toys by shelf; they are known to tests of this folder, and to no others."""
    before = {shelf: dict(names) for shelf, names in REGISTRIES.items()}
    load_plugins([TOYS])
    added = {s: {k: v for k, v in n.items() if k not in before[s]} for s, n in REGISTRIES.items()}
    for shelf, names in added.items():
        for kind in names:
            del REGISTRIES[shelf][kind]  # type: ignore[index]
    return added  # type: ignore[return-value]


ADDED = _toys()


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for shelf, names in ADDED.items():
        for kind, made in names.items():
            monkeypatch.setitem(REGISTRIES[shelf], kind, made)  # type: ignore[index]


@pytest.fixture
def good() -> str:
    return GOOD


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a scenario into the working directory, an empty one; its name comes back."""
    monkeypatch.chdir(tmp_path)

    def written(text: str | bytes = GOOD, name: str = "s.yaml") -> str:
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(data)
        return name

    return written


@pytest.fixture
def complaints(
    write: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """What the command line says of a scenario that it refuses; nothing else may have happened."""

    def told(text: str | bytes | None, *arguments: str, command: str = "run") -> list[str]:
        file = [] if text is None else [write(text)]
        before = sorted(tmp_path.rglob("*"))
        code = main([command, *file, *arguments])
        said = capsys.readouterr()
        assert code == 2, said
        assert said.out == ""
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        assert "Traceback" not in said.err
        return said.err.splitlines()

    return told


@pytest.fixture
def refusal(
    write: Callable[..., str], complaints: Callable[..., list[str]]
) -> Callable[..., UserError]:
    """The mistake for which a scenario is refused; the command line tells it, line by line."""

    def told(text: str | bytes, *overrides: str) -> UserError:
        with pytest.raises(UserError) as found:
            expand_and_verify(load_scenario(write(text), overrides))
        said = str(found.value)
        assert complaints(text, *overrides) == said.splitlines()
        check_message(said)
        return found.value

    return told


def placed(error: UserError) -> list[tuple[str, str, str]]:
    """Place, path and code of every problem with a scenario, in the order in which it is told."""
    assert isinstance(error, ScenarioError)
    for line, problem in zip(
        str(error).splitlines()[:MAX_PROBLEMS_SHOWN], error.problems, strict=False
    ):
        assert line.startswith(f"{problem.location}: ")
    return [(str(p.location), format_path(p.path), p.code) for p in error.problems]
