"""Checks of errors by code and path; their wording is in one golden file.

    with refused("unknown_name", path="coevolution.peple"):
        mores.make_environment("coevolution", peple=3)

`tests/golden/messages.json` holds every message by test. `pytest --messages=write` rewrites those
of the tests that run, `--messages=ignore` compares nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "golden" / "messages.json"
TEMPORARY = re.compile(r"/[^ :'\"]*?/pytest-\d+/(popen-gw\d+/)?")
TEST_FOLDER = re.compile(
    r"<temporary>/test_\w*?\d+(/|(?=\W))"
)  # its number depends on the tests before it
PORT = re.compile(r"127\.0\.0\.1:\d+")
mode = "check"  # set by the option --messages
written: dict[str, str] = {}
_counts: Counter[str] = Counter()
_known: dict[str, str] | None = None


@contextmanager
def refused(code: str, path: str | None = None) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Expect a `UserError` of that code, and of that path where one is given."""
    from mores.core.errors import CODES, UserError

    assert code in CODES
    with pytest.raises(UserError) as raised:
        yield raised
    error = raised.value
    assert (error.code, error.path if path is not None else None) == (code, path), error
    check_message(str(error))


def check_message(text: str) -> None:
    """Compare a message with the golden file, under the name of the running test."""
    global _known
    test = os.environ["PYTEST_CURRENT_TEST"].rsplit(" ", 1)[0]
    _counts[test] += 1
    name = f"{test} #{_counts[test]}"
    if mode == "ignore":
        return
    text = PORT.sub("127.0.0.1:<port>", TEMPORARY.sub("<temporary>/", text))
    text = TEST_FOLDER.sub("<temporary>/", text).replace(str(FILE.parents[2]), "<root>")
    if mode == "write":
        written[name] = text
        return
    if _known is None:
        _known = json.loads(FILE.read_text()) if FILE.exists() else {}
    assert _known.get(name) == text, f"new wording, {text!r}: see tests/refusals.py"


def finish() -> None:
    """Write the collected messages; those of other tests in the file do not change."""
    if mode != "write" or not written:
        return
    ran = {name.rsplit(" #", 1)[0] for name in written}
    with FILE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # other test processes write as well
        file.seek(0)
        known = json.loads(file.read() or "{}")
        others = {name: text for name, text in known.items() if name.rsplit(" #", 1)[0] not in ran}
        file.truncate(0)
        file.write(
            json.dumps(dict(sorted({**others, **written}.items())), indent=1, ensure_ascii=False)
            + "\n"
        )
