"""Texts with `$name` placeholders, which are replaced literally and in one pass.

What is inserted is data: a `$name`, `{name}` or `{{ name }}` within it stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from mores.core.errors import ParameterError, did_you_mean

PLACEHOLDER = re.compile(r"\$(\$|[A-Za-z_][A-Za-z0-9_]*)")


def placeholders(template: str) -> list[str]:
    """Names of the placeholders of a text, in order. `$$` stands for a dollar sign."""
    return [name for name in PLACEHOLDER.findall(template) if name != "$"]


def check_placeholders(field: str, template: str, allowed: Collection[str]) -> None:
    """Refuse placeholders with other names.

    Raises:
        ParameterError: there is one.
    """
    for name in placeholders(template):
        if name not in allowed:
            message = f"{field}: there is no ${name}{did_you_mean(name, allowed)}"
            raise ParameterError(field, message=message, code="unknown_name")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The text with values in place of placeholders."""
    return PLACEHOLDER.sub(lambda m: "$" if m[1] == "$" else values[m[1]], template)


def fill_lines(template: str, values: Mapping[str, str]) -> str:
    """`fill`, without the lines that consist of placeholders of empty texts alone."""
    lines = [line for line in template.split("\n") if not _is_empty(line, values)]
    return fill("\n".join(lines), values)


def _is_empty(line: str, values: Mapping[str, str]) -> bool:
    """Whether a line has placeholders and nothing else, and all values are empty."""
    return bool(placeholders(line)) and not fill(line, values).strip()
