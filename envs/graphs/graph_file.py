"""Graphs from files: edge lists, scipy's .npz, GraphML and GML. Nothing is unpickled."""

from __future__ import annotations

import functools
import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from pydantic import Field, model_validator

from mores.core.errors import ParameterError, UserError
from mores.core.graph import GraphSource
from mores.envs.graphs.csr_graph import CsrGraph
from mores.envs.graphs.influence_graph import InfluenceGraph

EDGE_LISTS = (".csv", ".edgelist", ".edges", ".tsv", ".txt")
XML_LIMIT = 2**30  # bytes of GraphML and GML, which become Python objects


class GraphFile(GraphSource):
    """The graph of a file, shared by all worlds; `mores.envs.graphs.csr_graph` tells its meaning.

    Edge lists have one edge a line: person, neighbor and optionally a weight, separated by blanks
    or commas; `#` begins a comment. People are numbered from 0, or have names, which are sorted.
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
    sha256: str | None = Field(
        default=None,
        description="digest of the file, which must match; null: filled in, so that a run is not "
        "resumed with another file",
    )

    @model_validator(mode="after")
    def _fill_digest(self) -> GraphFile:
        if Path(self.path).is_file():
            with Path(self.path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if self.sha256 not in (None, digest):
                message = f"{self.path} has another digest, {digest}"
                raise ParameterError("sha256", message=message, code="incompatible")
            object.__setattr__(self, "sha256", digest)  # the class is frozen for others
            self.__pydantic_fields_set__.add("sha256")
        return self

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
        return read_graph(self.path, num_people, self.directed, self.weighted, self.sha256)


@functools.lru_cache(maxsize=4)
def read_graph(
    path: str,
    num_people: int | None = None,
    directed: bool = False,
    weighted: bool = True,
    digest: str | None = None,
) -> CsrGraph:
    """The graph of a file; `GraphFile` describes the formats.

    Args:
        path: the file.
        num_people: number of people of an edge list of numbers; None: the largest number + 1.
        directed: see `GraphFile`.
        weighted: see `GraphFile`.
        digest: of the content; a file that has changed is read again.

    Raises:
        UserError: the file cannot be read, or has another format.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if not file.is_file():
        raise UserError(f"graph {path}: no such file", code="unreadable", path=path)
    try:
        if suffix in EDGE_LISTS:
            return _edge_list(file, num_people, directed, weighted)
        if suffix == ".npz":
            matrix = scipy.sparse.load_npz(file)
            if not weighted:
                matrix.data = (matrix.data != 0).astype(np.float64)
            return CsrGraph.from_scipy(matrix)
        if suffix in (".graphml", ".gml"):
            return CsrGraph.from_networkx(_networkx_graph(file), "weight" if weighted else None)
    except UserError as error:
        message = f"graph {path}: {error}"
        raise UserError(message, code=error.code, path=path) from None
    except Exception as error:
        message = f"graph {path}: {type(error).__name__}: {error}"
        raise UserError(message, code="unreadable", path=path) from None
    known = ", ".join((*EDGE_LISTS, ".npz", ".graphml", ".gml"))
    raise UserError(f"graph {path}: the name must end in {known}", code="unreadable", path=path)


def _edge_list(file: Path, num_people: int | None, directed: bool, weighted: bool) -> CsrGraph:
    with file.open() as text:
        first = next((line for line in text if line.split("#")[0].strip()), "")
    load = functools.partial(np.loadtxt, file, delimiter="," if "," in first else None, ndmin=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty file is a graph without ties
        try:
            table = load(dtype=np.float64)
            ends = table[:, :2].astype(np.int64)
            if (ends != table[:, :2]).any():
                message = "people must be numbered by whole numbers"
                raise UserError(message, code="wrong_type", path=str(file))
            people = num_people or 1 + int(ends.max(initial=0))
        except ValueError:
            table = load(dtype=str)
            _refuse_header(file, table)
            labels, ends = np.unique(np.char.strip(table[:, :2]), return_inverse=True)
            people = len(labels)
    if table.size and table.shape[1] not in (2, 3):
        message = f"needs 2 or 3 columns, has {table.shape[1]}"
        raise UserError(message, code="wrong_shape", path=str(file))
    ends = ends.reshape(-1, 2) if table.size else np.zeros((0, 2), np.int64)
    weights = table[:, 2].astype(np.float64) if table.shape[1] == 3 else None
    if weights is not None and not weighted:
        ends, weights = ends[weights != 0], None  # a tie of weight 0 is no tie
    return CsrGraph.from_edges(ends[:, 0], ends[:, 1], people, weights, directed)


def _refuse_header(file: Path, table: Any) -> None:
    """Refuse an edge list of numbers whose first line is names of columns."""
    numbers = np.atleast_1d(np.char.isdigit(np.char.strip(table[:, :2])).all(1))
    if len(numbers) > 1 and numbers[1:].all() and not numbers[0]:
        message = f"the first line, {' '.join(table[0])!r:.60}, is no edge: begin it with #"
        raise UserError(message, code="invalid_value", path=str(file))


def _networkx_graph(file: Path) -> Any:
    import networkx as nx

    if file.stat().st_size > XML_LIMIT:
        message = f"more than {XML_LIMIT:,} bytes: write it as .npz"
        raise UserError(message, code="too_large", path=str(file))
    return nx.read_gml(file) if file.suffix.lower() == ".gml" else nx.read_graphml(file)
