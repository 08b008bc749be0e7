"""The loops of `docs/how-to/other_peoples_learners.md` find the optimum, as the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import mores
from tests.clients.kinds import MEANT

pytestmark = pytest.mark.filterwarnings(*MEANT)

PAGE = Path(__file__).parents[2] / "docs/how-to/other_peoples_learners.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIMUM, ALONE, RANDOM = 20.0, 8.0, 7.0  # as the page has them


def ran(words: str) -> dict[str, Any]:
    """What is left when the page's block that has these words in it was run."""
    (block,) = [block for block in BLOCK.findall(PAGE.read_text("utf-8")) if words in block]
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_the_page_knows_the_game() -> None:
    """The best there is comes from the exact solver, the other two from playing."""
    game = mores.make_environment("influence", horizon=8, people=1)
    planner = dict(game.default_policies())
    assert game.analytic_values(planner, 8)["optimum"] == OPTIMUM
    record = ["return_real_time"]

    def played(player: mores.Policy | None) -> float:
        seated = None if player is None else {"assistant": player}
        found = mores.simulate(
            game, seated, worlds=4096, rounds=8, metrics=record, metric_rounds=[8]
        )
        return float(found.metrics["return_real_time"].mean())

    assert played(None) == OPTIMUM
    anyhow = mores.make_policy("anyhow")
    assert abs(played(anyhow) - RANDOM) < 4 * 3.7 / 4096**0.5  # standard deviation 3.7
    never = mores.make_environment("influence", horizon=8, people=1, objective="initial")
    left = mores.simulate(never, worlds=1, rounds=8, metrics=record, metric_rounds=[8])
    assert float(left.metrics["return_real_time"]) == ALONE


def test_stable_baselines3_learns() -> None:
    """256 episodes: a standard error of .23 before, and almost none after."""
    found = ran("stable_baselines3")
    assert abs(found["before"] - RANDOM) < 1
    assert OPTIMUM - 0.5 < found["after"] <= OPTIMUM
    assert (found["now"], found["at_first"]) == (OPTIMUM, -ALONE)


def test_torchrl_learns() -> None:
    """64 worlds of eight people: a standard error of .16 before, and almost none after."""
    pytest.importorskip("torchrl", reason="an extra: pip install mores[rl]")
    found = ran("torchrl")
    assert abs(found["before"] - RANDOM) < 1
    assert OPTIMUM - 0.5 < found["after"] <= OPTIMUM
