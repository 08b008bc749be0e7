"""JSON on standard output: its shapes, and that nothing else is there."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mores.cli import json_output
from mores.cli.commands import main
from tests.scenario.conftest import TOYS
from tests.scenario.test_cli import FALSE_CLAIM

Write = Callable[..., str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Function that runs a command with --json and returns what it printed, of that shape."""

    def run(shape: type[BaseModel], *arguments: str, code: int = 0) -> dict[str, Any]:
        assert main([*arguments, "--json"]) == code
        content = json.loads(capsys.readouterr().out, parse_constant=_refuse)
        assert shape.model_validate(content).model_dump(mode="json") == content
        return content

    return run


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_list_and_describe(printed: Callable[..., dict[str, Any]]) -> None:
    listed = printed(json_output.Listing, "list", "policies", "person_parameter")["entries"]
    assert {entry["category"] for entry in listed} == {"policy", "person_parameter"}
    listed = printed(json_output.Listing, "list", "--where", "env=lock_in")["entries"]
    assert ("scenario", "lock_in") in [(entry["category"], entry["name"]) for entry in listed]
    described = printed(json_output.Descriptions, "describe", "lock_in")["entries"]
    environment, scenario = described
    assert (environment["category"], scenario["category"]) == ("environment", "scenario")
    assert "num_people" in [parameter["name"] for parameter in environment["parameters"]]
    assert scenario["scenario"]["environment"] == "lock_in"


def test_check(write: Write, good: str, printed: Callable[..., dict[str, Any]]) -> None:
    result = printed(json_output.CheckResult, "check", write(), "replicates=1200")
    assert (result["ok"], result["arms"], result["replicates"]) == (True, 2, 1200)
    wrong = write(good.replace("drift]", "drft]").replace("kind: exact", "kind: exat"))
    result = printed(json_output.CheckResult, "check", wrong, code=2)
    (problem,) = result["problems"]
    assert (problem["file"], problem["line"], problem["column"]) == ("s.yaml", 15, 11)
    assert (problem["path"], problem["code"]) == ("claims.0.kind", "invalid_value")
    (problem,) = printed(json_output.CheckResult, "check", "nowhere", code=2)["problems"]
    assert (problem["line"], problem["code"]) == (None, "unreadable")


def test_run_and_claims(
    write: Write, good: str, tmp_path: Path, printed: Callable[..., dict[str, Any]]
) -> None:
    file = write(good + FALSE_CLAIM.replace("exact", "statistical"))
    run = printed(json_output.RunReport, "run", file, "--only", "0", code=1)
    first, second = run["claims"]
    assert (first["verdict"], second["verdict"]) == ("holds", "undecided")
    assert (second["low"], second["high"], second["n"]) == (None, None, 1)  # there is no interval
    assert Path(run["report"]).exists()
    assert printed(json_output.RunReport, "resume", run["folder"], code=1) == run
    (listed,) = printed(json_output.ClaimListing, "claims", file)["scenarios"]
    assert [claim["verdict"] for claim in listed["claims"]] == ["holds", "undecided"]
    assert listed["last_run"] == run["folder"]


def test_numbers_that_are_not_finite_are_null() -> None:
    entry = json_output.ListedEntry(category="", name="", summary="", tags={"a": math.nan})
    assert json.loads(entry.model_dump_json(), parse_constant=_refuse)["tags"] == {"a": None}


@pytest.mark.full
def test_what_classes_print_is_not_on_standard_output(write: Write, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        f"{TOYS.read_text()}\nimport os\nprint('loud')\nos.write(1, b'low')\n"
    )
    command = ["-m", "mores", "run", write(), "--load", "loud.py", "--json", "--jobs", "2"]
    ran = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
    assert json.loads(ran.stdout)["scenario"] == "walkers", ran.stderr
    assert "loud" in ran.stderr and "low" in ran.stderr
