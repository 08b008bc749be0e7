"""Rendering of figures with matplotlib: inline SVG with the page's colors and font, and PNG.

A figure consists of panels. In the report, every panel is a separate SVG about as wide as a phone,
so that panels wrap like text and fonts keep their size. In the PNG, the panels form a grid above
one legend. In the SVG, CSS variables of the page replace the colors of the light theme.
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
CHARACTERS_PER_INCH = 38 / 3.4  # of a panel's title
SVG_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # none, for equal bytes


class PanelSpec(NamedTuple):
    """One pair of axes: title, alternative text, and a function that draws on the axes."""

    title: str
    alt_text: str
    draw: Callable[[Any], None]


@dataclasses.dataclass(frozen=True)
class FigureSpec:
    """Specification of a figure; the caption states sample size, meaning of bands and units."""

    name: str  # of its files, without suffix
    caption: str
    panels: Sequence[PanelSpec]  # row by row
    legend: Mapping[str, PlotStyle] = dataclasses.field(default_factory=dict)  # of all panels
    panel_size: tuple[float, float] = (3.4, 2.5)  # width and height, inches
    heading: str = ""  # of its section; default: that of the kind of figure
    columns: Sequence[str] = ()  # of the table of its numbers
    rows: Sequence[Sequence[str]] = ()


class RenderedFigure(NamedTuple):
    """Rendered figure: an inline SVG for each panel, and one PNG."""

    spec: FigureSpec
    svgs: list[str]
    png: bytes


def render(figures: Sequence[FigureSpec]) -> list[RenderedFigure]:
    """Figures in the style of the report."""
    import matplotlib.style

    style = resources.files("mores.report") / "mores.mplstyle"
    with resources.as_file(style) as path, matplotlib.style.context(str(path)):
        return [_render(figure) for figure in figures]


def _render(figure: FigureSpec) -> RenderedFigure:
    """Draw all panels on one canvas, and save the canvas as PNG and each panel as SVG."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D

    if not figure.panels:
        return RenderedFigure(figure, [], b"")
    columns = 2 if len(figure.panels) == 4 else min(MAX_COLUMNS, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    width, height = (figure.panel_size[0] * columns, figure.panel_size[1] * rows)
    legend_columns = min(2 * columns, 4)
    height += 0.22 * -(-len(figure.legend) // legend_columns)
    layout = ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.07)  # inches
    canvas = Figure(figsize=(width, height), layout=layout)
    subfigures = canvas.subfigures(rows, columns, squeeze=False).ravel()[: len(figure.panels)]
    for subfigure, panel in zip(subfigures, figure.panels, strict=True):
        if panel.title:
            characters = round(CHARACTERS_PER_INCH * figure.panel_size[0])
            title = textwrap.fill(panel.title, characters, max_lines=2, placeholder="…")
            subfigure.suptitle(title, x=0.01, ha="left")
        panel.draw(subfigure.subplots())
    if figure.legend:
        items = figure.legend.items()
        lines = [Line2D([], [], **style.legend_line, label=text) for text, style in items]
        canvas.legend(
            handles=lines, loc="outside lower center", ncols=legend_columns, borderaxespad=0.1
        )
    png = io.BytesIO()
    canvas.savefig(png, format="png", facecolor="white")
    canvas.set_layout_engine("none")  # the panels keep their positions
    for legend in canvas.legends:
        legend.remove()
    svgs = []
    for index, (subfigure, panel) in enumerate(zip(subfigures, figure.panels, strict=True)):
        for other in subfigures:
            other.set_visible(other is subfigure)
        area = subfigure.bbox.transformed(canvas.dpi_scale_trans.inverted())
        svg = io.StringIO()
        canvas.savefig(svg, format="svg", bbox_inches=area, metadata=SVG_METADATA)
        title = panel.title or figure.heading
        alt_text = f"{title}. {panel.alt_text}"
        svgs.append(inline_svg(svg.getvalue(), alt_text, f"{figure.name}-{index}"))
    return RenderedFigure(figure, svgs, png.getvalue())


def inline_svg(svg: str, alt_text: str, id_prefix: str) -> str:
    """Inline SVG element from matplotlib's SVG document, with ids that are unique on the page."""
    box = re.search(r'viewBox="[0-9. ]+"', svg)
    assert box is not None, "matplotlib always writes a viewBox"
    body = svg[svg.index(">", box.end()) + 1 :]
    for pattern, replacement in (
        (r"(?s)<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", ""),
        (r'<g id="[\w.]+">', "<g>"),
        (r'\bid="(\w+)"', rf'id="{id_prefix}-\1"'),
        (r'(url\(#|href="#)(\w+)', rf"\1{id_prefix}-\2"),
        (r"\n\s*", "\n"),
    ):
        body = re.sub(pattern, replacement, body)
    # coordinates in tags, but not in texts, to 0.01 points
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d+\.\d\d)\d+", r"\1", tag[0]), body)
    for color, hex_color in LIGHT_COLORS.items():
        body = body.replace(hex_color, f"var(--{color})")
    return f'<svg {box[0]} role="img" aria-label="{html.escape(alt_text)}">{body}'.rstrip()
