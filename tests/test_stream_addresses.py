"""Every text that addresses a random stream stands in one table."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from mores.core import stream_addresses
from mores.core.stream_addresses import ADDRESSES

ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = {
    *("child", "uniform", "normal", "gumbel", "gumbel_rows", "categorical", "ordered_categorical")
}
SEGMENT = re.compile(r"[^/{}]+")
# Names that users may choose: roles, phases and layers of the golden cases.
CHOSEN = re.compile(
    r"(agent|assistant|ceiling|customer|explain|explicit|implicit|intermediate|person|player|principal|reseeded"
    r"|believe|compose|composer|decide|human|matched|propose|respond|robot|send|sender"
    r"|state|user|write"
    r"|student|supervisor|advise|answer|answer_again|assist|choose|offer|pay"
    r"|rate|report|review|work|seats \d|(act|policy|critic)\..*|value|epoch \d|part \d)"
)


def texts(path: Path) -> list[tuple[int, str]]:
    """Literal parts of the addresses in a file, with their lines."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            stream = node.args[0]
            if node.func.attr not in FUNCTIONS:
                continue
            parts = stream.values if isinstance(stream, ast.JoinedStr) else [stream]
            for part in parts:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found += [(node.lineno, s.strip()) for s in SEGMENT.findall(part.value)]
    return found


def source_files() -> list[Path]:
    return [p for d in ("src/mores", "envs", "agents") for p in (ROOT / d).rglob("*.py")]


@pytest.mark.parametrize("folder", ["src/mores", "envs", "agents"])
def test_every_literal_is_in_the_table(folder: str) -> None:
    unknown = [
        f"{path.relative_to(ROOT)}:{line} {text!r}"
        for path in (ROOT / folder).rglob("*.py")
        for line, text in texts(path)
        if text and text not in ADDRESSES
    ]
    assert not unknown


def test_the_table_has_no_unused_text() -> None:
    used = {text for path in source_files() for _, text in texts(path)}
    names = {n: v for n, v in vars(stream_addresses).items() if n.isupper() and isinstance(v, str)}
    source = "\n".join(p.read_text() for p in source_files() if p.stem != "stream_addresses")
    words = {*re.findall(r"\w+", source)}
    used |= {text for name, text in names.items() if name in words}
    quoted = {
        text for text in ADDRESSES.keys() - used if f'"{text}"' in source or f'"{text} ' in source
    }
    assert ADDRESSES.keys() <= used | quoted


def test_golden_addresses_are_made_of_texts_of_the_table() -> None:
    recorded = json.loads((ROOT / "tests/golden/addresses.json").read_text())
    segments = {segment for address in recorded for segment in address.strip("/").split("/")}
    assert not {s for s in segments if s not in ADDRESSES and not CHOSEN.fullmatch(s)}


def test_addresses_of_parameters_are_distinct_and_those_of_heads_are_their_names() -> None:
    """A head's name holds the name of a phase, which may be that of a layer."""
    layers = [*stream_addresses._LAYERS, "0", "embed"]
    ends = ("", ".weight", ".bias")
    names = [
        f"{encoder}.{n}{end}" for encoder in ("policy", "critic") for n in layers for end in ends
    ]
    assert len({stream_addresses.parameter_address(name) for name in names}) == len(names)
    heads = [f"act.{name}" for name in (*layers, "up", "last.gain", "normal.weight")]
    assert [stream_addresses.parameter_address(name) for name in heads] == heads
    assert stream_addresses.parameter_address("policy.1.norm2.bias") == "policy.1.second.offset"
