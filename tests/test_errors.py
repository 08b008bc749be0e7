"""Codes and paths of refusals: that there are such codes, and that both outlive copies."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError, model_validator

import mores
from mores import registry
from mores.clients.array_conversion import RenderModeError
from mores.core.environment import Config
from mores.core.errors import CODES, ParameterError, UserError
from mores.core.validation_messages import blame_of, code_of
from tests.refusals import refused

ROOT = Path(__file__).parents[1]
RAISED = {"UserError", "ParameterError", "At", "Problem", "problem_at", "CannotWrite", "CellDied"}


class Span(Config):
    """From one number to another, of which there may be names."""

    low: int = 0
    high: int = 9
    names: tuple[str, str] = ("a", "b")

    @model_validator(mode="after")
    def _ordered(self) -> Span:
        if self.low > self.high:
            raise ParameterError("high", message="must not be below low", code="conflict")
        if self.names[0] == self.names[1]:
            raise ParameterError("names", 1, message="is there already", code="duplicate")
        return self


@pytest.fixture
def span() -> Iterator[None]:
    mores.register("policy", "span", Span)
    yield
    registry.POLICIES.pop("span")


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("kind", [UserError, RenderModeError])
def test_another_process_hears_code_and_path(kind: type[UserError], again: Any) -> None:
    error = again(kind("no", code="conflict", path="a.b"))
    assert (type(error), str(error), error.code, error.path) == (kind, "no", "conflict", "a.b")


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"low": 10}, "conflict", "span.high"),
        ({"names": ["a", "a"]}, "duplicate", "span.names.1"),
        ({"names": ["a"]}, "wrong_shape", "span.names.1"),
        ({"low": "x"}, "wrong_type", "span.low"),
        ({"lowest": 1}, "unknown_name", "span.lowest"),
    ],
)
@pytest.mark.usefixtures("span")
def test_what_a_check_of_several_parameters_blames(
    parameters: dict[str, Any], code: str, path: str
) -> None:
    with refused(code, path=path):
        mores.make_policy("span", **parameters)
    with pytest.raises(ValidationError) as raw:
        Span(**parameters)
    (found,) = raw.value.errors()
    assert (code_of(found), blame_of(found, parameters)[0]) == (code, path.split(".")[1])


def codes(path: Path) -> Iterator[tuple[int, str]]:
    """Every code that a file gives to what it raises."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISED:
            for given in (key.value for key in node.keywords if key.arg == "code"):
                branches = (given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,)
                for part in branches:
                    if isinstance(part, ast.Constant):
                        yield node.lineno, str(part.value)


def test_there_are_all_codes_and_all_are_used() -> None:
    files = [path for folder in ("src", "envs", "agents") for path in (ROOT / folder).rglob("*.py")]
    found = [(path, *one) for path in files for one in codes(path)]
    assert not [one for one in found if one[2] not in CODES]
    assert {code for *_, code in found} == set(CODES)
