"""Ties between people as data: compressed sparse rows from networkx, edges, scipy or files.

One meaning for every source: a tie (i, j), an entry of row i, says that person i listens to person
j, so j influences i. In a directed networkx graph that is the edge i -> j, as in its adjacency
matrix; an undirected edge is a tie in both directions. A weight is the strength of a tie; it may be
negative, and a tie of weight 0 is no tie. Ties that are listed more than once are kept: their
weights add, and their absolute weights add in `s_i` below. A self-loop, counted once, is the weight
of a person's own value. The people are numbered in the order of the graph's nodes.

`influence_graph` turns the ties into shares of influence:

    share of j in person i = w_ij / s_i,    own share = w_ii / s_i,    s_i = |w_ii| + sum_j |w_ij|

where w_ii is `self_weight` for people without a self-loop. Isolated people keep their values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int

from mores.core.errors import UserError
from mores.envs.graphs.influence_graph import MAX_CLOSED_FORM, InfluenceGraph

MAX_PEOPLE = 2**31 - 1


@dataclasses.dataclass(frozen=True, eq=False)
class CsrGraph:
    """Ties of people, in rows sorted by the number of the other person.

    Attributes:
        indptr: row i holds the ties `indptr[i]` to `indptr[i + 1]`, int32 (int64 from 2^31 ties).
        indices: the person at the other end of each tie, int32.
        weights: weight of each tie; None: all 1.

    Raises:
        UserError: these are not the arrays of a graph.
    """

    indptr: Int[np.ndarray, " agent_plus_1"]
    indices: Int[np.ndarray, " tie"]
    weights: Float[np.ndarray, " tie"] | None = None

    def __post_init__(self) -> None:
        """Check the arrays, and convert them to their types."""
        indptr, indices = np.asarray(self.indptr), np.asarray(self.indices)
        weights = None if self.weights is None else np.asarray(self.weights)
        if indptr.dtype.kind not in "iu" or indices.dtype.kind not in "iu":
            _refuse("indptr and indices must be whole numbers", "wrong_type")
        if weights is not None and weights.dtype.kind not in "biuf":
            _refuse("weights must be real numbers", "wrong_type")
        if indptr.ndim != 1 or indices.ndim != 1 or len(indptr) < 2:
            _refuse("indptr and indices must have one dimension, and one person", "wrong_shape")
        if weights is not None and weights.shape != indices.shape:
            message = f"{len(indices)} ties and weights of shape {weights.shape}"
            _refuse(message, "wrong_shape")
        if indptr[0] != 0 or indptr[-1] != len(indices) or (indptr[1:] < indptr[:-1]).any():
            message = f"indptr must rise from 0 to the number of ties, {len(indices)}"
            _refuse(message, "invalid_value")
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(indptr) - 1:
            message = f"people in indices are numbered 0 to {len(indptr) - 2}"
            _refuse(message, "out_of_range")
        with np.errstate(over="ignore"):
            size = 0.0 if weights is None else np.abs(weights, dtype=np.float64).sum()
        if not np.isfinite(size):
            _refuse("the sum of the absolute weights is not finite", "not_finite")
        index = np.int32 if len(indices) <= MAX_PEOPLE else np.int64
        object.__setattr__(self, "indptr", indptr.astype(index, copy=False))
        object.__setattr__(self, "indices", indices.astype(np.int32, copy=False))
        if weights is not None:
            object.__setattr__(self, "weights", weights.astype(np.float64, copy=False))

    @property
    def num_people(self) -> int:
        """Number of people, with isolated ones."""
        return len(self.indptr) - 1

    @staticmethod
    def from_edges(
        people: Int[np.ndarray, " edge"],
        neighbors: Int[np.ndarray, " edge"],
        num_people: int,
        weights: Float[np.ndarray, " edge"] | None = None,
        directed: bool = False,
    ) -> CsrGraph:
        """Graph of edges `(people[k], neighbors[k])` between people 0 to `num_people - 1`.

        Args:
            people: who listens.
            neighbors: whom they listen to.
            num_people: number of people.
            weights: weight of each edge; None: all 1.
            directed: whether an edge is a tie in one direction only.

        Raises:
            UserError: a number without a person, a weight that is not finite, or arrays of
                different lengths.
        """
        people, neighbors = np.asarray(people), np.asarray(neighbors)
        lengths = {np.shape(each) for each in (people, neighbors, weights) if each is not None}
        if len(lengths) > 1 or people.ndim != 1:
            message = "edges: people, neighbors and weights must be lists of equal length"
            raise UserError(message, code="wrong_shape", path="edges")
        if any(len(ends) and ends.dtype.kind not in "iu" for ends in (people, neighbors)):
            message = "edges: people are numbered by whole numbers"
            raise UserError(message, code="wrong_type", path="edges")
        if not 1 <= num_people <= MAX_PEOPLE:
            message = f"a graph has 1 to {MAX_PEOPLE:,} people, not {num_people}"
            raise UserError(message, code="out_of_range", path="num_people")
        for ends in (people, neighbors):
            if len(ends) and not 0 <= ends.min() <= ends.max() < num_people:
                wrong = ends.min() if ends.min() < 0 else ends.max()
                message = f"edges: no person {wrong}; people are numbered 0 to {num_people - 1}"
                raise UserError(message, code="out_of_range", path="edges")
        if weights is not None:
            weights = np.asarray(weights, dtype=np.float64)
            if not np.isfinite(weights).all():
                raise UserError("edges: a weight is not finite", code="not_finite", path="edges")
            if not weights.all():
                real = weights != 0
                people, neighbors, weights = people[real], neighbors[real], weights[real]
        tie = people.astype(np.int64) * num_people + neighbors  # sorts by person, then neighbor
        if not directed:
            other = people != neighbors
            reverse = neighbors[other].astype(np.int64) * num_people + people[other]
            tie = np.concatenate([tie, reverse])
            weights = None if weights is None else np.concatenate([weights, weights[other]])
        if weights is None:
            tie.sort()
        else:
            order = np.argsort(tie, kind="stable")
            tie, weights = tie[order], weights[order]
        index = np.int32 if len(tie) <= MAX_PEOPLE else np.int64
        indptr = np.searchsorted(tie, np.arange(num_people + 1) * num_people).astype(index)
        np.remainder(tie, num_people, out=tie)
        return CsrGraph(indptr, tie.astype(np.int32), weights)

    @staticmethod
    def from_scipy(matrix: Any) -> CsrGraph:
        """Graph of a square scipy sparse matrix or array: entry [i, j] is the tie (i, j).

        Raises:
            UserError: the matrix is not square or its arrays are not consistent, or a weight is not
                finite or not real.
        """
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            message = f"the matrix of a graph must be square, not {matrix.shape}"
            raise UserError(message, code="wrong_shape", path="graph")
        if np.iscomplexobj(matrix):
            raise UserError("weights must be real numbers", code="wrong_type", path="graph")
        if hasattr(matrix, "check_format"):
            try:
                matrix.check_format(full_check=True)
            except ValueError as error:
                message = f"the matrix is not consistent: {error}"
                raise UserError(message, code="invalid_value", path="graph") from None
        ties = matrix.tocoo()
        return CsrGraph.from_edges(ties.row, ties.col, matrix.shape[0], ties.data, directed=True)

    @staticmethod
    def from_networkx(graph: Any, weight: str | None = "weight") -> CsrGraph:
        """Graph of a networkx graph or multigraph, with any node labels.

        Nodes 0 to n - 1 are the people with these numbers, in whatever order they were added. With
        other labels, people are numbered in the order of the nodes. Edges are streamed into arrays:
        8 bytes an edge, 16 with weights.

        Args:
            graph: the networkx graph.
            weight: attribute of edges that holds the weight, 1 if missing; None: all 1.

        Raises:
            UserError: no nodes, or a weight that is not a finite number.
        """
        number: Mapping[Any, int] | range = range(len(graph))
        integers = (int, np.integer)  # of which a label of True is none
        if not all(isinstance(i, integers) and type(i) is not bool and i in number for i in graph):
            number = {label: i for i, label in enumerate(graph)}
        count = graph.number_of_edges()
        if weight is None:
            ends = (number[label] for edge in graph.edges() for label in edge)
            edges = np.fromiter(ends, np.int32, 2 * count).reshape(count, 2)
            return CsrGraph.from_edges(
                edges[:, 0], edges[:, 1], len(graph), directed=graph.is_directed()
            )
        columns = np.dtype([("person", np.int32), ("neighbor", np.int32), ("weight", np.float64)])
        rows = ((number[a], number[b], w) for a, b, w in graph.edges(data=weight, default=1.0))
        try:
            table = np.fromiter(rows, columns, count)
        except (TypeError, ValueError) as error:
            message = f"edge attribute {weight!r} must be a number: {error}"
            raise UserError(message, code="wrong_type", path="graph") from None
        weights = None if (table["weight"] == 1.0).all() else table["weight"]
        return CsrGraph.from_edges(
            table["person"], table["neighbor"], len(graph), weights, graph.is_directed()
        )

    def influence_graph(self, self_weight: float = 1.0) -> InfluenceGraph:
        """Shares of influence of all ties and of people's own values: see the module.

        Args:
            self_weight: weight of the own value of people without a self-loop, at least 0.
        """
        agents = self.num_people
        rows = np.repeat(np.arange(agents, dtype=np.int32), np.diff(self.indptr))
        indptr, indices, weights = self.indptr, self.indices, self.weights
        own = np.full(agents, float(self_weight))
        loop = rows == indices
        if loop.any():
            of = rows[loop]
            own[of] = 0.0
            np.add.at(own, of, 1.0 if weights is None else weights[loop])
            rows, indices = rows[~loop], indices[~loop]
            weights = None if weights is None else weights[~loop]
            indptr = np.searchsorted(rows, np.arange(agents + 1)).astype(self.indptr.dtype)
        degree = np.diff(indptr)
        size = degree if weights is None else np.bincount(rows, np.abs(weights), agents)
        size = np.abs(own) + size
        own[size == 0] = size[size == 0] = 1.0  # without any tie or self-weight
        own /= size
        if weights is None:
            shares = np.repeat((1.0 / size).astype(np.float32), degree)
        else:
            shares = (weights / size[rows]).astype(np.float32)
        exact = None
        if agents <= MAX_CLOSED_FORM:
            exact_shares = (1.0 if weights is None else weights) / size[rows]
            parts = (exact_shares, indices, indptr)
            exact = scipy.sparse.csr_array(parts, shape=(agents, agents))
            exact = exact + scipy.sparse.diags_array(own, format="csr")
        arrays = (indptr, indices, shares, own.astype(np.float32))
        return InfluenceGraph(*map(torch.from_numpy, arrays), exact_matrix=exact)


def _refuse(message: str, code: str) -> NoReturn:
    raise UserError(f"CsrGraph: {message}", code=code, path="graph")
