"""Exit codes of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mores.experiments.run import RunResult

USER_ERROR, DEFECT, INTERRUPTED, PIPE_CLOSED = 2, 3, 130, 141
CODES = {
    0: "success",
    1: "a claim failed or, without --allow-undecided, is undecided",
    USER_ERROR: "wrong input, one line for each error on standard error",
    DEFECT: "an unexpected exception",
    INTERRUPTED: "interrupted (Ctrl-C)",
    PIPE_CLOSED: "the pipe of the output was closed",
    143: "terminated (SIGTERM)",
}
EXIT_CODES = f"Exit codes: {'; '.join(f'{code}: {text}' for code, text in CODES.items())}."


def exit_code_of(results: Sequence[RunResult], allow_undecided: bool) -> int:
    """1 if a claim of any run failed or, without `allow_undecided`, is undecided; else 0."""
    failed = any(result.failed for result in results)
    undecided = any(result.undecided for result in results)
    return int(failed or (undecided and not allow_undecided))
