"""Mutations of a scenario's bytes, tokens and structure, by a seeded generator."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from benchmarks.mutated.originals import (
    NUM_SHORTENED,
    as_text,
    originals,
    shortened,
    shortened_text,
    tiny,
)
from benchmarks.mutated.vocabulary import TOKENS, VALUES, keys, kinds, parameters_of, words

MAX_BYTES = 40_000  # of most files; a few are longer than the limit of a scenario file
TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


class MutatedFile(NamedTuple):
    """A file, overrides of its values, and how it was made."""

    data: bytes
    overrides: tuple[str, ...]
    mutation: str


class RawText(str):
    """Text that `flow_text` writes as it is."""


class Pairs(list[tuple[Any, Any]]):
    """Keys and values of a mapping, in which a key may occur twice and have any type."""


def mutated_file(rng: Random) -> MutatedFile:
    """A mutated scenario file, with overrides in one of six cases."""
    name = rng.choice(sorted(originals()))
    mutation = rng.choice((*MUTATIONS, "structure", "paths", "structure", "paths"))
    data = MUTATIONS[mutation](name, rng)
    overrides: tuple[str, ...] = ()
    if rng.random() < 1 / 6:
        overrides = tuple(_override(rng) for _ in range(rng.randint(1, 2)))
        mutation += " and overrides"
    return MutatedFile(data, overrides, mutation)


def mutated_values(rng: Random) -> MutatedFile:
    """A tiny scenario with one or two other values or keys, which often loads."""
    document = tiny(rng.choice(sorted(originals())), rng)
    for _ in range(rng.randint(1, 2)):
        action = rng.randrange(6)
        if action < 2:
            _change_parameter(document, rng)
        elif action < 4:
            _change_scalar(document, rng)
        else:
            _change_entry(document, rng)
    text = as_text(document).encode("utf-8", "surrogatepass")
    return MutatedFile(text, (), "values")


# --- bytes and tokens ----------------------------------------------------------------------------


def _source(name: str, rng: Random) -> str:
    """The text of an original: in one case of eight as it is, else shortened."""
    if rng.random() < 1 / 8:
        return originals()[name]
    return shortened_text(name, rng.randrange(NUM_SHORTENED))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _change_bytes(name: str, rng: Random) -> bytes:
    data = bytearray(_encode(_source(name, rng)))
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 1, 1, 2, 20)))
        data[start:end] = rng.choice(
            (
                bytes([rng.randrange(256)]),
                b"",
                bytes(data[end : end + rng.randrange(40)]),
                rng.randbytes(rng.randrange(6)),
                bytes([rng.randrange(9, 127)]) * rng.choice((1, 2, 50)),
            )
        )
    return bytes(data)


def _change_tokens(name: str, rng: Random) -> bytes:
    tokens = TOKEN.findall(_source(name, rng))
    for _ in range(rng.randint(1, 5)):
        index = rng.randrange(len(tokens))
        action = rng.randrange(4)
        if action == 0:
            tokens[index] = rng.choice(TOKENS)
        elif action == 1:
            tokens.insert(index, rng.choice(TOKENS))
        elif action == 2:
            del tokens[index]
        else:
            other = rng.randrange(len(tokens))
            tokens[index], tokens[other] = tokens[other], tokens[index]
        if not tokens:
            break
    return _encode("".join(tokens))


def _change_lines(name: str, rng: Random) -> bytes:
    lines = _source(name, rng).split("\n")
    for _ in range(rng.randint(1, 4)):
        index, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        action = rng.randrange(5)
        if action == 0:
            lines.insert(index, lines[other])
        elif action == 1:
            lines[index], lines[other] = lines[other], lines[index]
        elif action == 2:
            lines[index] = " " * rng.randrange(6) + lines[index].strip(" ")
        elif action == 3:
            lines[index] = lines[index][: rng.randrange(len(lines[index]) + 1)]
        else:
            lines[index] += rng.choice((" " * 500, "#" * 500, " # é\u202e", "x" * 9000, "\\", "\t"))
    return _encode("\n".join(lines))


def _change_encoding(name: str, rng: Random) -> bytes:
    text = _source(name, rng)
    action = rng.randrange(9)
    if action < 3:
        return text.encode(("utf-16", "utf-32", "utf-8-sig")[action])
    if action == 3:
        return text.replace("\n", "\r\n").encode()
    if action == 4:
        return text.replace("\n", "\r").encode()
    if action == 5:
        return text.replace(" ", rng.choice(("\u00a0", "\u3000", "\t", "  "))).encode()
    if action == 6:
        return text.encode() + rng.choice((b"\x1a", b"\0" * 100, b"\xff", b"\n...\n", b"\n---\n"))
    if action == 7:  # around the limit of a file
        return text.encode() + b"#" * (256_000 - len(text.encode()) + rng.choice((-1, 0, 1)))
    position = rng.randrange(len(text))
    return _encode(text[:position] + rng.choice(TOKENS) * rng.choice((1, 2, 99)) + text[position:])


# --- structure -----------------------------------------------------------------------------------


def _change_structure(name: str, rng: Random) -> bytes:
    document = shortened(name, rng)
    for _ in range(rng.randint(1, 4)):
        _change_entry(document, rng)
    return _encode(as_text(document) if rng.random() < 0.2 else _flow_file(document))


def _add_syntax(name: str, rng: Random) -> bytes:
    """Anchors, aliases, tags, repeated, unhashable and typed keys, deep nesting."""
    document = shortened(name, rng)
    holder, key = rng.choice(_entries(document))
    value = holder[key]
    written = flow_text(value)
    deep = rng.choice((5, 29, 30, 31, 60, 900, 20_000))
    choices: list[Any] = [
        RawText(f"&a {written}"),
        RawText("*a"),
        RawText(
            f"!!{rng.choice(('str', 'int', 'map', 'set', 'binary', 'python/tuple'))} {written}"
        ),
        RawText(f"!<{rng.choice(TOKENS)}> {written}"),
        RawText("[" * deep + "]" * deep),
        RawText("{a: " * deep + "1" + "}" * deep),
        Pairs([("<<", value), ("a", 1)]),
        Pairs([("kind", "mirror"), ("kind", "silent")]),
        Pairs([(RawText("[1, 2]"), 1)]),
        Pairs([(RawText("{a: b}"), 1), (RawText("? a"), 1)]),
        Pairs([(RawText(str(rng.choice(VALUES))), 1)]),
        Pairs([(RawText(rng.choice(TOKENS)), value)]),
        Pairs([("x" * rng.choice((100, 1000, 1100, 5000)), value)]),
        RawText("[&a [1], " + ", ".join(["*a"] * 50) + "]"),
        RawText('"' + "\\" + rng.choice(("ud800", "uDFFF", "x00", "U00110000", "q", "\n")) + '"'),
        RawText(rng.choice(TOKENS)),
    ]
    holder[key] = rng.choice(choices)
    return _encode(_flow_file(document))


def _change_paths(name: str, rng: Random) -> bytes:
    """Dotted paths of every form, in arms, sweeps, stages, uncertainty and calibration."""
    document = shortened(name, rng)
    for _ in range(rng.randint(1, 3)):
        path, value = _dotted_path(document, rng), copy.deepcopy(rng.choice(VALUES))
        section = rng.randrange(6)
        if section == 0:
            document.setdefault("arms", {}).setdefault(rng.choice(("main", "twin", "a")), {})
            arms = [arm for arm in document["arms"].values() if isinstance(arm, dict)]
            rng.choice(arms or [{}])[path] = value
        elif section == 1:
            values = value if isinstance(value, list) and rng.random() < 0.8 else [value, 1]
            document.setdefault("sweep", {})[path] = values
        elif section == 2:
            stages = document.setdefault("stages", [{"name": "first"}])
            rng.choice(stages).setdefault(rng.choice(("env", "policies")), {})[path] = value
        elif section == 3:
            ranges = document.setdefault("uncertainty", {}).setdefault("parameters", {})
            ranges[path] = rng.choice(([0, 1], [0.0, 0.5], value))
        elif section == 4:
            calibration = document.setdefault("calibration", {"targets": []})
            calibration.setdefault("parameters", {})[path] = rng.choice(([0, 1], value))
        else:
            document[rng.choice(("env", "policies", "population"))] = {path: value}
    return _encode(_flow_file(document))


def _mix(name: str, rng: Random) -> bytes:
    """Sections of two scenarios in one."""
    document = shortened(name, rng)
    other = shortened(rng.choice(sorted(originals())), rng)
    for key in rng.sample(sorted(other), rng.randint(1, 4)):
        document[key] = other[key]
    return _encode(_flow_file(document))


def _noise(name: str, rng: Random) -> bytes:
    """Tokens without any order."""
    text = "".join(rng.choice((*TOKENS, *words())) for _ in range(rng.randint(1, 40)))
    return _encode(text)[:MAX_BYTES]


MUTATIONS: dict[str, Callable[[str, Random], bytes]] = {
    "bytes": _change_bytes,
    "tokens": _change_tokens,
    "lines": _change_lines,
    "encoding": _change_encoding,
    "structure": _change_structure,
    "syntax": _add_syntax,
    "paths": _change_paths,
    "mixture": _mix,
    "noise": _noise,
}


def _entries(document: Any) -> list[tuple[Any, Any]]:
    """Every (mapping or list, key or index) of a document."""
    found: list[tuple[Any, Any]] = []
    pending = [document]
    while pending:
        node = pending.pop()
        for key in node if isinstance(node, dict) else range(len(node)):
            found.append((node, key))
            if isinstance(node[key], (dict, list)):
                pending.append(node[key])
    return found


def _change_entry(document: dict[str, Any], rng: Random) -> None:
    """Replace, remove, rename, exchange or add an entry."""
    entries = _entries(document)
    if not entries:
        return
    holder, key = rng.choice(entries)
    old, action = holder[key], rng.randrange(8)
    if action < 3:
        holder[key] = _similar(old, rng) if rng.random() < 0.6 else _any_value(rng)
    elif action == 3:
        del holder[key]
    elif action == 4:
        other, other_key = rng.choice(entries)
        holder[key], other[other_key] = copy.deepcopy(other[other_key]), copy.deepcopy(old)
    elif action == 5 and isinstance(holder, dict):
        holder[rng.choice((*keys(), *words()))] = _any_value(rng)
    elif action == 6 and isinstance(holder, dict):
        holder[rng.choice(words())] = holder.pop(key)
    else:
        holder[key] = rng.choice(([old], {"kind": old}, [old, old], {key: old}, str(old)))


def _component_entries(document: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Entries below the sections that specify components."""
    roots = ("env", "policies", "population", "arms", "stages", "sweep", "uncertainty")
    start = {key: document[key] for key in roots if key in document}
    return [entry for entry in _entries(start) if entry[0] is not start]


def _change_scalar(document: dict[str, Any], rng: Random) -> None:
    """Replace a scalar of a component by another one of its type."""
    entries = [
        (holder, key)
        for holder, key in _component_entries(document)
        if not isinstance(holder[key], (dict, list)) and key not in ("kind", "name", "loop")
    ]
    if entries:
        holder, key = rng.choice(entries)
        holder[key] = _similar(holder[key], rng)


def _change_parameter(document: dict[str, Any], rng: Random) -> None:
    """Give a component a parameter that its class has, with a value of any size."""
    components = [
        holder
        for holder, key in _component_entries(document)
        if key == "kind" and parameters_of(holder["kind"])
    ]
    if components:
        component = rng.choice(components)
        name, default = rng.choice(parameters_of(component["kind"]))
        values = (_similar(default, rng), _similar(default, rng), rng.choice(VALUES))
        component[name] = copy.deepcopy(rng.choice(values))


def _any_value(rng: Random) -> Any:
    return copy.deepcopy(rng.choice((rng.choice(VALUES), rng.choice(words()))))


def _similar(value: Any, rng: Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice(
            (value + 1, value - 1, value * 2, -value, 0, 1, 999, 10**7, 2**40, float(value))
        )
    if isinstance(value, float):
        return rng.choice((value / 2, value * 10, -value, 0.0, 1.0, 1e-12, 1e12, round(value)))
    if isinstance(value, str):
        return rng.choice((rng.choice(kinds()), rng.choice(words()), value + "x", value[1:]))
    if isinstance(value, list) and value:
        return rng.choice((value[1:], value + value[:1], value[::-1], value[:1] * 50))
    return copy.deepcopy(value)


def _dotted_path(document: dict[str, Any], rng: Random) -> str:
    """A path of the document's components, changed in one case of two."""
    parts: list[str] = [rng.choice(("env", "policies", "population"))]
    node: Any = document.get(parts[0])
    while isinstance(node, (dict, list)) and node and rng.random() < 0.8:
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        parts.append(str(key))
        node = node[key]
    if rng.random() < 0.5:
        index = rng.randrange(len(parts))
        replaced = (
            "",
            "0",
            "-1",
            "99",
            "1e3",
            "__class__",
            "kind",
            " ",
            "*",
            "é",
            "a" * 300,
            "\ud800",
        )
        parts[index] = rng.choice((*replaced, rng.choice(words())))
    if rng.random() < 0.2:
        parts.append(rng.choice(("kind", "", "0", rng.choice(keys()))))
    return ".".join(parts * (rng.choice((8, 40, 300, 3000)) if rng.random() < 0.04 else 1))


def _override(rng: Random) -> str:
    """An override of the command line."""
    sections = (
        "rounds",
        "env",
        "arms",
        "claims",
        "stages",
        "sweep",
        "",
        "policies",
        "metrics",
        "é",
    )
    parts = [rng.choice(sections)]
    while rng.random() < 0.6:
        parts.append(
            rng.choice(("0", "main", "env", "kind", "", "-1", "\udcff", *rng.sample(words(), 2)))
        )
    if rng.random() < 0.05:
        parts *= rng.choice((8, 40, 300, 3000))
    value = rng.choice((rng.choice(TOKENS), flow_text(_any_value(rng))))
    return ".".join(parts) + rng.choice(("=", "=", "=", "==", "", ":")) + value


def _flow_file(document: dict[str, Any]) -> str:
    """A file with one key a line and values in brackets and braces."""
    return "".join(f"{_flow_entry(key, value)}\n" for key, value in document.items())


def _flow_entry(key: Any, value: Any) -> str:
    written = flow_text(key)
    mark = "? " if len(written) > 1000 else ""
    return f"{mark}{written}: {flow_text(value)}"


def flow_text(value: Any) -> str:
    """A value in YAML's flow style, in which JSON is valid; `RawText` as it is."""
    if isinstance(value, RawText):
        return str(value)
    if isinstance(value, dict):
        return flow_text(Pairs(value.items()))
    if isinstance(value, Pairs):
        return "{" + ", ".join(_flow_entry(key, each) for key, each in value) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow_text(item) for item in value) + "]"
    return json.dumps(value)
