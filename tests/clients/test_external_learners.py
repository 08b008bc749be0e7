"""The learners of `docs/how-to/external_learners.md` find the optimum, as the page states."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

import mores
from mores.clients.client_errors import argument_names
from mores.clients.trl import TRLRollouts
from mores.clients.trl_environment import TRLEnvironments
from mores.registry.specs import policies_from_specs
from tests.clients.kinds import FILTERS

pytestmark = pytest.mark.filterwarnings(*FILTERS)

PAGE = Path(__file__).parents[2] / "docs/how-to/external_learners.md"
CODE = re.compile("`(.*?)`")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIMUM, NO_INFLUENCE, RANDOM = 20.0, 8.0, 7.0  # returns stated on the page


def run_block(text: str) -> dict[str, Any]:
    """Variables after running the page's code block that contains `text`."""
    (block,) = [block for block in BLOCK.findall(PAGE.read_text("utf-8")) if text in block]
    variables: dict[str, Any] = {"__name__": "page"}
    exec(compile(block, str(PAGE), "exec"), variables)
    return variables


def test_returns_stated_on_the_page() -> None:
    """The optimum comes from the exact solver, the other returns from simulation."""
    environment = mores.make_environment("dr_mdp", horizon=8, num_people=1)
    planner = policies_from_specs(environment.default_policies())
    assert environment.analytic_values(planner, 8)["optimal_return"] == OPTIMUM
    metrics = ["return_real_time"]

    def mean_return(policy: mores.Policy | None) -> float:
        policies = None if policy is None else {"assistant": policy}
        result = mores.simulate(
            environment, policies, worlds=4096, rounds=8, metrics=metrics, metric_rounds=[8]
        )
        return float(result.metrics["return_real_time"].mean())

    assert mean_return(None) == OPTIMUM
    random = mores.make_policy("random")
    assert abs(mean_return(random) - RANDOM) < 4 * 3.7 / 4096**0.5  # standard deviation 3.7
    initial = mores.make_environment("dr_mdp", horizon=8, num_people=1, objective="initial")
    result = mores.simulate(initial, worlds=1, rounds=8, metrics=metrics, metric_rounds=[8])
    assert result.metrics["return_real_time"].item() == NO_INFLUENCE


def test_arguments_stated_on_the_page(tmp_path, monkeypatch) -> None:
    """The table, against the signatures; `population` sets the people."""
    lines = PAGE.read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    start = next(i for i, row in enumerate(rows) if row[:1] == ["adapter"])
    columns = [column.strip("`") for column in rows[start][2:-1]]
    clients = {
        "gymnasium.make": mores.GymnasiumEnv,
        "gymnasium.make_vec": mores.GymnasiumVectorEnv,
        "TRLRollouts": TRLRollouts,
        "TRLEnvironments": TRLEnvironments,
    }
    common = {"environment", "rounds", "policies", "population", "metrics"}
    internal = {"spec_rounds", "max_episode_steps"}  # Gymnasium passes them
    for row in itertools.takewhile(lambda row: len(row) > 1, rows[start + 2 :]):
        names, agents, *cells = row
        stated = {column for column, cell in zip(columns, cells, strict=False) if cell == "yes"}
        stated |= {*CODE.findall(agents), *CODE.findall(cells[-1])}
        for name in CODE.findall(names):
            client = clients.get(name) or getattr(mores, name)
            assert {*argument_names(client)} - internal == common | stated, name
    monkeypatch.chdir(tmp_path)
    run_block("survey_csv")


@pytest.mark.full
def test_stable_baselines3_learns() -> None:
    """256 episodes: standard error .23 before training, almost 0 after."""
    variables = run_block("stable_baselines3")
    assert abs(variables["before"] - RANDOM) < 1
    assert OPTIMUM - 0.5 < variables["after"] <= OPTIMUM
    assert (variables["real_time"], variables["initial"]) == (OPTIMUM, -NO_INFLUENCE)


def test_torchrl_learns() -> None:
    """64 worlds of eight people: standard error .16 before training, almost 0 after."""
    pytest.importorskip("torchrl", reason="an extra: pip install mores[rl]")
    variables = run_block("torchrl")
    assert abs(variables["before"] - RANDOM) < 1
    assert OPTIMUM - 0.5 < variables["after"] <= OPTIMUM
