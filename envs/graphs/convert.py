"""Graphs of every supported type as influence graphs."""

from __future__ import annotations

from typing import Any

import scipy.sparse

from mores.core.errors import UserError
from mores.envs.graphs.csr_graph import CsrGraph
from mores.envs.graphs.influence_graph import InfluenceGraph


def to_influence_graph(graph: Any, num_people: int) -> InfluenceGraph:
    """A graph with shares of influence.

    Args:
        graph: a networkx graph, a scipy sparse matrix or array, a `CsrGraph`, an `InfluenceGraph`,
            or a list of these, one for each world. `CsrGraph` tells what their ties mean.
        num_people: the number of people that the graph must have.

    Raises:
        UserError: another type, an empty or nested list, or another number of people.
    """
    if isinstance(graph, (list, tuple)):
        graphs = [to_influence_graph(each, num_people) for each in graph]
        if not graphs or not all(each.is_shared for each in graphs):
            message = "a list of graphs needs one graph for each world"
            raise UserError(message, code="wrong_shape", path="graph")
        return InfluenceGraph.stack(graphs)
    if scipy.sparse.issparse(graph):
        graph = CsrGraph.from_scipy(graph)
    elif hasattr(graph, "is_multigraph"):  # networkx, which is imported only where used
        graph = CsrGraph.from_networkx(graph)
    if isinstance(graph, CsrGraph):
        graph = graph.influence_graph()
    if not isinstance(graph, InfluenceGraph):
        message = (
            "a graph must be a networkx graph, a scipy sparse matrix, a CsrGraph or an "
            f"InfluenceGraph, not {type(graph).__name__}"
        )
        raise UserError(message, code="wrong_type", path="graph")
    if graph.num_people != num_people:
        message = f"the graph has {graph.num_people} people; the environment has {num_people}"
        raise UserError(message, code="conflict", path="graph")
    return graph
