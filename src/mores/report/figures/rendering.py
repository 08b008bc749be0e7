"""Rendering of figures with matplotlib: inline SVG with the page's colors and font; SVG and PNG.

A figure consists of panels. In the report, every panel is a separate SVG about as wide as a phone,
so that panels wrap like text and fonts keep their size, and CSS variables of the page replace the
colors of the light theme. In the files, PNG and SVG, the panels form a grid above one legend. Texts
of the SVG file are paths, so that it looks the same in every program, whatever its fonts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from mores.report.figures.legends import add_legend
from mores.report.figures.text_fitting import printable, text_width, wrap_to_width
from mores.report.figures.theme import LIGHT_COLORS, PlotStyle

MAX_COLUMNS = 3  # of the files
TITLE_SIZE, TITLE_MARGIN = 9.5, 8.0  # points: figure.titlesize of mores.mplstyle; left and right
LABEL_SIZE = 9.0  # points: axes.labelsize of mores.mplstyle
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
    """Rendered figure: an inline SVG for each panel, and the contents of a PNG and an SVG file."""

    spec: FigureSpec
    svgs: list[str]
    png: bytes
    svg: str


def render(figures: Sequence[FigureSpec]) -> list[RenderedFigure]:
    """Figures in the style of the report."""
    with report_style():
        return [_render(figure) for figure in figures]


@contextlib.contextmanager
def report_style() -> Iterator[None]:
    """Matplotlib's settings for figures of the report, without warnings of missing glyphs."""
    import matplotlib.style

    style = resources.files("mores.report") / "mores.mplstyle"
    with (
        resources.as_file(style) as path,
        matplotlib.style.context(str(path)),
        warnings.catch_warnings(),
    ):  # of a glyph that the font lacks, files show a box; browsers have other fonts
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently does not support")
        yield


def draw_canvas(figure: FigureSpec) -> Any:
    """A matplotlib figure with all panels and the legend, in the style that is in effect."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = 2 if len(figure.panels) == 4 else min(MAX_COLUMNS, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    width, height = figure.panel_size[0] * columns, figure.panel_size[1] * rows
    layout = ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.07)  # inches
    canvas = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(canvas)  # which measures texts
    subfigures = canvas.subfigures(rows, columns, squeeze=False).ravel()[: len(figure.panels)]
    for subfigure, panel in zip(subfigures, figure.panels, strict=True):
        if panel.title:
            title_width = 72.0 * figure.panel_size[0] - TITLE_MARGIN
            title = wrap_to_width(printable(panel.title), title_width, TITLE_SIZE, "bold")
            subfigure.suptitle(title, x=0.01, ha="left")
        panel.draw(subfigure.subplots())
    styles = {printable(name): style for name, style in figure.legend.items()}
    canvas.set_figheight(height + add_legend(canvas, styles, 2 * columns))
    _wrap_axis_labels(canvas, figure.panel_size)
    return canvas


def _wrap_axis_labels(canvas: Any, panel_size: tuple[float, float]) -> None:
    """Break the labels that are longer than their axes: the layout leaves no space for their ends.

    Axes are measured only where a label is longer than half of the panel, since to measure takes
    as long as to draw.
    """
    from matplotlib.axes import Axes

    width, height = (36.0 * side for side in panel_size)  # points, of half a panel
    all_axes = canvas.findobj(Axes)
    labels = [(axes, axes.xaxis.label, width, "width") for axes in all_axes]
    labels += [(axes, axes.yaxis.label, height, "height") for axes in all_axes]
    long = [each for each in labels if text_width(each[1].get_text(), LABEL_SIZE) > each[2]]
    if not long:
        return
    canvas.draw_without_rendering()
    for axes, label, _, side in long:
        length = getattr(axes.bbox, side) * 72.0 / canvas.dpi
        label.set_text(wrap_to_width(label.get_text(), length, LABEL_SIZE))


def _render(figure: FigureSpec) -> RenderedFigure:
    """Draw all panels on one canvas, and save the canvas as PNG and SVG, and each panel as SVG."""
    import matplotlib as mpl

    if not figure.panels:
        return RenderedFigure(figure, [], b"", "")
    canvas = draw_canvas(figure)
    png, whole = io.BytesIO(), io.StringIO()
    canvas.savefig(png, format="png", facecolor="white")
    canvas.set_layout_engine("none")  # everything keeps its position
    with mpl.rc_context({"svg.fonttype": "path"}):
        canvas.savefig(whole, format="svg", facecolor="white", metadata=SVG_METADATA)
    for legend in canvas.legends:
        legend.remove()
    svgs = []
    for index, (subfigure, panel) in enumerate(zip(canvas.subfigs, figure.panels, strict=False)):
        for other in canvas.subfigs:
            other.set_visible(other is subfigure)
        area = subfigure.bbox.transformed(canvas.dpi_scale_trans.inverted())
        svg = io.StringIO()
        canvas.savefig(svg, format="svg", bbox_inches=area, metadata=SVG_METADATA)
        title = panel.title or figure.heading
        alt_text = printable(f"{title}. {panel.alt_text}")
        svgs.append(inline_svg(printable(svg.getvalue()), alt_text, f"{figure.name}-{index}"))
    return RenderedFigure(figure, svgs, png.getvalue(), printable(whole.getvalue()))


def inline_svg(svg: str, alt_text: str, id_prefix: str) -> str:
    """Inline SVG element from matplotlib's SVG document, with ids that are unique on the page."""
    box = re.search(r'viewBox="[0-9. ]+"', svg)
    assert box is not None, "matplotlib always writes a viewBox"
    body = svg[svg.index(">", box.end()) + 1 :]
    for pattern, replacement in (
        (r"(?s)<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", ""),
        (r'<g id="[\w.]+">', "<g>"),
        (r"\n\s*", "\n"),
    ):
        body = re.sub(pattern, replacement, body)
    body = re.sub(r"<[^>]+>", lambda tag: _inline_tag(tag[0], id_prefix), body)  # not texts
    return f'<svg {box[0]} role="img" aria-label="{html.escape(alt_text)}">{body}'.rstrip()


def _inline_tag(tag: str, id_prefix: str) -> str:
    """A tag with ids of the page, variables as colors, and coordinates to 0.01 points."""
    for pattern, replacement in (
        (r'\bid="(\w+)"', rf'id="{id_prefix}-\1"'),
        (r'(url\(#|href="#)(\w+)', rf"\1{id_prefix}-\2"),
        (r"(\d+\.\d\d)\d+", r"\1"),
    ):
        tag = re.sub(pattern, replacement, tag)
    for color, hex_color in LIGHT_COLORS.items():
        tag = tag.replace(hex_color, f"var(--{color})")
    return tag
