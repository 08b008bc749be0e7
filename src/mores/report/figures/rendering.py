"""Rendering of figures with matplotlib: inline SVG with the page's colors and font, and PNG.

A figure consists of panels. In the report, every panel is a separate SVG about as wide as a phone,
so that panels wrap like text and fonts keep their size. In the PNG, the panels form a grid above
one legend. In the SVG, CSS variables of the page replace the colors of the light theme, and the
page's font replaces matplotlib's.
"""

from __future__ import annotations

import dataclasses
import html
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from mores.report.figures.theme import LIGHT_COLORS, PlotStyle

MAX_COLUMNS = 3  # of the PNG
CHARACTER_WIDTH = 0.075  # width of a character of a tick label, inches


class PanelSpec(NamedTuple):
    """One pair of axes: title, alternative text, and a function that draws on the axes."""

    title: str
    alt_text: str
    draw: Callable[[Any], None]


@dataclasses.dataclass(frozen=True)
class FigureSpec:
    """Specification of a figure.

    Attributes:
        name: file name without suffix.
        caption: content, sample size, meaning of bands, units.
        panels: row by row.
        legend: styles by label, shared by all panels.
        panel_size: width and height of a panel, inches.
    """

    name: str
    caption: str
    panels: Sequence[PanelSpec]
    legend: Mapping[str, PlotStyle] = dataclasses.field(default_factory=dict)
    panel_size: tuple[float, float] = (3.4, 2.5)


class RenderedFigure(NamedTuple):
    """Rendered figure: an inline SVG for each panel, and one PNG."""

    spec: FigureSpec
    svgs: list[str]
    png: bytes


def render(figures: list[FigureSpec]) -> list[RenderedFigure]:
    """Rendered figures."""
    import matplotlib.style

    style = resources.files("mores.report") / "mores.mplstyle"
    with resources.as_file(style) as path, matplotlib.style.context(str(path)):
        return [
            RenderedFigure(
                figure,
                [_render_svg(figure, index) for index in range(len(figure.panels))],
                _render_png(figure),
            )
            for figure in figures
        ]


def _render_svg(figure: FigureSpec, panel_index: int) -> str:
    from matplotlib.figure import Figure as MplFigure

    canvas = MplFigure(figsize=figure.panel_size)
    panel = figure.panels[panel_index]
    _draw_panel(canvas, panel, figure.panel_size, 0.0, 0.0)
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(buffer, format="svg", metadata=metadata)
    return inline_svg(
        buffer.getvalue(), f"{panel.title}. {panel.alt_text}", f"{figure.name}-{panel_index}"
    )


def _render_png(figure: FigureSpec) -> bytes:
    from matplotlib.figure import Figure as MplFigure
    from matplotlib.lines import Line2D

    columns = min(MAX_COLUMNS, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    per_row = min(2 * columns, 4)
    bottom = 0.22 * -(-len(figure.legend) // per_row)
    width, height = figure.panel_size
    canvas = MplFigure(figsize=(width * columns, height * rows + bottom))
    for index, panel in enumerate(figure.panels):
        row, column = divmod(index, columns)
        y = bottom + height * (rows - 1 - row)
        _draw_panel(canvas, panel, figure.panel_size, width * column, y)
    if figure.legend:
        handles = [
            Line2D([], [], color=style.hex_color, linestyle=style.linestyle, label=label)
            for label, style in figure.legend.items()
        ]
        canvas.legend(handles=handles, loc="lower center", ncols=per_row, borderaxespad=0.1)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()


def _draw_panel(
    canvas: Any, panel: PanelSpec, size: tuple[float, float], left: float, bottom: float
) -> None:
    """Draw a panel at an offset in inches from the lower left corner of the canvas.

    The space for labels follows from character counts: measuring text takes longer than drawing.
    """
    (width, height), (canvas_width, canvas_height) = size, canvas.get_size_inches()
    lines = textwrap.wrap(panel.title, 38) or [""]
    title = "\n".join(lines[:2]) + ("…" if len(lines) > 2 else "")

    def rectangle(x: float, y: float, top: float) -> tuple[float, float, float, float]:
        """Axes as fractions of the panel, inside margins in inches."""
        inner_width, inner_height = (width - x - 0.12) / width, (height - y - top) / height
        return x / width, y / height, max(0.2, inner_width), max(0.2, inner_height)

    axes = canvas.add_axes(rectangle(0.6, 0.5, 0.3))  # ticks depend on it
    panel.draw(axes)
    y_labels = [t.get_text() for t in axes.yaxis.get_majorticklabels()]
    x_labels = [t.get_text() for t in axes.xaxis.get_majorticklabels() if t.get_rotation()]
    y_length, x_length = (
        max((len(line) for label in labels for line in label.split("\n")), default=0)
        for labels in (y_labels, x_labels)
    )
    offset = bool(axes.yaxis.get_major_formatter().get_offset())
    x, y, w, h = rectangle(
        0.14 + CHARACTER_WIDTH * y_length + 0.18 * bool(axes.get_ylabel()),
        0.26 + 0.45 * CHARACTER_WIDTH * x_length + 0.17 * bool(axes.get_xlabel()),
        0.14 + 0.16 * (title.count("\n") + bool(title)) + 0.14 * offset,
    )
    axes.set_title(title, x=(0.04 / width - x) / w)  # at the panel's edge
    axes.set_position(
        ((left + x * width) / canvas_width, (bottom + y * height) / canvas_height,
         w * width / canvas_width, h * height / canvas_height)
    )  # fmt: skip


def inline_svg(svg: str, alt_text: str, id_prefix: str) -> str:
    """Inline SVG element from the SVG document of matplotlib.

    Args:
        svg: matplotlib's output, with text as text.
        alt_text: alternative text.
        id_prefix: unique prefix, so that ids of different figures do not clash.
    """
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="[0-9. ]+"', svg)
    assert box is not None, "matplotlib always writes a viewBox"
    body = svg[svg.index(">") + 1 :]
    for pattern, replacement in (
        (r"(?s)<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", ""),
        (r'<g id="[\w.]+">', "<g>"),
        (r'\bid="(\w+)"', rf'id="{id_prefix}-\1"'),
        (r'(url\(#|href="#)(\w+)', rf"\1{id_prefix}-\2"),
    ):
        body = re.sub(pattern, replacement, body)
    # coordinates in tags, but not in texts, to 0.01 points
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d+\.\d\d)\d+", r"\1", tag[0]), body)
    body = re.sub(r"font: ([\w ]*?)([\d.]+px)[^;\"]*", _drop_font_family, body)
    body = re.sub(r"font-family:[^;\"]*;?", "", body)
    body = re.sub(r"\n\s*", "\n", body)
    for color, hex_color in LIGHT_COLORS.items():
        body = body.replace(hex_color, f"var(--{color})")
    label = html.escape(alt_text, quote=True)
    return f'<svg {box[0]} role="img" aria-label="{label}">{body}'.rstrip()


def _drop_font_family(match: re.Match[str]) -> str:
    """CSS size and weight of a font, without its family."""
    weight = ";font-weight:600" if re.search(r"bold|[6-9]00", match[1]) else ""
    return f"font-size:{match[2]}{weight}"
