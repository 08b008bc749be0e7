"""Environments as Mesa models, used as Mesa's documentation uses models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import mores
from tests.conformance.environments import SHIPPED, make
from tests.refusals import refused

mesa = pytest.importorskip("mesa")
from mores.clients.mesa import CommunityAgent, MoresModel  # noqa: E402

ON_GRAPH = {"num_people": 12, "peers": {"rule": "degroot", "graph": {"kind": "homophily"}}}


@pytest.mark.cut(10)
@pytest.mark.parametrize("kind", [*SHIPPED[1:], SHIPPED[0]])
def test_every_environment_is_a_model(kind: str) -> None:
    environment = make(kind)
    model = MoresModel(environment, seed=3, rounds=2)
    while model.running:
        model.step()
    assert model.steps == 2
    collected = model.datacollector.get_model_vars_dataframe()
    scalars = [n for n, m in environment.metrics(model.simulator.state).items() if m.dim() == 1]
    expected = mores.simulate(environment, rounds=2, seed=3, metrics=scalars).metrics
    assert (collected["seed"] == 3).all() and set(collected) == {*scalars, "seed"}
    for name in scalars:  # the same numbers as replicate 0 of a simulation
        np.testing.assert_array_equal(collected[name], expected[name].values[0])
    agents = model.datacollector.get_agent_vars_dataframe()
    for role in environment.roles:
        rows = agents[agents["role"] == role.name].xs(2, level="Step")
        assert sorted(rows["agent_index"]) == list(range(role.num_agents))


def test_rewards_and_values_of_agents() -> None:
    """Against the records of a simulation, round by round."""
    environment = mores.make_environment("coevolution", **ON_GRAPH)
    model = MoresModel(environment, seed=5, rounds=4)
    expected = mores.simulate(environment, rounds=4, seed=5, record=["rewards"], latent=["values"])
    for completed in range(1, 5):
        model.step()
        for agent in model.agents:
            assert isinstance(agent, CommunityAgent)
            rewards = expected.records[f"rewards_{agent.role}"].values[0, :completed]
            assert agent.reward == pytest.approx(rewards[-1, agent.agent_index])
            assert agent.total_reward == pytest.approx(rewards[:, agent.agent_index].sum())
            if agent.role == "person":
                values = expected.latent["values"].values[0, completed, agent.agent_index]
                np.testing.assert_array_equal(agent.values, values)
            else:
                assert agent.values is None
    assert any(agent.total_reward for agent in model.agents)
    with refused("wrong_order"):
        model.step()


def test_values_of_agents_are_copies() -> None:
    """Writing to them, for a plot or a table, does not change the simulation."""
    one, other = (
        MoresModel("coevolution", seed=5, metrics=["mean_value"], **ON_GRAPH) for _ in range(2)
    )
    for agent in other.agents:
        if agent.values is not None:
            agent.values *= 0
    for model in (one, other):
        model.step()
    assert one.metrics == other.metrics


def test_cells_are_connected_along_the_graph() -> None:
    model = MoresModel("coevolution", seed=2, **ON_GRAPH)
    people = model.agents.select(lambda agent: agent.role == "person")
    influence = model.environment.influence_graph(model.simulator.state)
    assert influence is not None and model.influence.number_of_edges() > 12
    x = model.environment.people(model.simulator.state).values
    sums = influence.neighbor_sum(x)[0].numpy()
    for person in people:
        neighbors = list(person.cell.neighborhood.agents)
        shares = [
            model.influence.edges[person.cell.coordinate, each.cell.coordinate]["weight"]
            for each in neighbors
        ]
        by_hand = sum(w * each.values for w, each in zip(shares, neighbors, strict=True))
        np.testing.assert_allclose(by_hand, sums[person.agent_index], atol=1e-6)
    (assistant,) = model.agents.select(lambda agent: agent.role == "assistant")
    assert not list(assistant.cell.neighborhood.agents)


@pytest.mark.full
def test_batch_run_records_seeds() -> None:
    """With `seed` among the parameters, and without, where Mesa alone records none."""
    parameters: dict[str, Any] = {
        "environment": "coevolution",
        "num_people": [4, 6],
        "metrics": [["rms_distance", "mean_value"]],
        "policies": [{"person": "random"}],
    }
    options: dict[str, Any] = {"max_steps": 3, "display_progress": False}
    rows = mesa.batch_run(MoresModel, parameters | {"seed": range(2)}, **options)
    assert {(row["num_people"], row["seed"]) for row in rows} == {(4, 0), (4, 1), (6, 0), (6, 1)}
    for row in rows:
        assert row["Step"] == 3
        environment = mores.make_environment("coevolution", num_people=row["num_people"])
        again = mores.simulate(
            environment, {"person": "random"}, rounds=3, seed=row["seed"], metrics=["rms_distance"]
        )
        assert row["rms_distance"] == again.metrics["rms_distance"].values[0, 3]
        assert {"mean_value[0]", "mean_value[1]"} <= row.keys()
    unnamed = mesa.batch_run(MoresModel, parameters, iterations=2, **options)
    seeds = {row["seed"] for row in unnamed}
    assert len(seeds) == 4
    replayed = MoresModel(**{name: value[0] for name, value in parameters.items()
                             if name in ("num_people", "metrics", "policies")},
                          seed=unnamed[0]["seed"])  # fmt: skip
    for _ in range(3):
        replayed.step()
    assert replayed.metrics["rms_distance"] == unnamed[0]["rms_distance"]


def test_rng_gives_the_seed() -> None:
    one, two = (MoresModel("lock_in", rng=np.random.default_rng(4)) for _ in range(2))
    assert one.seed == two.seed != MoresModel("lock_in").seed
    assert MoresModel("lock_in", seed=np.int64(3)).seed == 3


def test_wrong_arguments() -> None:
    with refused("unknown_name"):
        MoresModel("coevolutoin")
    with refused("unknown_name", path="metrics"):
        MoresModel("coevolution", metrics=["rms_distanc"])
    with refused("unknown_name", path="coevolution.num_peopl"):
        MoresModel("coevolution", num_peopl=3)
    with refused("wrong_type", path="policies"):
        MoresModel("coevolution", policies="assistant")  # batch_run takes a mapping's keys in turn
    with refused("out_of_range", path="seed"):
        MoresModel("coevolution", seed=-1)
    with refused("conflict", path="seed"):
        MoresModel("coevolution", seed=1, rng=1)


@pytest.mark.full
def test_import_of_mores_leaves_mesa_alone() -> None:
    """Mesa sets multiprocessing's start method: it is imported only where a name is used."""
    code = "import sys, mores, mores.clients.mesa; assert 'mesa' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def widgets(widget: Any) -> Iterator[Any]:
    """A widget and all below it."""
    yield widget
    for below in (*getattr(widget, "children", ()), *(getattr(widget, "items", None) or ())):
        if not isinstance(below, str):
            yield from widgets(below)


@pytest.mark.full
@pytest.mark.parametrize("parameters", [ON_GRAPH, {"num_people": 5}], ids=["graph", "no_graph"])
def test_page_is_rendered(parameters: dict[str, Any]) -> None:
    """The network and the plot are drawn; a server answers 200 where they are not."""
    solara = pytest.importorskip("solara")
    from mores.clients.mesa import make_page

    model = MoresModel("coevolution", seed=1, **parameters)
    with refused("unknown_name", path="plots"):
        make_page(model, plots=["rms_distanc"])

    @solara.component
    def page() -> None:
        resets = {"environment": "coevolution", "seed": 1, **parameters}
        make_page(model, ["rms_distance"], parameters=resets)

    box, context = solara.render(page(), handle_error=False)
    try:
        images = [each for each in widgets(box) if type(each).__name__ == "Image"]
        assert len(images) == 2
        assert all(bytes(each.value).startswith(b"\x89PNG") for each in images)
        assert len({bytes(each.value) for each in images}) == 2
    finally:
        context.close()
