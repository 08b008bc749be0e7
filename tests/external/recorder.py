"""pytest plugin that records what the tests of each client did, for `tests/external/table.py`.

    MORES_CLIENT_GROUP=rllib MORES_CLIENT_RESULTS=tests/external/results.json \
        python -m pytest -p tests.external.recorder tests/external/test_rllib.py

A row of the results is one client in one group: version, ids of environments, numbers of tests by
outcome, seconds, and whether all cases ran. A run replaces the rows of its group whose tests it
ran; other rows stay.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mores.clients.registration import gymnasium_id
from mores.registry import REGISTRIES
from tests.cases import FULL
from tests.external.clients import CLIENTS, Client

TESTS = Path(__file__).parents[1]


class Recorder:
    """Outcomes, durations and environments of the tests of each client."""

    def __init__(self, group: str, file: Path) -> None:
        self.group, self.file = group, file
        self.clients = [client for client in CLIENTS if group in client.groups]
        self.outcomes: dict[str, Counter[str]] = {}
        self.seconds: Counter[str] = Counter()
        self.kinds: dict[str, set[str]] = {}

    def _clients(self, nodeid: str) -> list[Client]:
        path = nodeid.split("[")[0].removeprefix("tests/")
        return [
            client
            for client in self.clients
            if any(path == test or path.startswith(f"{test}::") for test in client.tests)
        ]

    @pytest.hookimpl
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The environments that a test names by its parameters."""
        for item in items:
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            kind = parameters.get("kind")
            for client in self._clients(item.nodeid):
                kinds = self.kinds.setdefault(client.name, set())
                if kind in REGISTRIES["environment"]:
                    kinds.add(gymnasium_id(kind))

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: by its call, or by a set-up that skipped or failed."""
        for client in self._clients(report.nodeid):
            self.seconds[client.name] += report.duration
            if report.when == "call" or not report.passed:
                self.outcomes.setdefault(client.name, Counter())[report.outcome] += 1

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """Write the rows of the clients that ran."""
        rows: list[dict[str, Any]] = []
        if self.file.exists():
            rows = json.loads(self.file.read_text("utf-8"))
        ran = {
            client.name: client
            for client in self.clients
            if set(self.outcomes.get(client.name, ())) - {"skipped"}
        }
        rows = [row for row in rows if row["group"] != self.group or row["client"] not in ran]
        for name, client in ran.items():
            rows.append(
                {
                    "client": name,
                    "group": self.group,
                    "version": _version(client),
                    "ids": sorted(self.kinds.get(name, ())),
                    "outcomes": dict(sorted(self.outcomes[name].items())),
                    "seconds": round(self.seconds[name], 1),
                    "full": FULL,
                }
            )
        order = {client.name: index for index, client in enumerate(CLIENTS)}
        rows.sort(key=lambda row: (order[row["client"]], row["group"]))
        self.file.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def _version(client: Client) -> str:
    """Installed version of a client; for source code the name of its folder."""
    if client.package:
        return importlib.metadata.version(client.package)
    return Path(os.environ[client.variable]).name


def pytest_configure(config: pytest.Config) -> None:
    group, file = os.environ["MORES_CLIENT_GROUP"], os.environ["MORES_CLIENT_RESULTS"]
    config.pluginmanager.register(Recorder(group, Path(file)))
