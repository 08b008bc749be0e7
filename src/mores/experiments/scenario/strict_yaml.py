"""Strict YAML parser: scalars, lists and mappings, and the source location of each.

PyYAML reads YAML 1.1, in which `1e-4` is text, `12:30` the number 750, `010` eight and `no` a
boolean. This module uses the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2, section 10.3)
and refuses what is ambiguous or unusable: duplicate keys, anchors and aliases, merge keys, tags,
several documents, deep nesting, leading zeros, infinities, NaN, integers beyond 64 bits. It uses
only events of the parser, so that a file cannot construct objects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
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
MAX_PREFIXED_DIGITS = 24  # of 0o777777777777777777777, with its prefix

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
        self.with_lines = with_lines
        self.key_locations: dict[KeyPath, SourceLocation] = {}
        self.value_locations: dict[KeyPath, SourceLocation] = {}
        self.raw_texts: dict[KeyPath, str] = {}
        self.source_map = SourceMap(
            source, self.key_locations, self.value_locations, self.raw_texts
        )
        if found := _UNPRINTABLE.search(text):
            before = text[: found.start()]
            line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
            mark = yaml.Mark(source, found.start(), line, column, None, 0)
            self._reject(mark, _character_message(found[0]))
        self.loader = CoreLoader(text)

    def read(self) -> ParsedDocument:
        """The document and its source map."""
        try:
            self.loader.get_event()  # start of the stream
            if self.loader.check_event(yaml.StreamEndEvent):
                self._reject(None, "is empty")
            self.loader.get_event()  # start of the document
            document = self._node(())
            self.loader.get_event()  # end of the document
            if not self.loader.check_event(yaml.StreamEndEvent):
                message = "a second document begins here; a file has one document"
                self._reject(self.loader.peek_event().start_mark, message)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if error.problem == "found unexpected end of stream" and error.context_mark:
                mark = error.context_mark  # the start of the quote, not the end of the file
            self._reject(mark, _parser_error_message(error))
        except (yaml.YAMLError, ValueError, OverflowError):
            # PyYAML calls chr() and int() on the text after \U and %YAML.
            mark = self.loader.get_mark()
            self._reject(mark, "this escape or directive is invalid")
        return ParsedDocument(document, self.source_map)

    def _node(self, path: KeyPath) -> Any:
        event = self._plain_event()
        mark = event.start_mark
        self.value_locations[path] = self._location(mark)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if len(path) >= MAX_DEPTH:
            self._reject(mark, f"is nested deeper than {MAX_DEPTH} levels", "too_large")
        items: list[Any] = []
        mapping: dict[str, Any] = {}
        while not self.loader.check_event(yaml.SequenceEndEvent, yaml.MappingEndEvent):
            if isinstance(event, yaml.SequenceStartEvent):
                items.append(self._node((*path, len(items))))
            else:
                key = self._key(path, mapping)
                mapping[key] = self._node((*path, key))
        self.loader.get_event()
        return items if isinstance(event, yaml.SequenceStartEvent) else mapping

    def _key(self, path: KeyPath, mapping: Mapping[str, Any]) -> str:
        """The next key of a mapping, which is not yet among its keys."""
        event = self._plain_event()
        mark = event.start_mark
        if not isinstance(event, yaml.ScalarEvent):
            self._reject(mark, "a key must be a name, not a list or a mapping", "wrong_type")
        if event.implicit[0] and event.value == "<<":
            self._reject(mark, "merge keys (<<) are not allowed: write the keys out", "unsupported")
        key = self._scalar(event, None)
        if not isinstance(key, str):
            text = printable(event.value) if event.value else "empty"
            self._reject(mark, f"a key must be a name, not {text}", "wrong_type")
        if key in mapping:
            first = self.key_locations[(*path, key)].line
            where = f", first in line {first}" if first else ""
            self._reject(mark, f"the key '{printable(key)}' is given twice{where}", "duplicate")
        self.key_locations[(*path, key)] = self._location(mark)
        return key

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath | None) -> Any:
        """The value of a scalar; a key has no path."""
        text, mark = event.value, event.start_mark
        if found := _UNPRINTABLE.search(text):
            self._reject(mark, _character_message(found[0]))
        tag = scalar_type(text) if event.implicit[0] else "str"  # quoted scalars are text
        if path is not None and tag != "str":
            self.raw_texts[path] = text
        if tag == "int":
            return self._integer(text, mark)
        if tag == "float":
            number = float(text) if text[-1].isdigit() or text[-1] == "." else math.inf
            if math.isinf(number):
                message = f"{printable(text, 40)} is not a finite number"
                self._reject(mark, message, "not_finite")
            return number
        return {"null": None, "bool": text.lower() == "true", "str": text}[tag]

    def _integer(self, text: str, mark: Any) -> int:
        digits, shown = text.lstrip("+-"), printable(text, 40)
        if digits[:2] in ("0o", "0x"):
            number = int(digits, 0) if len(digits) <= MAX_PREFIXED_DIGITS else 2**64
        elif len(digits) > 1 and digits[0] == "0":
            decimal = printable(digits.lstrip("0") or "0", 40)
            message = f"{shown}: a number must not begin with 0: write {decimal} "
            message += "(or 0o... for octal, quotes for text)"
            self._reject(mark, message, "invalid_value")
        else:
            number = int(text) if len(digits) <= MAX_INTEGER_DIGITS else 2**64
        if abs(number) >= 2**63:
            message = f"the number {shown} is out of range: -(2^63 - 1) to 2^63 - 1"
            self._reject(mark, message, "out_of_range")
        return number

    def _plain_event(self) -> Any:
        """The next event, which is no alias and has no anchor and no tag."""
        event: Any = self.loader.get_event()
        tag = getattr(event, "tag", None)
        what, sign, instead = "", "", "write the value out, or"
        if isinstance(event, yaml.AliasEvent):
            what, sign = "aliases (*name)", "*"
        elif event.anchor is not None:
            what, sign = "anchors (&name)", "&"
        elif tag is not None:
            what = f"tags ({printable(tag.replace('tag:yaml.org,2002:', '!!'), 40)})"
            sign, instead = "!", "a scenario is plain data;"
        if what:
            message = (
                f"{what} are not allowed: {instead} put text that begins with {sign} in quotes"
            )
            self._reject(event.start_mark, message, "unsupported")
        return event

    def _location(self, mark: Any) -> SourceLocation:
        source = self.source_map.source
        if not self.with_lines or mark is None:
            return SourceLocation(source)
        return SourceLocation(source, mark.line + 1, mark.column + 1)

    def _reject(self, mark: Any, message: str, code: str = "unreadable") -> NoReturn:
        raise ScenarioError([Problem(self._location(mark), (), message, code)])


def _character_message(character: str) -> str:
    return f"the character U+{ord(character):04X} is not allowed in a text file"


_PARSER_MESSAGES = {  # by part of PyYAML's message
    "mapping values are not allowed": "': ' is not allowed here: put text with ': ' in quotes, or "
    "correct the indentation",
    "'\\t'": "a tab is not allowed here: indent with spaces",
    "unexpected end of stream": "this quoted text has no closing quote",
    "could not find expected ':'": "a key needs ': ' and a value after it",
    **dict.fromkeys(
        ("expected <block end>", "expected '<document start>'"),
        "the indentation does not match the lines above, or a quote or bracket is missing",
    ),
}


def _parser_error_message(error: yaml.MarkedYAMLError) -> str:
    """Message for an error of the parser."""
    problem, context = printable(error.problem or ""), error.context or ""
    problem = problem.replace("'<stream end>'", "the end of the file")
    if "cannot start any token" in problem and "'\\t'" not in problem:
        character = problem.removeprefix("found character ").partition(" that ")[0]
        return f"text cannot begin with {character}: put it in quotes"
    for part, message in _PARSER_MESSAGES.items():
        if part in problem:
            return message
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

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """A text, in quotes where it would be read as another type."""
        style = None if scalar_type(data) == "str" else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)
