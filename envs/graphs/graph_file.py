"""Graphs from files: edge lists, scipy's .npz, GraphML and GML. Nothing is unpickled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import scipy.sparse
from pydantic import Field, model_validator

from mores.core.data_file import SHA256_DESCRIPTION, check_digest, no_such_file
from mores.core.errors import ParameterError, UserError
from mores.core.graph import GraphSource
from mores.core.names import PersonNames
from mores.envs.graphs.csr_graph import CsrGraph
from mores.envs.graphs.edge_list import number_of_names, read_edge_list
from mores.envs.graphs.influence_graph import InfluenceGraph

EDGE_LISTS = (".csv", ".edgelist", ".edges", ".tsv", ".txt")
FORMATS = (*EDGE_LISTS, ".npz", ".graphml", ".gml")
XML_LIMIT = 2**30  # bytes of GraphML and GML, which become Python objects


class GraphFile(GraphSource):
    """The graph of a file, shared by all worlds; for the weights of ties see `CsrGraph`.

    Edge lists have one edge a line: person, neighbor and optionally a weight, a number or as
    networkx writes it, `{'weight': 2.0}`. Columns are separated by blanks or commas, in `.tsv` by
    tabs if there are any; `#` begins a comment. People are numbered from 0, or have names. Names
    are matched with those of the population, if it names its people, in all formats but `.npz`;
    else people have the order of the sorted names.
    """

    path: str = Field(
        min_length=1,
        description="edge list (.txt .csv .tsv .edges .edgelist), scipy's .npz, .graphml or .gml",
    )
    directed: bool = Field(
        default=False, description="edge lists: whether an edge is a tie in one direction only"
    )
    weighted: bool = Field(default=True, description="whether weights in the file are used")
    self_weight: float = Field(
        default=1.0, ge=0, description="weight of the own value of people without a self-loop"
    )
    names: PersonNames = Field(
        default=(),
        description="names of people in their order; default: those of the population, else the "
        "sorted names of the file",
    )
    leave_out_others: bool = Field(
        default=False, description="whether ties with people who are not in `names` are left out"
    )
    sha256: str | None = Field(default=None, description=SHA256_DESCRIPTION)

    @model_validator(mode="after")
    def _fill_digest(self) -> GraphFile:
        if (digest := check_digest(self.path, self.sha256)) is None:
            return self
        object.__setattr__(self, "sha256", digest)  # the class is frozen for others
        self.__pydantic_fields_set__.add("sha256")
        return self

    def for_people(self, names: Sequence[str]) -> GraphFile:
        """The same, with these names of people, unless it has its own; `.npz` has no names."""
        if self.names or self.path.lower().endswith(".npz"):
            return self
        return self.model_copy(update={"names": tuple(names)})

    def check_num_people(self, num_people: int) -> None:
        """Read the file and compare its number of people."""
        try:
            people = self._graph(num_people).num_people
        except UserError as error:
            raise ParameterError("path", message=str(error), code=error.code) from None
        if people != num_people:
            message = f"{self.path} has {people} people; num_people is {num_people}"
            raise ParameterError("path", message=message, code="conflict")

    def shared_graph(self, num_people: int) -> InfluenceGraph:
        """The graph of the file."""
        return self._graph(num_people).influence_graph(self.self_weight)

    def _graph(self, num_people: int) -> CsrGraph:
        form = self.directed, self.weighted, self.sha256
        return read_graph(self.path, num_people, *form, self.names, self.leave_out_others)


@functools.lru_cache(maxsize=4)
def read_graph(
    path: str,
    num_people: int | None = None,
    directed: bool = False,
    weighted: bool = True,
    digest: str | None = None,
    names: tuple[str, ...] = (),
    leave_out_others: bool = False,
) -> CsrGraph:
    """The graph of a file; `GraphFile` describes the formats.

    Args:
        path: the file.
        num_people: number of people of an edge list of numbers; None: the largest number + 1.
        directed: see `GraphFile`.
        weighted: see `GraphFile`.
        digest: that the content must have; None: any.
        names: see `GraphFile`.
        leave_out_others: see `GraphFile`.

    Raises:
        UserError: the file cannot be read, or has another format.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if names and suffix == ".npz":
        raise UserError(f"graph {path}: .npz names no people", code="conflict", path="names")
    if leave_out_others and not names:
        message = f"graph {path}: leave_out_others needs names of people"
        raise UserError(message, code="conflict", path="leave_out_others")
    if not file.is_file():
        problem = no_such_file(path, FORMATS)
        raise UserError(f"graph {path}: {problem}", code="unreadable", path=path)
    try:
        if suffix in EDGE_LISTS:
            graph = read_edge_list(file, num_people, directed, names, leave_out_others)
        elif suffix == ".npz":
            matrix = scipy.sparse.load_npz(file)
            if num_people not in (None, matrix.shape[0]):  # before anything of that size is made
                message = f"has {matrix.shape[0]} people; num_people is {num_people}"
                raise UserError(message, code="conflict", path=path)
            graph = CsrGraph.from_scipy(matrix)
        elif suffix in (".graphml", ".gml"):
            graph = CsrGraph.from_networkx(_networkx_graph(file, names, leave_out_others))
        else:
            raise UserError(
                f"the name must end in {', '.join(FORMATS)}", code="unreadable", path=path
            )
        if digest not in (None, check_digest(path, None)):  # after reading: any change is seen
            raise UserError("has another digest", code="incompatible", path=path)
    except UserError as error:
        message = f"graph {path}: {error}"
        raise UserError(message, code=error.code, path=path) from None
    except Exception as error:
        message = f"graph {path}: {type(error).__name__}: {error}"
        raise UserError(message, code="unreadable", path=path) from None
    return graph if weighted else dataclasses.replace(graph, weights=None)


def _networkx_graph(file: Path, names: tuple[str, ...], leave_out_others: bool) -> Any:
    import networkx as nx

    if file.stat().st_size > XML_LIMIT:
        message = f"more than {XML_LIMIT:,} bytes: write it as .npz"
        raise UserError(message, code="too_large", path=str(file))
    graph = nx.read_gml(file) if file.suffix.lower() == ".gml" else nx.read_graphml(file)
    if not names:
        return graph
    number_of_names([str(node) for node in graph], names, leave_out_others)
    ordered = type(graph)()
    ordered.add_nodes_from(names)
    known = set(names)
    ordered.add_edges_from(
        (str(one), str(other), tie)
        for one, other, tie in graph.edges(data=True)
        if str(one) in known and str(other) in known
    )
    return ordered
