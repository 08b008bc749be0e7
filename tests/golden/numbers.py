"""The golden numbers: what the code computes, kept in `numbers.json`, compared at every change.

    python -m tests.golden.numbers             compare all with the file (`make golden`)
    python -m tests.golden.numbers --write     make the file anew

A number changes only in a commit of its own, with a row in docs/reference/changed_numbers.csv.
`addresses.json` lists every text that addressed a random stream meanwhile.
"""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from mores.core import stream_numbers
from tests.golden import clients, environments, recipes, scenarios
from tests.golden.entries import Entry, differs, machine

HERE = Path(__file__).parent
NUMBERS, ADDRESSES = HERE / "numbers.json", HERE / "addresses.json"


def all_entries() -> Iterator[tuple[str, Entry]]:
    """All golden numbers, computed now."""
    for part in (environments, clients, recipes, scenarios):
        yield from part.entries()
    yield from scenarios.run_folder()


def read() -> dict[str, Any]:
    """The file."""
    return json.loads(NUMBERS.read_text())


@functools.cache
def cases_by_part() -> dict[str, list[str]]:
    """Beginnings of names that belong together (of an environment, a client ...), by part."""
    return {
        "environments": [f"environment/{name}" for name, *_ in environments.cases()],
        "clients": [f"client/{name}" for name in clients.CLIENTS],
        "recipes": [f"recipe/{name}" for name, _ in recipes.trainings()],
        "scenarios": [f"scenario/{name}" for name in scenarios.covered()],
        "run": ["run/karate"],
    }


@functools.cache
def case_of(name: str) -> str:
    """The case of an entry: the longest that its name begins with."""
    known = {case for cases in cases_by_part().values() for case in cases}
    parts = name.split("/")
    beginnings = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((beginning for beginning in beginnings if beginning in known), "")


def learned_prefixes() -> tuple[str, ...]:
    """Beginnings of the names of what is learned: training amplifies differences of last bits."""
    return ("recipe/", *(f"scenario/{name}/" for name in scenarios.with_training()))


def compare(
    found: Iterable[tuple[str, Entry]], golden: dict[str, Any], cases: Sequence[str] = ()
) -> list[str]:
    """A line for every entry that differs from the file, or that the file has in addition.

    On machines where hashes are not comparable, what is learned is printed and not compared.

    Args:
        found: entries computed now.
        golden: the file.
        cases: beginnings of the names of what was computed; default: everything.
    """
    known, entries, here = golden["entries"], dict(found), machine()
    expected = {name for name in known if not cases or case_of(name) in cases}
    lines = [f"{name}: no longer there" for name in sorted(expected - entries.keys())]
    for name, new in entries.items():
        if name not in known:
            lines.append(f"{name}: not in the file")
            continue
        old = dict(known[name])
        made = golden["machine"]["cpu_capability"]  # of the file, unless the entry is newer
        same = here == golden["machine"] | {"cpu_capability": old.pop("cpu_capability", made)}
        # The last bits of intervals depend on the kernels that numpy and scipy choose for a CPU.
        same = same and "/claim " not in name
        new = {key: part for key, part in new.items() if key != "cpu_capability"}
        # The rounds of a scenario amplify rounding errors.
        tolerance = 2e-3 if name.startswith(("scenario/", "run/")) else 1e-5
        if why := differs(old, new, same, tolerance):
            reported = not same and name.startswith(learned_prefixes())
            print(f"{name}: {why}") if reported else lines.append(f"{name}: {why}")
    return lines


def main() -> int:
    """Compare, or write."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    addresses: set[str] = set()
    stream_id = stream_numbers.stream_id

    def record_address(name: str) -> tuple[int, int]:
        addresses.add(name)
        return stream_id(name)

    with mock.patch.object(stream_numbers, "stream_id", record_address):
        found = dict(all_entries())
    if "--write" in sys.argv:
        lines = [f"  {json.dumps(name)}: {json.dumps(e)}" for name, e in found.items()]
        body = ",\n".join(lines)
        where = json.dumps(machine())
        NUMBERS.write_text(f'{{"machine": {where},\n"entries": {{\n{body}\n}}}}\n')
        ADDRESSES.write_text(json.dumps(sorted(addresses), indent=0) + "\n")
        print(f"{len(found)} entries, {len(addresses)} addresses")
        return 0
    golden = read()
    lines = compare(found.items(), golden)
    missing = set(json.loads(ADDRESSES.read_text())) ^ addresses
    lines += [f"address {name!r}: new, or gone" for name in sorted(missing)]
    print("\n".join(lines) or f"{len(found)} entries and {len(addresses)} addresses are equal")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
