"""Every mistake on the command line is one line, exit code 2, and nothing written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Complaints = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("rouns=3", "override rouns=3: there is no 'rouns' here; did you mean 'rounds'?"),
        ("rounds=x", "override rounds=x: rounds: must be a whole number, not the text 'x'"),
        ("rounds", "override rounds: write it as dotted.path=value, such as rounds=50"),
        ("=3", "override =3: write it as dotted.path=value, such as rounds=50"),
        ("rounds=", "override rounds=: a value is missing after ="),
        ("rounds=[1", "override rounds=[1: in a list in brackets: expected ',' or ']', but got "
                      "the end of the file; is a ']' or a ',' missing?"),
        ("rounds=!!python/none x", "override rounds=!!python/none x: tags "
                                   "(!!python/none) are not used here: a scenario "
                                   "is plain data; put a text that begins with ! in quotes"),
        ("rounds.x=3", "override rounds.x=3: rounds: is the number 10: nothing can be set below "
                       "it"),
        ("claims.1.at=3", "override claims.1.at=3: claims: has the entries 0 to 0, not '1'"),
        ("claims.0.att=3", "override claims.0.att=3: claims.0: there is no 'att' here; "
                           "did you mean 'at'?"),
        ("arms.walkin.env.pull=1", "override arms.walkin.env.pull=1: arms: there is no arm "
                                   "'walkin'; did you mean 'walking'?"),
        ("env.pul=1", "override env.pul=1: env.pul: toy_walk has no such parameter; "
                      "did you mean 'pull'?"),
        ("env..pull=1", "override env..pull=1: env: the path has an empty part"),
        ("players.person.by=1", "override players.person.by=1: players.person.kind: is missing "
                                "(name of the class: see `mores list`)"),
        ("sweep.env.pull=[]", "override sweep.env.pull=[]: sweep.env.pull: needs at least 1 "
                              "entries"),
    ],
)  # fmt: skip
def test_overrides(override: str, line: str, good: str, complaints: Complaints) -> None:
    assert complaints(good, override) == [line]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["rnu"], "mores: no such command 'rnu'; did you mean 'run'?; see mores --help"),
        (["run"], "mores run: missing argument 'FILE'; see mores run --help"),
        (["run", "--ot", "x"],
         "mores run: no such option: --ot; did you mean '--out'?; see mores run --help"),
        (["run", "karate", "--out"],
         "mores run: option '--out' requires an argument; see mores run --help"),
        (["run", "karate", "--only", "1-"], "--only 1-: write replicates as in 37,40-43"),
        (["run", "karate", "--only", "3-99"], "--only 3-99: replicates are numbered 0 to 63"),
        (["list", "--where", "stochastc"],
         "--where stochastc: nothing has the trait 'stochastc'; did you mean 'stochastic'?"),
    ],
)  # fmt: skip
def test_usage(arguments: list[str], line: str, complaints: Complaints) -> None:
    command, *rest = arguments
    assert complaints(None, *rest, command=command) == [line]


def test_files_of_code(complaints: Complaints, write: Callable[..., str]) -> None:
    write("import os\n\nregister('environment', 'x', int)\n", "mine.py")
    write("def (:\n", "wrong.py")
    assert complaints(None, "--load", "min.py", command="list") == [
        "--load min.py: no such Python file; did you mean 'mine.py'?"
    ]
    (said,) = complaints(None, "--load", "mine.py", command="list")
    assert said == "mine.py:3: NameError: name 'register' is not defined"
    (said,) = complaints(None, "--load", "wrong.py", command="list")
    assert said.startswith("wrong.py:1: SyntaxError")
