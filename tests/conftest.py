"""Configuration of all tests.

Shapes and types in the annotations of `mores` are checked at every call: pyproject.toml gives
pytest the option `--jaxtyping-packages=mores,beartype.beartype`, whose import hook must be
installed before `mores` is imported. Therefore this file does not import it. Processes that a test
starts (a command line, a worker) have no hook: their annotations are not checked.
"""

from __future__ import annotations

import os
import signal

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch and numpy read it; child processes inherit it
os.environ.setdefault("MPLBACKEND", "Agg")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell ignores it in the background, and so would the processes that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import random  # noqa: E402

import beartype._check.code.codemain  # noqa: E402

# beartype checks random entries of lists; not with the numbers of Python's own generator, whose
# use by an environment is refused
beartype._check.code.codemain.getrandbits = random.Random(0).getrandbits

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from tests.cases import deselect, scaled  # noqa: E402

torch.set_num_threads(1)

# Examples are the same in every run. For new ones: --hypothesis-profile=search
hypothesis.settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, max_examples=scaled(100)
)
hypothesis.settings.register_profile("search", deadline=None, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile("fixed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    deselect(config, items)
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an accelerator"))


def pytest_addoption(parser: pytest.Parser) -> None:
    choices = ("check", "write", "ignore")
    parser.addoption("--messages", choices=choices, default="check", help="see tests/refusals.py")


def pytest_configure(config: pytest.Config) -> None:
    from tests import refusals

    refusals.mode = config.getoption("--messages")


def pytest_sessionfinish() -> None:
    from tests import refusals

    refusals.finish()
