"""Figures in the page of a report: ids and colors change in tags, texts do not."""

from __future__ import annotations

from mores.report.figures.rendering import inline_svg
from mores.report.figures.theme import LIGHT_COLORS

COLOR, HEX = next(iter(LIGHT_COLORS.items()))
TEXT = f'id="a" url(#a) href="#a" {HEX} 0.12345'
SVG = f"""\
<svg viewBox="0 0 10 10">
<path id="a" style="fill: {HEX}" d="M 0.12345 1"/>
<use href="#a" clip-path="url(#a)"/>
<text>{TEXT}</text>
</svg>
"""


def test_only_tags_are_rewritten() -> None:
    inline = inline_svg(SVG, "a figure", "curves-0")
    assert f"<text>{TEXT}</text>" in inline
    assert f'<path id="curves-0-a" style="fill: var(--{COLOR})" d="M 0.12 1"/>' in inline
    assert '<use href="#curves-0-a" clip-path="url(#curves-0-a)"/>' in inline
