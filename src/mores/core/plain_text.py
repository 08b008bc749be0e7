"""Numbers and lists as plain English, for the text of turns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from mores.core.errors import printable
from mores.core.spaces import Box


def decimal(value: float, digits: int = 2) -> str:
    """A number with this many decimals; no negative zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def compact(value: float) -> str:
    """A parameter with at most 4 significant digits, in positional notation: 0.5, 40,000."""
    rounded = float(f"{value:.4g}") + 0.0  # no negative zero
    if not math.isfinite(rounded):
        return str(rounded)
    text = f"{rounded:,.10f}".rstrip("0").rstrip(".")
    return text if float(text.replace(",", "")) == rounded else f"{rounded:.4g}"


def percent(share: float) -> str:
    """A share or probability in per cent."""
    return f"{compact(100 * share)} %"


def listed(items: Sequence[str], conjunction: str = "and") -> str:
    """Items in a row: `a`, `a and b`, `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {conjunction} {items[-1]}"


def plural(count: int, noun: str, nouns: str = "") -> str:
    """A count with its noun: `1 round`, `3 rounds`."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def paragraph(*sentences: str) -> str:
    """Sentences in one line; empty ones are left out."""
    return " ".join(sentence for sentence in sentences if sentence)


def quoted(text: str) -> str:
    """A message as it stands in prompts and on screens: one line between quotation marks.

    `<|`, with which most chat templates begin their control tokens, is written `< |`.
    """
    return f'"{printable(text, max(80, 10 * len(text))).replace("<|", "< |")}"'


def lines(*texts: str) -> str:
    """Texts on lines of their own; empty ones are left out."""
    return "\n".join(text for text in texts if text)


def read_parts(space: Box, observation: Float[Tensor, " size"]) -> dict[str, list[float]]:
    """The parts of an observation as numbers, by name."""
    return {name: space.read(observation, name).tolist() for name in space.parts}
