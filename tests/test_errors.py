"""Codes and paths of errors: in copies, from validators, and complete."""

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
from mores.clients.client_errors import RenderModeError, UnknownArgumentError
from mores.core.errors import CODES, ParameterError, UserError
from mores.core.people import People, Population
from mores.core.random_streams import RandomStreams
from mores.core.validation_messages import validation_problems
from tests.refusals import refused

ROOT = Path(__file__).parents[1]


class Span(Population):
    """A population with a range of numbers and two names."""

    low: int = 0
    high: int = 9
    names: tuple[str, str] = ("a", "b")

    def sample_people(self, streams: RandomStreams) -> People:
        raise NotImplementedError

    @model_validator(mode="after")
    def _ordered(self) -> Span:
        if self.low > self.high:
            raise ParameterError("high", message="must not be below low", code="conflict")
        if self.names[0] == self.names[1]:
            raise ParameterError("names", 1, message="is a duplicate", code="duplicate")
        return self


@pytest.fixture
def span() -> Iterator[None]:
    mores.register("population", "span", Span)
    yield
    registry.REGISTRIES["population"].pop("span")


@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("error_class", [UserError, RenderModeError, UnknownArgumentError])
def test_copies_preserve_code_and_path(error_class: type[UserError], copied: Any) -> None:
    error = copied(error_class("no", code="conflict", path="a.b"))
    assert (type(error), str(error)) == (error_class, "no")
    assert (error.code, error.path) == ("conflict", "a.b")


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
def test_code_and_path_of_validation_errors(
    parameters: dict[str, Any], code: str, path: str
) -> None:
    with refused(code, path=path):
        mores.make_population("span", **parameters)
    with pytest.raises(ValidationError) as raised:
        Span(**parameters)
    (problem,) = validation_problems(raised.value, Span, parameters)
    assert (problem.code, problem.blamed_path[0]) == (code, path.split(".")[1])


def codes(path: Path) -> Iterator[tuple[int, str]]:
    """Line and code of every call with a `code`: exceptions, and functions that make them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            for value in (key.value for key in node.keywords if key.arg == "code"):
                branches = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
                for branch in branches:
                    if isinstance(branch, ast.Constant):
                        yield node.lineno, str(branch.value)


def test_raised_codes_are_the_listed_codes() -> None:
    files = [path for folder in ("src", "envs", "agents") for path in (ROOT / folder).rglob("*.py")]
    raised = [(path, *each) for path in files for each in codes(path)]
    assert not [each for each in raised if each[2] not in CODES]
    assert {code for *_, code in raised} == set(CODES)
