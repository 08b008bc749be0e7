"""From drawings to pictures: SVG that takes the page's colours and letters, and PNG for papers.

A figure is a few panels. In the report every panel is a picture of its own, about as wide as a
telephone, so that panels wrap as text does and letters keep their size; in the PNG they stand side
by side above one legend. matplotlib draws both. In the SVG the colours of the light theme give way
to the page's variables, and fonts to the page's font.
"""

from __future__ import annotations

import dataclasses
import html
import io
import re
from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

from mores.report.figures.theme import LIGHT_COLORS, PlotStyle

DrawFunction = Callable[[Any], None]
CHARACTER_WIDTH = 0.075  # inches that a letter of a tick's label is wide


class PanelSpec(NamedTuple):
    """One pair of axes: its title, what it shows in words, and how to draw it."""

    title: str
    alt_text: str
    draw: DrawFunction


class LegendEntry(NamedTuple):
    """A line of a legend."""

    label: str
    style: PlotStyle


@dataclasses.dataclass(frozen=True)
class FigureSpec:
    """What is to be drawn.

    Attributes:
        name: of its file, without ending.
        caption: what is shown, of how many, what bands are, in which units.
        panels: from left to right, then down.
        legend: of all panels.
        panel_size: of a panel, inches.
        columns: of the PNG.
    """

    name: str
    caption: str
    panels: tuple[PanelSpec, ...]
    legend: tuple[LegendEntry, ...] = ()
    panel_size: tuple[float, float] = (3.4, 2.5)
    columns: int = 3


@dataclasses.dataclass(frozen=True)
class RenderedFigure:
    """A figure drawn: an SVG for each panel, to be put into a page, and all of it as PNG."""

    spec: FigureSpec
    svgs: tuple[str, ...]
    png: bytes


def render(figures: list[FigureSpec]) -> list[RenderedFigure]:
    """Draw figures."""
    import matplotlib
    import matplotlib.style

    style = resources.files("mores.report") / "mores.mplstyle"
    with resources.as_file(style) as path, matplotlib.style.context(str(path)):
        return [
            RenderedFigure(
                figure,
                tuple(_render_svg(figure, number) for number in range(len(figure.panels))),
                _render_png(figure),
            )
            for figure in figures
        ]


def _render_svg(figure: FigureSpec, panel_index: int) -> str:
    from matplotlib.figure import Figure as Sheet

    sheet = Sheet(figsize=figure.panel_size)
    _draw_panel(sheet, figure, panel_index, 0.0, 0.0)
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    sheet.savefig(buffer, format="svg", metadata=nothing)
    panel = figure.panels[panel_index]
    return inline_svg(
        buffer.getvalue(), f"{panel.title}. {panel.alt_text}", f"{figure.name}-{panel_index}"
    )


def _render_png(figure: FigureSpec) -> bytes:
    from matplotlib.figure import Figure as Sheet
    from matplotlib.lines import Line2D

    columns = min(figure.columns, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    entries = min(2 * columns, 4)  # in a line of the legend
    below = 0.22 * -(-len(figure.legend) // entries)
    width, height = figure.panel_size
    sheet = Sheet(figsize=(width * columns, height * rows + below))
    for number in range(len(figure.panels)):
        row, column = divmod(number, columns)
        _draw_panel(sheet, figure, number, width * column, below + height * (rows - 1 - row))
    if figure.legend:
        handles = [
            Line2D([], [], color=e.style.hex_color, linestyle=linestyle(e.style), label=e.label)
            for e in figure.legend
        ]
        sheet.legend(handles=handles, loc="lower center", ncols=entries, borderaxespad=0.1)
    buffer = io.BytesIO()
    sheet.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()


def _draw_panel(
    sheet: Any, figure: FigureSpec, panel_index: int, left: float, bottom: float
) -> None:
    """Draw a panel, its lower left corner so many inches from the sheet's.

    Room for labels is made by counting letters: to measure them takes longer than all the rest.
    """
    panel, (width, height) = figure.panels[panel_index], figure.panel_size
    axes = sheet.add_axes((0.0, 0.0, 1.0, 1.0))
    title = wrap_title(panel.title)
    axes.set_position(
        _axes_rectangle(figure.panel_size, 0.6, 0.5, 0.3)
    )  # ticks depend on how long an axis is
    panel.draw(axes)
    beside = max((_longest_line(t.get_text()) for t in axes.yaxis.get_majorticklabels()), default=0)
    under = [t for t in axes.xaxis.get_majorticklabels() if t.get_text()]
    drop = max((_longest_line(t.get_text()) * bool(t.get_rotation()) for t in under), default=0)
    offset = bool(axes.yaxis.get_major_formatter().get_offset())
    room = _axes_rectangle(
        figure.panel_size,
        0.14 + CHARACTER_WIDTH * beside + 0.18 * bool(axes.get_ylabel()),
        0.26 + 0.45 * CHARACTER_WIDTH * drop + 0.17 * bool(axes.get_xlabel()),
        0.14 + 0.16 * (title.count("\n") + bool(title)) + 0.14 * offset,
    )
    across, up = sheet.get_size_inches()
    x, y, wide, high = room
    axes.set_title(title, x=(0.04 / width - x) / wide)  # at the panel's edge, not the axes'
    axes.set_position(
        ((left + x * width) / across, (bottom + y * height) / up, wide * width / across,
         high * height / up)
    )  # fmt: skip


def _axes_rectangle(
    size: tuple[float, float], left: float, bottom: float, top: float
) -> tuple[float, float, float, float]:
    """What a panel has left for its axes, as parts of it, with so many inches around them."""
    width, height = size
    return (
        left / width,
        bottom / height,
        max(0.2, (width - left - 0.12) / width),
        max(0.2, (height - bottom - top) / height),
    )


def _longest_line(text: str) -> int:
    return max(len(line) for line in text.split("\n"))


def linestyle(style: PlotStyle) -> Any:
    """The dashes of a look as matplotlib takes them."""
    return (0, style.dashes) if style.dashes else "-"


def wrap_title(text: str, width: int = 38) -> str:
    """A title over at most two lines."""
    import textwrap

    lines = textwrap.wrap(text, width) or [""]
    return "\n".join(lines[:2]) + ("…" if len(lines) > 2 else "")


def inline_svg(svg: str, alt_text: str, id_prefix: str) -> str:
    """A picture of matplotlib's as a part of a page.

    Args:
        svg: as matplotlib wrote it, text as text.
        alt_text: what it shows, for those who do not see it.
        id_prefix: of this picture alone: what is defined in it must not clash with another's.
    """
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="[0-9. ]+"', svg)
    assert box is not None, "matplotlib always writes one"
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r'<g id="[\w.]+">', "<g>", body)
    body = re.sub(r'\bid="(\w+)"', rf'id="{id_prefix}-\1"', body)
    body = re.sub(r'(url\(#|href="#)(\w+)', rf"\1{id_prefix}-\2", body)
    body = re.sub(r"<[^>]+>", _round_coordinates, body)
    body = re.sub(r"font: ([\w ]*?)([\d.]+px)[^;\"]*", _drop_font_family, body)
    body = re.sub(r"font-family:[^;\"]*;?", "", body)
    body = re.sub(r"\n\s*", "\n", body)
    for color, shade in LIGHT_COLORS.items():
        body = body.replace(shade, f"var(--{color})")
    label = html.escape(alt_text, quote=True)
    return f'<svg {box[0]} role="img" aria-label="{label}">{body}'.rstrip()


def _round_coordinates(tag: re.Match[str]) -> str:
    """A tag with places to a hundredth of a point; what is written between tags stays."""
    return re.sub(r"(\d+\.\d\d)\d+", r"\1", tag[0])


def _drop_font_family(match: re.Match[str]) -> str:
    """Size and weight of a font, without its family."""
    weight = ";font-weight:600" if re.search(r"bold|[6-9]00", match[1]) else ""
    return f"font-size:{match[2]}{weight}"
