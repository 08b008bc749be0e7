"""Exit codes of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mores.experiments.run import RunResult

USER_ERROR, DEFECT, INTERRUPTED, PIPE_CLOSED = 2, 3, 130, 141
EXIT_CODES = (
    "Exit codes: 0: success; 1: a claim failed or, without --allow-undecided, is undecided; "
    "2: wrong input, one line for each error on standard error; 3: an unexpected exception; "
    "130: interrupted (Ctrl-C); 141: the pipe of the output was closed; 143: terminated (SIGTERM)."
)


def exit_code_of(results: Sequence[RunResult], allow_undecided: bool) -> int:
    """1 if a claim of any run failed or, without `allow_undecided`, is undecided; else 0."""
    failed = any(result.failed for result in results)
    undecided = any(result.undecided for result in results)
    return int(failed or (undecided and not allow_undecided))
