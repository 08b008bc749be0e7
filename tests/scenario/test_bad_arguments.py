"""Every mistake on the command line is one line, exit code 2, and nothing written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mores.core.errors import UserError
from tests.refusals import check_message

Complaints = Callable[..., list[str]]
Refusal = Callable[..., UserError]


@pytest.mark.parametrize(
    ("override", "path", "code"),
    [
        ("rouns=3", "", "unknown_name"),
        ("rounds=x", "rounds", "wrong_type"),
        ("rounds", "rounds", "invalid_value"),
        ("=3", "", "invalid_value"),
        ("rounds=", "rounds", "missing"),
        ("rounds=[1", "", "unreadable"),
        ("rounds=!!python/none x", "", "unsupported"),
        ("rounds.x=3", "rounds", "wrong_type"),
        ("claims.1.at=3", "claims", "unknown_name"),
        ("claims.0.att=3", "claims.0", "unknown_name"),
        ("arms.walkin.env.pull=1", "arms", "unknown_name"),
        ("env.pul=1", "env.pul", "unknown_name"),
        ("env..pull=1", "env", "invalid_value"),
        ("players.person.by=1", "players.person.kind", "missing"),
        ("sweep.env.pull=[]", "sweep.env.pull", "wrong_shape"),
    ],
)
def test_overrides(override: str, path: str, code: str, good: str, refusal: Refusal) -> None:
    error = refusal(good, override)
    assert (error.path, error.code) == (path, code)
    assert str(error).startswith(f"override {override}: ") and "\n" not in str(error)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["rnu"], "'run'"),
        (["run"], "'FILE'"),
        (["run", "--ot", "x"], "'--out'"),
        (["run", "karate", "--out"], "'--out'"),
        (["run", "karate", "--only", "1-"], "--only 1-"),
        (["run", "karate", "--only", "3-99"], "--only 3-99"),
        (["list", "--where", "stochastc"], "'stochastic'"),
    ],
)
def test_usage(arguments: list[str], named: str, complaints: Complaints) -> None:
    command, *rest = arguments
    (said,) = complaints(None, *rest, command=command)
    assert named in said
    check_message(said)


def test_files_of_code(complaints: Complaints, write: Callable[..., str]) -> None:
    write("import os\n\nregister('environment', 'x', int)\n", "mine.py")
    write("def (:\n", "wrong.py")
    (said,) = complaints(None, "--load", "min.py", command="list")
    assert said.startswith("--load min.py: ") and "'mine.py'" in said
    check_message(said)
    (said,) = complaints(None, "--load", "mine.py", command="list")
    assert said.startswith("mine.py:3: NameError: ") and "'register'" in said
    (said,) = complaints(None, "--load", "wrong.py", command="list")
    assert said.startswith("wrong.py:1: SyntaxError")
