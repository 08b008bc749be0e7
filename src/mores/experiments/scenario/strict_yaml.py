"""Strict YAML parser: scalars, lists and mappings, and the source location of each.

PyYAML reads YAML 1.1, in which `1e-4` is text, `12:30` the number 750, `010` eight and `no` a
boolean. This module uses the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2, section 10.3)
and refuses what is ambiguous or unusable: duplicate keys, anchors and aliases, merge keys, tags,
several documents, deep nesting, leading zeros, infinities, NaN, integers beyond 64 bits. It uses
only events of the parser, so that a file cannot construct objects.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, NoReturn

import yaml

from mores.experiments.scenario.source_locations import (
    KeyPath,
    Problem,
    ScenarioError,
    SourceLocation,
    SourceMap,
    printable,
)

MAX_DEPTH = 30  # levels of nesting
MAX_INTEGER_DIGITS = 19  # digits of 2^63 - 1

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]"
)


class CoreLoader(yaml.SafeLoader):
    """PyYAML scanner and parser with the plain scalars of the YAML 1.2 core schema."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - as in PyYAML; drops those of YAML 1.1


for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", list("-+0123456789")),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z",
        list("-+.0123456789"),
    ),
):
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


class ParsedDocument(NamedTuple):
    """A document and its source locations."""

    document: Any
    source_map: SourceMap


def parse(text: str, source: str, with_lines: bool = True) -> ParsedDocument:
    """Parse one YAML document.

    Args:
        text: the document.
        source: file name in messages.
        with_lines: whether locations have lines and columns; a value given on the command line
            has none.

    Raises:
        ScenarioError: the text is not YAML, or uses a refused feature.
    """
    return _Reader(text, source, with_lines).read()


def scalar_type(text: str) -> str:
    """Type of a plain (unquoted) scalar: `null`, `bool`, `int`, `float` or `str`."""
    for tag, pattern in CoreLoader.yaml_implicit_resolvers.get(text[:1], ()):
        if pattern.match(text):
            return tag.rpartition(":")[2]
    return "str"


class _Reader:
    """Builds the document from the events of PyYAML's parser."""

    def __init__(self, text: str, source: str, with_lines: bool) -> None:
        self.source, self.with_lines = source, with_lines
        self.key_locations: dict[KeyPath, SourceLocation] = {}
        self.value_locations: dict[KeyPath, SourceLocation] = {}
        self.raw_texts: dict[KeyPath, str] = {}
        unprintable = _UNPRINTABLE.search(text)
        if unprintable:
            before = text[: unprintable.start()]
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
            self._reject_at(
                SourceLocation(source, line, column),
                _character_message(unprintable[0]),
                "unreadable",
            )
        self.loader = CoreLoader(text)

    def read(self) -> ParsedDocument:
        try:
            document = self._document()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if error.problem == "found unexpected end of stream" and error.context_mark:
                mark = error.context_mark  # the start of the quote, not the end of the file
            self._reject(mark, _parser_error_message(error))
        except (yaml.YAMLError, ValueError, OverflowError):
            # PyYAML calls chr() and int() on the text after \U and %YAML.
            self._reject(self.loader.get_mark(), "this escape or directive is invalid")
        return ParsedDocument(
            document,
            SourceMap(self.source, self.key_locations, self.value_locations, self.raw_texts),
        )

    def _document(self) -> Any:
        self._next()  # start of the stream
        if isinstance(self._peek(), yaml.StreamEndEvent):
            self._reject(None, "is empty")
        self._next()  # start of the document
        document = self._node(())
        self._next()  # end of the document
        if not isinstance(event := self._peek(), yaml.StreamEndEvent):
            self._reject(event.start_mark, "a second document begins here; a file has one document")
        return document

    def _node(self, path: KeyPath) -> Any:
        event = self._next()
        self._reject_unsafe(event)
        self.value_locations[path] = self._location(event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if len(path) >= MAX_DEPTH:
            self._reject(event.start_mark, f"is nested deeper than {MAX_DEPTH} levels", "too_large")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(self._peek(), yaml.SequenceEndEvent):
            items.append(self._node((*path, len(items))))
        self._next()
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := self._peek(), yaml.MappingEndEvent):
            key = self._key()
            if key in mapping:
                first = self.key_locations[(*path, key)].line
                where = f", first in line {first}" if first else ""
                message = f"the key '{printable(key)}' is given twice{where}"
                self._reject(event.start_mark, message, "duplicate")
            self.key_locations[(*path, key)] = self._location(event.start_mark)
            mapping[key] = self._node((*path, key))
        self._next()
        return mapping

    def _key(self) -> str:
        event = self._next()
        self._reject_unsafe(event)
        if not isinstance(event, yaml.ScalarEvent):
            message = "a key must be a name, not a list or a mapping"
            self._reject(event.start_mark, message, "wrong_type")
        if event.implicit[0] and event.value == "<<":
            message = "merge keys (<<) are not allowed: write the keys out"
            self._reject(event.start_mark, message, "unsupported")
        key = self._scalar(event, None)
        if not isinstance(key, str):
            text = printable(event.value) if event.value else "empty"
            self._reject(event.start_mark, f"a key must be a name, not {text}", "wrong_type")
        return key

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath | None) -> Any:
        text, mark = event.value, event.start_mark
        unprintable = _UNPRINTABLE.search(text)
        if unprintable:
            self._reject(mark, _character_message(unprintable[0]))
        tag = scalar_type(text) if event.implicit[0] else "str"  # quoted scalars are text
        if tag == "str":
            return text
        if path is not None:
            self.raw_texts[path] = text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        return self._integer(text, mark) if tag == "int" else self._float(text, mark)

    def _integer(self, text: str, mark: Any) -> int:
        digits = text.lstrip("+-")
        if digits[:2] in ("0o", "0x"):
            number = int(digits[2:], 8 if digits[1] == "o" else 16) if len(digits) <= 24 else 2**64
        elif len(digits) > 1 and digits[0] == "0":
            decimal = printable(digits.lstrip("0") or "0", 40)
            message = (
                f"{printable(text, 40)}: a number must not begin with 0: write {decimal} "
                "(or 0o... for octal, quotes for text)"
            )
            self._reject(mark, message, "invalid_value")
        else:
            number = int(text) if len(digits) <= MAX_INTEGER_DIGITS else 2**64
        if abs(number) >= 2**63:
            message = f"the number {printable(text, 40)} is out of range: -(2^63 - 1) to 2^63 - 1"
            self._reject(mark, message, "out_of_range")
        return number

    def _float(self, text: str, mark: Any) -> float:
        number = float(text) if text[-1].isdigit() or text[-1] == "." else float("inf")
        if number in (float("inf"), float("-inf")):
            self._reject(mark, f"{printable(text, 40)} is not a finite number", "not_finite")
        return number

    def _reject_unsafe(self, event: yaml.Event) -> None:
        """Refuse aliases, anchors and tags."""
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            what, instead, sign = "aliases (*name)", "write the value out, or", "*"
        elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            what, instead, sign = "anchors (&name)", "write the value out, or", "&"
        elif tag is not None:
            what = f"tags ({printable(tag.replace('tag:yaml.org,2002:', '!!'), 40)})"
            instead, sign = "a scenario is plain data;", "!"
        else:
            return
        message = f"{what} are not allowed: {instead} put text that begins with {sign} in quotes"
        self._reject(event.start_mark, message, "unsupported")

    def _peek(self) -> yaml.Event:
        return self.loader.peek_event()

    def _next(self) -> Any:
        return self.loader.get_event()

    def _location(self, mark: Any) -> SourceLocation:
        if not self.with_lines or mark is None:
            return SourceLocation(self.source)
        return SourceLocation(self.source, mark.line + 1, mark.column + 1)

    def _reject(self, mark: Any, message: str, code: str = "unreadable") -> NoReturn:
        self._reject_at(self._location(mark), message, code)

    def _reject_at(self, location: SourceLocation, message: str, code: str) -> NoReturn:
        if not self.with_lines:
            location = SourceLocation(self.source)
        raise ScenarioError([Problem(location, (), message, code)])


def _character_message(character: str) -> str:
    return f"the character U+{ord(character):04X} is not allowed in a text file"


def _parser_error_message(error: yaml.MarkedYAMLError) -> str:
    """Message for an error of the parser."""
    problem, context = printable(error.problem or ""), error.context or ""
    problem = problem.replace("'<stream end>'", "the end of the file")
    if "mapping values are not allowed" in problem:
        return "': ' is not allowed here: put text with ': ' in quotes, or correct the indentation"
    if "'\\t'" in problem:
        return "a tab is not allowed here: indent with spaces"
    if "cannot start any token" in problem:
        character = problem.removeprefix("found character ").partition(" that ")[0]
        return f"text cannot begin with {character}: put it in quotes"
    if "unexpected end of stream" in problem:
        return "this quoted text has no closing quote"
    if "could not find expected ':'" in problem:
        return "a key needs ': ' and a value after it"
    if "expected <block end>" in problem or "expected '<document start>'" in problem:
        return "the indentation does not match the lines above, or a quote or bracket is missing"
    if "flow sequence" in context:
        return f"in a list in brackets: {problem}; is a ']' or a ',' missing?"
    if "flow mapping" in context:
        return f"in a mapping in braces: {problem}; is a '}}' or a ',' missing?"
    return f"is not YAML: {problem or printable(context)}"


def dump(document: Any) -> str:
    """Plain data as YAML that `parse` reads: keys in the given order, no anchors."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Dumper without anchors. It quotes text that the core schema reads as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write repeated objects in full."""
        return True


def _represent_string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if scalar_type(text) == "str" else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_string)
