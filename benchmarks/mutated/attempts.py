"""Guarded attempts to load and to check a file: errors, messages, accesses, processor time."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mores
from benchmarks.mutated.guards import TimeLimitExceeded, describe_failure, time_limit, watched
from benchmarks.mutated.mutators import MutatedFile
from mores.core.errors import CODES, UserError
from mores.experiments.scenario.source_locations import MAX_PROBLEMS_SHOWN, ScenarioError

MAX_SECONDS = 10.0  # processor time of a file
MAX_LINE = 2000  # characters of a line of a message

# Processes, networks, changes of files: https://docs.python.org/3/library/audit_events.html
FORBIDDEN = (
    *("subprocess.", "socket.", "shutil.", "tempfile.", "pty.", "ctypes.", "pickle.", "urllib."),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "os.startfile"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "os.putenv"),
)
CODE = ("exec", "marshal.", "compile", "import", "code.__new__", "function.__new__")
READABLE = tuple(
    str(Path(folder).resolve())
    for folder in {
        *("/proc", "/sys", "/dev/null", "/dev/urandom", sys.prefix, sys.base_prefix),
        *(str(Path(mores.__file__).resolve().parents[2]), *sysconfig.get_paths().values()),
    }
)


def _fault(event: str, arguments: tuple[Any, ...], file: str, code_allowed: bool) -> str:
    """What is wrong with an event; an empty text if nothing is.

    Args:
        event, arguments: the audit event.
        file: the scenario file.
        code_allowed: whether modules may be imported and files of the package be read, as a check
            does when it constructs components.
    """
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(mode, str) and bool(set(mode) & set("wax+"))
        writes |= isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        own = str(path) == file
        known = isinstance(path, int) or str(Path(os.fsdecode(path)).resolve()).startswith(READABLE)
        if writes or not (own or (code_allowed and known)):
            return f"open {path!r:.80} {mode}"
    elif event.startswith(FORBIDDEN) or (event.startswith(CODE) and not code_allowed):
        return f"{event} {arguments!r:.80}"
    return ""


@dataclasses.dataclass
class Attempt:
    """What an attempt did.

    Attributes:
        outcome: `loaded`, `checked`, or the code of the error.
        failures: what must not happen; empty if all is well.
        seconds: processor time.
        loaded: the scenario, if it could be loaded.
    """

    outcome: str
    failures: list[str]
    seconds: float
    loaded: Any = None


def attempt(mutated: MutatedFile, file: Path, check: bool = False) -> Attempt:
    """Write a mutated file, load it, and check the scenario if asked."""
    from mores.experiments.run.dry_run import check_scenario

    file.write_bytes(mutated.data)
    failures: list[str] = []
    outcome, loaded, start = "", None, time.process_time()
    find_fault = functools.partial(_fault, file=str(file), code_allowed=check)
    with watched(find_fault) as accesses:
        try:
            with time_limit(MAX_SECONDS):
                loaded = mores.load_scenario(file, mutated.overrides)
                outcome = "loaded"
                if check:
                    check_scenario(loaded)
                    outcome = "checked"
        except UserError as error:
            outcome = error.code
            failures += message_faults(error)
        except TimeLimitExceeded:
            outcome = "time"
            failures.append(f"more than {MAX_SECONDS} s of processor time")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome = "exception"
            failures.append(describe_failure(error, 5))
    failures += [f"access: {access}" for access in dict.fromkeys(accesses)]
    return Attempt(outcome, failures, time.process_time() - start, loaded)


def message_faults(error: UserError) -> Iterator[str]:
    """What is wrong with the text of an error: one printable line a problem."""
    text = str(error)
    lines = text.split("\n")
    allowed = 1
    if isinstance(error, ScenarioError):
        allowed = min(len(error.problems), MAX_PROBLEMS_SHOWN + 1)
        codes = {problem.code for problem in error.problems}
    else:
        codes = {error.code}
    if len(lines) > allowed:
        yield f"{len(lines)} lines for {allowed} problems: {text!r:.300}"
    if codes - CODES.keys():
        yield f"unknown codes {codes - CODES.keys()}"
    for line in lines:
        if not line or not line.isprintable():
            yield f"not printable: {line!r:.300}"
        if len(line) > MAX_LINE:
            yield f"{len(line)} characters: {line:.200}"
    if not error.path.isprintable():
        yield f"path is not printable: {error.path!r:.200}"


@dataclasses.dataclass
class Tally:
    """Counts over attempts."""

    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    mutations: Counter[str] = dataclasses.field(default_factory=Counter)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    max_seconds: float = 0.0

    def add(self, label: str, mutated: MutatedFile, result: Attempt) -> None:
        """Count an attempt; keep its failures under its label."""
        self.outcomes[result.outcome] += 1
        self.mutations[mutated.mutation] += 1
        self.max_seconds = max(self.max_seconds, result.seconds)
        if result.failures:
            self.failures[label] = "; ".join(result.failures)

    def merge(self, other: Tally) -> None:
        """Add the counts of another tally."""
        self.outcomes += other.outcomes
        self.mutations += other.mutations
        self.failures |= other.failures
        self.max_seconds = max(self.max_seconds, other.max_seconds)
