"""The page of clients states the recorded results; every client has tests and a row."""

from __future__ import annotations

import json

from tests.external.clients import CLIENTS, GROUPS
from tests.external.recorder import TESTS
from tests.external.table import NOT_RUN, PAGE, RESULTS, table


def test_page_states_the_results() -> None:
    results = json.loads(RESULTS.read_text("utf-8"))
    assert PAGE.read_text("utf-8") == table(results), "python -m tests.external.table"
    assert not [row for row in results if "failed" in row["outcomes"]]


def test_every_client_has_tests() -> None:
    for client in CLIENTS:
        assert set(client.groups) <= set(GROUPS)
        assert bool(client.package) != bool(client.variable)
        for test in client.tests:
            assert (TESTS / test.split("::")[0]).is_file(), test
    files = {test.split("::")[0] for client in CLIENTS for test in client.tests}
    external = {f"external/{file.name}" for file in TESTS.glob("external/test_*.py")}
    assert external - files == {"external/test_table.py"}


def test_rows() -> None:
    """A client that did not run, or whose tests were skipped, is said not to have run."""
    page = table([])
    assert page.count(NOT_RUN) == sum(len(client.groups) for client in CLIENTS)
    row = {
        "client": "RLlib",
        "group": "rllib",
        "version": "2.0",
        "ids": ["mores/LockIn-v1"],
        "outcomes": {"passed": 3, "skipped": 1},
        "seconds": 4.2,
        "full": True,
    }
    (line,) = [line for line in table([row]).splitlines() if line.startswith("| RLlib")]
    assert line.startswith("| RLlib | 2.0 | rllib |")
    assert line.endswith("| 1 | 3 passed, 1 skipped | 4 |")
    assert table([row | {"outcomes": {"skipped": 4}}]) == page
