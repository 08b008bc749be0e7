"""What is kept of calls to servers: replies, spending and the pace of calls, in one SQLite file.

Processes share a file: writes are short transactions of SQLite's write-ahead log, so that a process
that is killed loses no reply that it had stored. The log does not work on network file systems. The
file holds requests and replies in plain JSON, and no key of a server. Without a file the same
tables are in memory, for this process alone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mores.agents.language.models.served_budget import Amount
from mores.core.errors import UserError, printable

FORMAT = 1
APPLICATION_ID = 0x6D726573  # "mres"
_TABLES = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, cell TEXT, address TEXT, request TEXT, answer TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    name TEXT PRIMARY KEY, requests INTEGER, prompt_tokens INTEGER, reply_tokens INTEGER, cost REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pace (
    name TEXT PRIMARY KEY, request_time REAL, token_time REAL, not_before REAL
) WITHOUT ROWID;
"""


class ReplyStore:
    """The tables of one file, or of this process.

    Args:
        path: the file; empty: in memory.

    Raises:
        UserError: the file cannot be written, or is something else.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.RLock()
        if path:
            with contextlib.suppress(OSError):  # the next line says what is wrong
                Path(path).parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            self._database = sqlite3.connect(
                path or ":memory:", timeout=60, isolation_level=None, check_same_thread=False
            )
            self._use_write_ahead_log()
        with self.transaction() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if (version, application) != (FORMAT, APPLICATION_ID):
                if tables:
                    raise UserError(
                        f"{path} is no store of replies of format {FORMAT}: name another file",
                        code="incompatible",
                        path="store",
                    )
                database.execute(f"PRAGMA user_version = {FORMAT}")
                database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for statement in _TABLES.split(";"):
                database.execute(statement)

    def _use_write_ahead_log(self) -> None:
        for attempt in range(200):
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:  # another process does the same: SQLite does not wait
                if attempt == 199:
                    raise
                time.sleep(0.02)
        self._database.execute("PRAGMA synchronous = NORMAL")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UserError(
                f"cannot use the store of replies {self.path}: {printable(error, 200)}",
                code="not_writable",
                path="store",
            ) from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The database in a transaction of which all or nothing is written."""
        with self._lock, self._errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    # --- replies ---------------------------------------------------------------------------------

    def get(self, key: str) -> Any:
        """The answer stored under a key; `None` if there is none."""
        with self._lock, self._errors():
            query = "SELECT answer FROM replies WHERE key = ?"
            row = self._database.execute(query, (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, cell: str, address: str, request: str, answer: Any) -> Any:
        """Store an answer, and return the one that is stored: an earlier one is kept."""
        row = (key, cell, address, request, json.dumps(answer, ensure_ascii=False))
        with self.transaction() as database:
            database.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)", row)
            query = "SELECT answer FROM replies WHERE key = ?"
            (stored,) = database.execute(query, (key,)).fetchone()
        return json.loads(stored)

    def __len__(self) -> int:
        """Number of stored answers."""
        with self._lock, self._errors():
            (count,) = self._database.execute("SELECT count(*) FROM replies").fetchone()
        return count

    # --- spending --------------------------------------------------------------------------------

    def spent(self, name: str) -> Amount:
        """What was spent under a name."""
        with self._lock, self._errors():
            query = "SELECT requests, prompt_tokens, reply_tokens, cost FROM spent WHERE name = ?"
            row = self._database.execute(query, (name,)).fetchone()
        return Amount(*row) if row else Amount()

    def spend(
        self, name: str, amount: Amount, refuse: Callable[[Amount], str] = lambda total: ""
    ) -> str:
        """Add to what was spent, unless `refuse` gives a reason against the new total.

        Returns:
            The reason; empty if the amount was added.
        """
        with self.transaction() as database:
            total = self.spent(name) + amount
            reason = refuse(total)
            if not reason:
                row = (name, *total.row)
                database.execute("INSERT OR REPLACE INTO spent VALUES (?, ?, ?, ?, ?)", row)
        return reason

    # --- pace ------------------------------------------------------------------------------------

    def reserve_time(
        self, name: str, now: float, intervals: tuple[float, float], burst: float
    ) -> float:
        """Time at which a call may start, which is reserved for it.

        The generic cell rate algorithm, for two rates: a call starts `burst` seconds before all
        calls before it have had their intervals, and not earlier than the server asked for.

        Args:
            name: of the server.
            now: the time, in seconds.
            intervals: seconds that this call takes of the rate of requests, and of that of tokens.
            burst: seconds of calls that may start at once.
        """
        with self.transaction() as database:
            *next_times, not_before = self._pace(name)
            start = max(now, not_before, *(t - burst for t in next_times))
            times = (max(t, start) + x for t, x in zip(next_times, intervals, strict=True))
            row = (name, *times, not_before)
            database.execute("INSERT OR REPLACE INTO pace VALUES (?, ?, ?, ?)", row)
        return start

    def pause(self, name: str, until: float) -> None:
        """Let no call to a server start before a time."""
        with self.transaction() as database:
            *next_times, not_before = self._pace(name)
            row = (name, *next_times, max(not_before, until))
            database.execute("INSERT OR REPLACE INTO pace VALUES (?, ?, ?, ?)", row)

    def _pace(self, name: str) -> tuple[float, float, float]:
        query = "SELECT request_time, token_time, not_before FROM pace WHERE name = ?"
        row = self._database.execute(query, (name,)).fetchone()
        return row or (0.0, 0.0, 0.0)


def store_at(path: str) -> ReplyStore:
    """The store of a file, opened once in this process; empty: the one in memory."""
    return _opened(os.getpid(), str(Path(path).absolute()) if path else "")


@functools.cache
def _opened(process: int, path: str) -> ReplyStore:
    return ReplyStore(path)


def canonical_json(data: Mapping[str, Any]) -> str:
    """JSON that is equal for equal data: sorted keys, no blanks."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
