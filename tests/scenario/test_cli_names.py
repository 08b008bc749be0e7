"""Names on the command line: described, completed, and suggested where one is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mores.cli.commands import main
from mores.cli.completion import complete_entry, complete_scenario, complete_tag_filter
from mores.core.errors import near_names
from mores.experiments.scenario import catalog
from mores.registry import REGISTRIES
from tests.refusals import check_message


def test_every_listed_entry_is_described() -> None:
    for entry in catalog.list_entries():
        (described,) = catalog.describe_kind(f"{entry.category}/{entry.name}")
        assert described.text and (described.scenario is not None) == (entry.category == "scenario")
        if entry.category == "scenario":
            assert described.scenario and described.scenario.claims and described.scenario.about
        every = catalog.describe_kind(entry.name)
        assert {each.registry for each in every} == {
            name for name, registry in REGISTRIES.items() if entry.name in registry
        }


def test_description_of_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "scenario/karate"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for text in ("paper: DeGroot 1974", "command: mores run karate", "degroot (control)"):
        assert text in output
    assert "do not reach consensus (statistical)" in output


@pytest.mark.parametrize(
    ("given", "names", "near"),
    [
        ("round", ["rounds", "round_length", "replicates"], ["rounds", "round_length"]),
        ("medain", ["median", "mean", "std"], ["median", "mean"]),
        ("repliactes", ["replicates", "rounds"], ["replicates"]),
        ("a", ["ab", "abc"], ["ab"]),
        ("worlds_1", [f"worlds_{i}" for i in range(2, 9)], ["worlds_2", "worlds_3", "worlds_4"]),
        ("xyz", ["rounds"], []),
        (3, ["rounds"], []),
    ],
)
def test_near_names(given: object, names: list[str], near: list[str]) -> None:
    assert near_names(given, names) == near


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "friedkin_johnsen"],  # an update rule
        ["run", "friedkin_johnson"],
        ["run", "voter.yaml"],  # beside voters.yaml
        ["describe", "policy/degroot"],
        ["describe", "degrot"],
        ["describe", "grph/homophily"],
        ["karate"],
        ["mirror"],
        ["resume", "runs/karte"],
        ["run", "karate", "-q", "-v"],
        ["claims", "karate", "--open"],
    ],
    ids=" ".join,
)
def test_a_wrong_name_is_one_line(
    arguments: list[str], write: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    write(name="voters.yaml")
    Path("runs/karate").mkdir(parents=True)
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    check_message(output.err)


def test_completions() -> None:
    assert complete_scenario("kar") == ["karate"]
    assert complete_entry("friedkin") == ["friedkin_johnsen"]
    assert "graph/karate_club" in complete_entry("graph/")
    assert complete_tag_filter("") == ["env="]
    assert complete_tag_filter("env=lock") == ["env=lock_in"]


def test_the_shell_completes_without_heavy_modules() -> None:
    code = (
        "import sys; from mores.cli.commands import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'scipy', 'rich') if m in sys.modules])"
    )
    environment = {"_MORES_COMPLETE": "complete_bash", "COMP_WORDS": "mores run kar"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), **environment, "COMP_CWORD": "2"},
    )
    assert ran.stdout.splitlines() == ["karate", "[]"], ran.stderr
