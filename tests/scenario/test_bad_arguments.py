"""An error on the command line prints one line, exits with 2, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mores.core.errors import UserError
from tests.refusals import check_message

ErrorLines = Callable[..., list[str]]
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
        ("claims.1.at_round=3", "claims", "unknown_name"),
        ("claims.0.at_roun=3", "claims.0", "unknown_name"),
        ("arms.walkin.env.rate=1", "arms", "unknown_name"),
        ("env.rat=1", "env.rat", "unknown_name"),
        ("env..rate=1", "env", "invalid_value"),
        ("policies.person.step=1", "policies.person.kind", "missing"),
        ("sweep.env.rate=[]", "sweep.env.rate", "wrong_shape"),
    ],
)
def test_overrides(override: str, path: str, code: str, good: str, refusal: Refusal) -> None:
    error = refusal(good, override)
    assert (error.path, error.code) == (path, code)
    assert str(error).startswith(f"override {override}: ") and "\n" not in str(error)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rnu"], "'run'"),
        (["run"], "'FILE'"),
        (["run", "--ot", "x"], "'--out'"),
        (["run", "karate", "--out"], "'--out'"),
        (["run", "karate", "--only", "1-"], "--only 1-"),
        (["run", "karate", "--only", "3-99"], "--only 3-99"),
        (["run", "karate", "--only", "7-5"], "5-7"),
        (["list", "--where", "stochastc"], "'stochastic'"),
        (["list", "polcy"], "'policy'"),
        (["list", "--where", "env=lock_inn"], "'lock_in'"),
        (["list", "--where", "phases=abc"], "known: '1', '1 or 2'"),
        (["claims", "karate", "--jobs", "3"], "--jobs"),
        (["claims", "karate", "--launcher", "slurm"], "--launcher"),
        (["claims", "karate", "--launcher-option", "a=b", "--jobs", "1"], "--jobs"),
        (["claims", "karate", "--launcher-option", "a=b"], "--launcher-option"),
        (["run", "karate", "--launcher", ""], "no launcher"),
    ],
)
def test_usage(arguments: list[str], text: str, error_lines: ErrorLines) -> None:
    command, *rest = arguments
    (line,) = error_lines(None, *rest, command=command)
    assert text in line
    check_message(line)


def test_plugin_files(error_lines: ErrorLines, write: Callable[..., str]) -> None:
    write("import os\n\nregister('environment', 'x', int)\n", "mine.py")
    write("def (:\n", "wrong.py")
    (line,) = error_lines(None, "--load", "min.py", command="list")
    assert line.startswith("--load min.py: ") and "'mine.py'" in line
    check_message(line)
    (line,) = error_lines(None, "--load", "mine.py", command="list")
    assert line.startswith("mine.py:3: NameError: ") and "'register'" in line
    (line,) = error_lines(None, "--load", "wrong.py", command="list")
    assert line.startswith("wrong.py:1: SyntaxError")
