"""Texts that fit a width: widths are measured in the font of the figures, and lines are broken.

Widths are those of glyph outlines in points (1/72 inch), so that they do not depend on the
resolution of a renderer. Nothing is cut: a word that is too long for a line is broken.
"""

from __future__ import annotations

import functools
import re
import warnings

FONT = "DejaVu Sans"  # of mores.mplstyle; it comes with matplotlib
BREAKS = re.compile(r"[^\s_./-]*[\s_./-]+|[^\s_./-]+")  # a part ends with the sign that follows it
# Characters that an XML document cannot contain, and other control characters.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """A text with the replacement character (U+FFFD) for every control character."""
    return UNPRINTABLE.sub("�", text)


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of the widest line of a text in the figures' font, points.

    Args:
        text: one or more lines.
        size: font size, points.
        weight: `normal` or `bold`.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(family=FONT, size=size, weight=weight)
    measure = TextToPath().get_text_width_height_descent
    with warnings.catch_warnings():  # a glyph that the font lacks has the width of a box
        warnings.simplefilter("ignore", UserWarning)
        lines = filter(None, text.split("\n"))
        return max((measure(line, font, ismath=False)[0] for line in lines), default=0.0)


def wrap_to_width(text: str, width: float, size: float, weight: str = "normal") -> str:
    """A text in lines of at most a width, points.

    Lines break after spaces and after `_`, `-`, `.` and `/`; other words break where they must.
    Line breaks of the text remain.
    """
    if text_width(text, size, weight) <= width:
        return text
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for part in BREAKS.findall(paragraph):
            if line and text_width(line + part.rstrip(), size, weight) > width:
                lines.append(line.rstrip())
                line = ""
            rest = part
            while len(rest.rstrip()) > 1 and text_width(rest.rstrip(), size, weight) > width:
                count = _fitting_characters(rest, width, size, weight)
                lines.append(rest[:count])
                rest = rest[count:]
            line += rest
        lines.append(line.rstrip())
    return "\n".join(lines)


def _fitting_characters(text: str, width: float, size: float, weight: str) -> int:
    """Number of characters at the start of a text that fit a width; at least 1."""
    low, high = 1, len(text)
    while low < high:  # the width grows with the number of characters
        middle = (low + high + 1) // 2
        if text_width(text[:middle], size, weight) <= width:
            low = middle
        else:
            high = middle - 1
    return low
