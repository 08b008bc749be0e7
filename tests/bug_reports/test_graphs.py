"""A graph that was made by anyone's means is read as it is meant, or refused.

Reports about peers: nodes must be numbered from 0 and have no names, and the model runs without an
error and without the rest, https://github.com/mesa/mesa/issues/1433; nodes 0 to n - 1 that were
added in another order have other rows in the matrix than their numbers,
https://github.com/networkx/networkx/issues/7173
"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest

import mores
from mores.envs.graphs.csr_graph import CsrGraph
from mores.registry import REGISTRIES


def matrix(graph: Any) -> np.ndarray:
    """Shares of influence, row i of person i."""
    return CsrGraph.from_networkx(graph).influence_graph().matrix().toarray()


@pytest.mark.parametrize("integer", [int, np.int64])
def test_numbered_nodes_are_the_people_with_their_numbers(integer: type) -> None:
    edges = [(0, 2), (0, 3), (1, 2), (3, 1)]  # node 2 is added second
    graph = nx.DiGraph([(integer(a), integer(b)) for a, b in edges])
    assert list(graph) != sorted(graph)
    ties = {(i, j) for i, j in zip(*matrix(graph).nonzero(), strict=True) if i != j}
    assert ties == set(edges)


def test_names_keep_the_order_of_the_nodes() -> None:
    graph = nx.Graph()
    graph.add_edges_from([("carla", "bob"), ("bob", "anna")])
    graph.add_node("isolated")
    shares = matrix(graph)
    assert (shares[0, 1], shares[0, 2]) == (0.5, 0.0)  # carla listens to bob
    assert shares[3].tolist() == [0.0, 0.0, 0.0, 1.0]  # nobody else
    one_based = nx.relabel_nodes(nx.path_graph(4), {i: i + 1 for i in range(4)})
    np.testing.assert_array_equal(matrix(one_based), matrix(nx.path_graph(4)))


def test_loops_and_several_edges_are_ties() -> None:
    graph = nx.MultiDiGraph([(0, 1), (0, 1), (0, 0), (1, 2)])
    np.testing.assert_allclose(matrix(graph)[0], [1 / 3, 2 / 3, 0.0])


def test_a_community_on_a_graph_with_names_is_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    def friends(num_people: int) -> nx.Graph:
        names = {i: f"person {i}" for i in range(num_people - 1)}
        graph: nx.Graph = nx.relabel_nodes(nx.path_graph(num_people - 1), names)
        graph.add_node("alone")
        return graph

    monkeypatch.setitem(REGISTRIES["graph"], "named_friends", friends)
    peers = {"rule": "degroot", "graph": {"kind": "named_friends"}}
    environment = mores.make_environment(
        "coevolution", num_people=6, num_assistants=0, human="idealised", peers=peers
    )
    result = mores.simulate(environment, rounds=30, seed=1, latent=["values"])
    start, end = result.latent["values"][0, [0, -1]].values  # person value
    np.testing.assert_allclose(end[5], start[5], atol=1e-6)
    assert end[:5].std(0).max() < 0.5 * start[:5].std(0).max()
