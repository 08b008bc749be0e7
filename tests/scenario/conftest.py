"""Fixtures of the scenario tests: toy components, a valid scenario, and captured errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mores.cli.commands import main
from mores.core.errors import UserError
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.source_locations import (
    MAX_PROBLEMS_SHOWN,
    ScenarioError,
    format_path,
)
from mores.registry import REGISTRIES
from mores.registry.plugins import load_plugins
from tests.cells import expand_and_verify
from tests.refusals import check_message

TOYS = Path(__file__).parent / "toys.py"

GOOD = """\
name: walkers
about: People walk, or do not.
env: {kind: toy_walk, rate: 0.25}
policies:
  helper: {kind: toy_still}
rounds: 10
replicates: 16
arms:
  still: {policies.person: {kind: toy_still}}
  walking: {policies.person: {kind: toy_stride, step: 2}, env.rate: 0.5}
control: still
metrics: [mean_value, drift]
claims:
  - statement: People who walk move away
    kind: exact
    metric: drift
    arm: walking
    compare_to: still
    bound: {above: 0.1}
"""


def _toys() -> dict[str, dict[str, str | type]]:
    """The toy classes by registry. Only tests of this folder know them."""
    before = {name: dict(classes) for name, classes in REGISTRIES.items()}
    load_plugins([TOYS])
    added = {n: {k: c for k, c in cs.items() if k not in before[n]} for n, cs in REGISTRIES.items()}
    for name, classes in added.items():
        for kind in classes:
            del REGISTRIES[name][kind]  # type: ignore[index]
    return added  # type: ignore[return-value]


ADDED = _toys()


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, classes in ADDED.items():
        for kind, toy in classes.items():
            monkeypatch.setitem(REGISTRIES[name], kind, toy)  # type: ignore[index]


@pytest.fixture
def good() -> str:
    return GOOD


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Function that writes a scenario into an empty working directory and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str | bytes = GOOD, name: str = "s.yaml") -> str:
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(data)
        return name

    return write_file


@pytest.fixture
def error_lines(
    write: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Function that returns the error lines of the command line and checks for side effects."""

    def run(text: str | bytes | None, *arguments: str, command: str = "run") -> list[str]:
        file = [] if text is None else [write(text)]
        before = sorted(tmp_path.rglob("*"))
        code = main([command, *file, *arguments])
        output = capsys.readouterr()
        assert code == 2, output
        assert output.out == ""
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        assert "Traceback" not in output.err
        return output.err.splitlines()

    return run


@pytest.fixture
def refusal(
    write: Callable[..., str], error_lines: Callable[..., list[str]]
) -> Callable[..., UserError]:
    """Function that returns the error of an invalid scenario; the command line prints the same."""

    def load(text: str | bytes, *overrides: str) -> UserError:
        with pytest.raises(UserError) as info:
            expand_and_verify(load_scenario(write(text), overrides))
        message = str(info.value)
        assert error_lines(text, *overrides) == message.splitlines()
        check_message(message)
        return info.value

    return load


def located(error: UserError) -> list[tuple[str, str, str]]:
    """Location, path and code of every problem of a scenario, in the order of the message."""
    assert isinstance(error, ScenarioError)
    for line, problem in zip(
        str(error).splitlines()[:MAX_PROBLEMS_SHOWN], error.problems, strict=False
    ):
        assert line.startswith(f"{problem.location}: ")
    return [(str(p.location), format_path(p.path), p.code) for p in error.problems]
