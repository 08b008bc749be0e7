"""The shopping task in words: products, information treatments, and who knows what."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import mores
from mores.envs.strategic.principal_agent import PrincipalAgent
from mores.envs.strategic.principal_agent_conversation import CONDITIONS
from mores.envs.strategic.principal_agent_turn_text import agent_turn, party_turn
from mores.envs.strategic.principal_agent_wording import ELECTRIC_CAR, PROPAGANDA_FILM
from tests.refusals import refused
from tests.text.turns import random_turns

CLASSES = (PROPAGANDA_FILM, ELECTRIC_CAR)
CAR, SUV = "an electric car", "a petrol-driven off-road vehicle"
READING = {  # by who reads: both, principal only, customer only, neither
    (1.0, 1.0): "your explanation will be read by the customer and by Shell Oil",
    (0.0, 1.0): "your explanation will be read by Shell Oil only, not by the customer",
    (1.0, 0.0): "your explanation will be read by the customer only, not by Shell Oil",
    (0.0, 0.0): "your explanation is confidential: neither the customer nor Shell Oil will read it",
}


def seen(visible: list[float], choice: list[float], flipped: bool) -> dict[str, list[float]]:
    """Observation of the agent in the task of the electric car."""
    order = slice(None, None, -1) if flipped else slice(None)
    return {
        "customer_utility": [2.5, 1.5][order],
        "principal_utility": [0.0, 2.0][order],
        "own_utility": [0.0, 2.0][order],
        "harmful": [0.0, 0.0],
        "price": [40000.0, 50000.0][order],
        "budget": [50000.0],
        "task_features": [0.0] * 4,
        "visible": visible,
        "choice": choice,
        "true_rationales": [1.0, 0.0, 0.0, 1.0],
    }


@pytest.mark.parametrize("flipped", [False, True])
def test_information_treatments(flipped: bool) -> None:
    """Each treatment has its own words, in both phases; products keep theirs in both orders."""
    assert len(READING) == len(CONDITIONS)
    for (customer, principal), words in READING.items():
        parts = seen([1.0, customer, 0.0, principal], [0.0] * 3, flipped)
        choose = agent_turn("choose", parts, CLASSES, 1)
        assert words in choose.question
        options = [f"buy {CAR} for $40,000", f"buy {SUV} for $50,000"]
        assert list(choose.options[:2]) == (options[::-1] if flipped else options)
        assert "My budget is $50,000." in choose.situation
        parts["choice"] = [1.0, 0.0, 0.0]
        explain = agent_turn("explain", parts, CLASSES, 1)
        assert words in explain.question
        assert f"You chose {SUV if flipped else CAR}." in explain.situation
        assert len(explain.options) == 4


def test_no_utility_is_shown_in_words() -> None:
    """Tasks in words show no utilities; the paper's instruction names no reward."""
    env = PrincipalAgent(num_people=4, tasks=("propaganda_film", "electric_car"))  # type: ignore
    assert "reward" not in env.role_rules("agent")
    texts = [t.text for t in random_turns(env) if t.role == "agent"]
    assert all("utility" not in text.situation + text.question for text in texts)
    requests = {text.situation.split("\n")[1].split(".")[0] for text in texts}
    assert len(requests) == 2  # both tasks occur, with their own customers


def test_parties_see_what_they_may_see() -> None:
    """Act and rationale are in the text of those who see and read them, and of nobody else."""
    texts = set()
    for sees, reads in itertools.product((0.0, 1.0), repeat=2):
        for role, own in (("customer", "values"), ("principal", "ideal")):
            parts = {
                own: [0.5],
                "utility": [2.5, 1.5] if role == "customer" else [0.0, 2.0],
                "sees_act": [sees],
                "reads": [reads],
                "choice": [sees, 0.0, 0.0],
                "rationale": [0.0, reads, 0.0, 0.0],
                "judged_utility": [1.25],
            }
            text = party_turn(role, parts, CLASSES, 10.0)
            assert (f"The agent chose {CAR}." in text.situation) == (sees > 0)
            assert ("it is the best choice for" in text.situation) == (reads > 0)
            assert "1.25" in text.situation
            texts.add(text)
    assert len(texts) == 8


def product(name: str, utility: float) -> dict[str, Any]:
    """A product."""
    return {"name": name, "customer": utility, "principal": -utility}


@pytest.mark.parametrize(
    ("tasks", "more", "code", "path"),
    [
        (["film"], {}, "unknown_name", "principal_agent.tasks.0"),
        (["electric_car"], {"num_principals": 2}, "conflict", "principal_agent.tasks.0.wording"),
        (
            [{"name": "a", "wording": {"principal": "P", "request": "R."}}],
            {},
            "missing",
            "principal_agent.tasks.0.wording",
        ),
        (
            [
                {
                    "name": "a",
                    "wording": {"principal": "P", "request": "R."},
                    "products": [product("a", 1.0), product("b", 1.0)],
                }
            ],
            {},
            "conflict",
            "principal_agent.tasks.0.products",
        ),
    ],
)
def test_refused_wordings(tasks: Any, more: dict[str, Any], code: str, path: str) -> None:
    """Wordings whose products cannot be told apart or have no names."""
    with refused(code, path):
        mores.make_environment("principal_agent", tasks=tasks, **more)
