"""The parts of a client's picture: each updates its artists, which exist from the start.

A panel's `artists` are drawn anew in every frame. Everything else (axes, titles, legends) is drawn
once, and again only when the panel's `frame_key` changes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mores.clients.episode_trace import EpisodeTrace
from mores.clients.resolve import AgentId
from mores.clients.text_rendering import observation_lines
from mores.core.errors import printable
from mores.sim.simulator import Simulator

COLORS = ("#0b62a8", "#b8470b", "#0f7a55", "#9a3f86", "#8a6410", "#1f7a92")
GRAY = "#5b6168"
MAX_TIES = 1_500
MAX_SPRING_LAYOUT = 80  # people: with more, the layout takes long and its ties cover each other
MAX_TEXT_LINES, TEXT_WIDTH = 13, 44


class Panel:
    """A part of the picture."""

    def __init__(self) -> None:
        self.artists: list[Any] = []
        self.frame_key: Any = None

    def update(self) -> None:
        """Set the artists to the current state."""
        raise NotImplementedError


class Limits:
    """Limits of an axis that grow in large steps, so that the frame is rarely drawn anew."""

    def __init__(self) -> None:
        self._limits: tuple[float, float] | None = None

    def include(self, values: np.ndarray) -> tuple[float, float]:
        """Limits that contain the finite values (an array of any shape) and all earlier ones."""
        finite = values[np.isfinite(values)]
        if not finite.size:
            return self._limits or (0.0, 1.0)
        low, high = float(finite.min()), float(finite.max())
        if self._limits is None:
            margin = 0.15 * (high - low) or 0.5
            self._limits = low - margin, high + margin
        old_low, old_high = self._limits
        extent = max(high, old_high) - min(low, old_low)
        if low < old_low or high > old_high:
            new_low = low - 0.5 * extent if low < old_low else old_low
            new_high = high + 0.5 * extent if high > old_high else old_high
            self._limits = new_low, new_high
        return self._limits


class SeriesPanel(Panel):
    """Lines over rounds, one for each of the first roles; the legend's title names the others.

    Args:
        axes: the axes.
        title: title of the panel.
        roles: names of the roles.
        first: round of the first value.

    Attributes:
        series: values of each role; a missing role has none.
    """

    def __init__(self, axes: Any, title: str, roles: Sequence[str], first: int) -> None:
        super().__init__()
        self._axes, self._first, self._limits = axes, first, Limits()
        axes.set_title(title)
        _label_rounds(axes)
        self._lines = {
            role: axes.plot(
                [], [], color=color, label=role, marker="o" if first else "", markersize=3
            )[0]
            for role, color in zip(roles, COLORS, strict=False)
        }
        others = ", ".join(roles[len(COLORS) :])
        axes.legend(
            loc="upper left",
            fontsize=7.5,
            ncols=2,
            borderaxespad=0.2,
            title=textwrap.fill(f"not shown: {others}", TEXT_WIDTH) if others else None,
            title_fontsize=7.5,
        )
        self.artists = [*self._lines.values()]
        for artist in self.artists:
            artist.set_animated(True)
        self.series: Mapping[str, Sequence[float]] = {}

    def update(self) -> None:
        """Set the lines to `series`."""
        longest = 0
        values = [0.0]
        for role, line in self._lines.items():
            numbers = list(self.series.get(role, ()))
            line.set_data(self._first + np.arange(len(numbers)), numbers)
            longest, values = max(longest, len(numbers)), values + numbers
        self.frame_key = _set_limits(self._axes, self._limits.include(np.array(values)), longest)


class ValuesPanel(Panel):
    """Values over rounds: thin lines for the first people, a bold one for the mean of all."""

    def __init__(self, axes: Any, trace: EpisodeTrace, names: Sequence[str]) -> None:
        from matplotlib.collections import LineCollection

        super().__init__()
        self._axes, self._trace, self._limits = axes, trace, Limits()
        shown = _shown_people(trace)
        axes.set_title(f"Values of {trace.num_people} people (thin: {shown}; bold: mean of all)")
        _label_rounds(axes)
        self._people, self._means = [], []
        for name, color in zip(names, COLORS, strict=False):
            lines = LineCollection([], colors=color, linewidths=0.7, alpha=0.35, animated=True)
            self._people.append(axes.add_collection(lines))
            (mean,) = axes.plot([], [], color=color, linewidth=2.6, label=name, animated=True)
            self._means.append(mean)
        axes.legend(loc="upper left", fontsize=7.5, ncols=2, borderaxespad=0.2)
        self.artists = [*self._people, *self._means]

    def update(self) -> None:
        """Set the lines to the values so far."""
        values = np.stack(self._trace.values)  # round person value
        means = np.stack(self._trace.mean_values)  # round value
        steps = np.arange(len(values))
        for dimension, (people, mean) in enumerate(zip(self._people, self._means, strict=True)):
            each = values[:, :, dimension].T
            people.set_segments([np.column_stack([steps, numbers]) for numbers in each])
            mean.set_data(steps, means[:, dimension])
        limits = self._limits.include(np.concatenate([values.ravel(), means.ravel()]))
        self.frame_key = _set_limits(self._axes, limits, len(values) - 1)


class DotsPanel(Panel):
    """Current values: a dot for each of the first people."""

    def __init__(self, axes: Any, trace: EpisodeTrace, names: Sequence[str]) -> None:
        super().__init__()
        self._axes, self._trace, self._is_plane = axes, trace, len(names) > 1
        self._limits = Limits(), Limits()
        axes.set_title(f"Current values (dots: {_shown_people(trace)})")
        axes.set_xlabel(names[0])
        if self._is_plane:
            axes.set_ylabel(names[1])
        else:
            axes.set_yticks([])
        shape = len(trace.values[0]), 2
        self._jitter = np.random.default_rng(0).uniform(-1, 1, shape)  # separates equal values
        self.artists = [
            axes.scatter([], [], s=22, color=COLORS[0], alpha=0.7, animated=True, zorder=3)
        ]

    def update(self) -> None:
        """Move the dots."""
        values = self._trace.values[-1]
        y = values[:, 1] if self._is_plane else self._jitter[:, 1]
        offsets = np.column_stack([values[:, 0], y])
        if self._is_plane:
            extent = np.ptp(offsets, 0)
            offsets = offsets + 0.02 * np.where(extent > 0, extent, 1.0) * self._jitter
        self.artists[0].set_offsets(offsets)
        limits = self._limits[0].include(values[:, 0]), self._limits[1].include(y)
        if limits != self.frame_key:
            self._axes.set_xlim(*limits[0])
            self._axes.set_ylim(*limits[1])
            self.frame_key = limits


class GraphPanel(Panel):
    """Graph of people: linked people are near each other, colors are values."""

    def __init__(self, axes: Any, simulator: Simulator, name: str) -> None:
        from matplotlib.collections import LineCollection

        super().__init__()
        self._simulator, self._limits = simulator, Limits()
        axes.set_axis_off()
        axes.set_title(f"Who influences whom (color: {name})")
        axes.set_xlim(-1.1, 1.1)
        axes.set_ylim(-1.1, 1.1)
        lines = LineCollection([], colors="#9aa3ab", linewidths=0.7, alpha=0.6, animated=True)
        self._ties = axes.add_collection(lines)
        self._layout = _graph_layout(self._current_ties(), len(self._values()))
        self._people = axes.scatter(
            *self._layout.T,
            c=self._values(),
            cmap="coolwarm",
            s=42,
            edgecolors="#5b6168",
            linewidths=0.5,
            animated=True,
            zorder=3,
        )
        self.artists = [self._ties, self._people]

    def _current_ties(self) -> np.ndarray:
        """Pairs of a person and a neighbor who influences it, in the first world."""
        graph = self._simulator.environment.influence_graph(self._simulator.state)
        if graph is None:
            return np.zeros((0, 2), int)
        ties = graph.ties(0)
        return torch.stack([ties.person, ties.neighbor], -1).cpu().numpy()

    def _values(self) -> np.ndarray:
        people = self._simulator.environment.people(self._simulator.state)
        assert people is not None
        return people.values[0, :, 0].cpu().numpy()

    def update(self) -> None:
        """Set ties and colors."""
        ties, values = self._current_ties(), self._values()
        self._ties.set_segments(self._layout[ties[:: 1 + len(ties) // MAX_TIES]])
        self._people.set_array(values)
        self._people.set_clim(*self._limits.include(values))


class TextPanel(Panel):
    """What happened in words; before anything did, what an agent observes."""

    def __init__(self, axes: Any, simulator: Simulator, agent: AgentId) -> None:
        super().__init__()
        self._simulator, self._agent = simulator, agent
        axes.set_axis_off()
        self._title = axes.text(0, 1.03, "", fontsize=9.5, fontweight="bold", animated=True)
        self._text = axes.text(0, 0.97, "", va="top", fontsize=8.5, linespacing=1.3, animated=True)
        self.artists = [self._title, self._text]

    def update(self) -> None:
        """Set the text."""
        simulator = self._simulator
        text, title = simulator.environment.render(simulator.state), "What happened last"
        if not text:
            title = f"What {self._agent.name} observes"
            text = "\n".join(observation_lines(simulator, self._agent))
        lines: list[str] = []
        for line in text.split("\n"):
            indented = textwrap.wrap(printable(line, 500), TEXT_WIDTH, subsequent_indent="  ")
            lines += indented or [""]
        if len(lines) > MAX_TEXT_LINES:
            lines = [*lines[: MAX_TEXT_LINES - 1], "..."]
        self._title.set_text(title)
        self._text.set_text("\n".join(lines))


class DrawnPanel(Panel):
    """What the environment draws itself (`Environment.draw`); drawn anew in every frame."""

    def __init__(self, axes: Any, simulator: Simulator) -> None:
        super().__init__()
        self._axes, self._simulator, self.frame_key = axes, simulator, 0

    def update(self) -> None:
        """Let the environment draw."""
        self._axes.clear()
        self._simulator.environment.draw(self._simulator.state, self._axes)
        self.frame_key += 1


def _shown_people(trace: EpisodeTrace) -> str:
    """Which people a panel shows one by one."""
    shown = len(trace.values[0])
    return f"the first {shown}" if shown < trace.num_people else "each person"


def _label_rounds(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _set_limits(axes: Any, limits: tuple[float, float], rounds: int) -> Any:
    """Set limits with room for a legend above; returns their key."""
    low, high = limits
    axes.set_xlim(0, _end_of_axis(rounds))
    axes.set_ylim(low, high + 0.15 * (high - low))
    return limits, _end_of_axis(rounds)


def _end_of_axis(rounds: int) -> float:
    """End of an axis of rounds, which does not move at every step."""
    for limit in (10, 20, 50, 100, 200, 500, 1000):
        if rounds <= limit:
            return limit
    return float(2 ** int(np.ceil(np.log2(rounds))))


def _graph_layout(ties: np.ndarray, num_people: int) -> np.ndarray:
    """Places of people in [-1, 1]: linked people are near; in large graphs a circle."""
    import networkx

    if num_people > MAX_SPRING_LAYOUT:
        angle = 2 * np.pi * np.arange(num_people) / num_people
        return np.column_stack([np.cos(angle), np.sin(angle)])
    graph = networkx.Graph(ties.tolist())
    graph.add_nodes_from(range(num_people))
    places = networkx.spring_layout(graph, seed=0, iterations=60)
    layout = np.array([places[person] for person in range(num_people)])
    layout = layout - layout.mean(0)
    return layout / max(float(np.abs(layout).max()), 1e-9)
