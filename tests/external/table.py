"""Write `docs/reference/clients.md` from the results of the tests.

    python -m tests.external.table

`make test-clients` runs the tests, which record `tests/external/results.json`, and this program.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.external.clients import CLIENTS, Client

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[2] / "docs/reference/clients.md"
HEAD = """\
# Clients

Each row is a client at one version whose own code was run on mores. *ids*: number of registered
environments that its tests use. *tests*: outcome of all cases, or of those that `make test` runs
("some cases"). `make test-clients` installs the clients that need other versions, each group in a
virtual environment of its own (`tests/external/requirements/`), runs the tests, and writes this
page: do not edit it.

| client | version | virtual environment | calls | ids | tests | seconds |
|---|---|---|---|---|---|---|
"""
NOT_RUN = "not run"


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    Args:
        results: rows of `tests.external.recorder`.
    """
    lines = []
    for client in CLIENTS:
        for group in client.groups:
            rows = [row for row in results if (row["client"], row["group"]) == (client.name, group)]
            lines += [_line(client, group, row) for row in rows] or [_not_run(client, group)]
    return HEAD + "\n".join(lines) + "\n"


def _line(client: Client, group: str, row: Mapping[str, Any]) -> str:
    outcomes = row["outcomes"]
    if set(outcomes) <= {"skipped"}:
        return _not_run(client, group)
    counts = ", ".join(
        f"{outcomes[outcome]} {outcome}"
        for outcome in ("passed", "failed", "skipped")
        if outcome in outcomes
    ) + ("" if row["full"] else " (some cases)")
    cells = (client.name, row["version"], group, client.calls, len(row["ids"]) or "1 or 2")
    return _cells(*cells, counts, f"{row['seconds']:.0f}")


def _not_run(client: Client, group: str) -> str:
    where = f"source code at `{client.variable}`" if client.variable else group
    return _cells(client.name, "", where, client.calls, "", NOT_RUN, "")


def _cells(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |".replace("  |", " |")


if __name__ == "__main__":
    PAGE.write_text(table(json.loads(RESULTS.read_text("utf-8"))), "utf-8")
