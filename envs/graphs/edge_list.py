"""Edge lists: text files with one edge a line, of people who have numbers or names."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mores.core.errors import UserError, nearest_name, printable
from mores.envs.graphs.csr_graph import CsrGraph

NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")


def read_edge_list(
    file: Path,
    num_people: int | None,
    directed: bool = False,
    names: Sequence[str] = (),
    leave_out_others: bool = False,
) -> CsrGraph:
    """The graph of an edge list; for the arguments see `graph_file.read_graph`.

    Raises:
        UserError: another format, or a name that is not among `names`.
        OSError, ValueError: the file cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty file is a graph without ties
        if names:
            table = _table(file, str)
            labels, ends = np.unique(table[:, :2], return_inverse=True)
            numbers = number_of_names(labels.tolist(), names, leave_out_others)
            ends = np.array(numbers, np.int64)[ends].reshape(-1, 2)
            known = (ends >= 0).all(1)
            table, ends, people = table[known], ends[known], len(names)
        else:
            try:
                table = _table(file, np.float64)
                ends = _whole_numbers(file, table[:, :2])
                people = num_people or 1 + int(ends.max(initial=0))
            except ValueError:
                table = _table(file, str)
                labels, ends = np.unique(table[:, :2], return_inverse=True)
                _check_names(file, labels, table)
                people = len(labels)
    if table.size and table.shape[1] not in (2, 3):
        message = f"needs 2 or 3 columns, has {table.shape[1]}"
        raise UserError(message, code="wrong_shape", path=str(file))
    ends = ends.reshape(-1, 2) if table.size else np.zeros((0, 2), np.int64)
    weights = table[:, 2].astype(np.float64) if table.shape[1] == 3 else None
    return CsrGraph.from_edges(ends[:, 0], ends[:, 1], people, weights, directed)


def _table(file: Path, dtype: type) -> np.ndarray:
    """Columns of the file as numbers or as texts.

    Raises:
        ValueError: a cell is no number, or lines have different numbers of columns.
    """
    with file.open(encoding="utf-8-sig") as text:
        first = next((edge for line in text if (edge := line.split("#")[0].strip())), "")
    ends_of_first = first.split("{")[0].rstrip()
    tabs = "\t" if file.suffix.lower() == ".tsv" and "\t" in first else None
    delimiter = "," if "," in ends_of_first else tabs
    form: Any = {"delimiter": delimiter, "ndmin": 2, "quotechar": '"'}
    if "{" not in first:
        table = np.loadtxt(file, dtype, encoding="utf-8-sig", **form)
    else:
        with file.open(encoding="utf-8-sig") as text:
            table = np.loadtxt(_attributes_as_weights(text, delimiter or " "), dtype, **form)
    return np.char.strip(table) if dtype is str else table


def _whole_numbers(file: Path, ends: np.ndarray) -> np.ndarray:
    whole = ends.astype(np.int64)
    if (whole != ends).any():
        message = "people must be numbered by whole numbers"
        raise UserError(message, code="wrong_type", path=str(file))
    return whole


def _attributes_as_weights(lines: Iterable[str], delimiter: str) -> Iterator[str]:
    """Lines of `networkx.write_edgelist`, whose `{'weight': 2.0}` become a third column."""
    for line in lines:
        ends, brace, attributes = line.partition("{")
        if brace and "#" not in ends:
            try:
                found = ast.literal_eval(brace + attributes[: attributes.rindex("}") + 1])
                weight = float(found.get("weight", 1.0))
            except Exception:  # many kinds
                message = f"{printable(line.strip())!r}: attributes must be {{'weight': number}}"
                raise UserError(message, code="unreadable", path="") from None
            edge = ends.rstrip(" \t,")
            line = f"{edge}{delimiter}{weight!r}"
        yield line


def _check_names(file: Path, labels: np.ndarray, table: np.ndarray) -> None:
    """Refuse empty names, and names among numbers, such as a line with names of columns."""
    numbers = np.array([NUMBER.fullmatch(label) is not None for label in labels])
    if not labels[0]:  # they are sorted
        raise UserError("a person's name is empty", code="invalid_value", path=str(file))
    if numbers.any() and not numbers.all():
        name = labels[~numbers][0]
        row = table[(table[:, :2] == name).any(1).argmax()]
        message = (
            f"people have numbers or names, not both: {' '.join(row)!r:.60} (# begins a comment)"
        )
        raise UserError(message, code="invalid_value", path=str(file))


def number_of_names(
    labels: Sequence[str], names: Sequence[str], leave_out_others: bool
) -> list[int]:
    """Number of the person of each label; -1: no person, which only `leave_out_others` allows."""
    number = {name: index for index, name in enumerate(names)}
    others = [label for label in labels if label not in number]
    if others and not leave_out_others:
        message = f"{printable(others[0], 40)!r} is not among the names of the people"
        message += nearest_name(others[0], names)
        message += (
            ", who are those of the population without respondents left out; leave_out_others: "
            "true leaves out ties with others; # begins a comment, such as a line of headings"
        )
        raise UserError(message, code="unknown_name", path="names")
    return [number.get(label, -1) for label in labels]
