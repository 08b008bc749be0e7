"""Pictures of a world, `render_mode` "rgb_array": what happened in the episode so far.

The picture has four parts: (1) values of people, or rewards, over rounds, or the drawing of
`Environment.draw`; (2) the influence graph, a text of the last events, or the current values; (3)
returns; (4) the last actions. It is for people: it shows latent quantities, which agents must not
observe.

Axes, titles and legends are drawn once and kept; a frame draws only what changed over them.
"""

from __future__ import annotations

import inspect
import re
import textwrap
import warnings
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from mores.clients.episode_trace import MAX_DIMENSIONS, EpisodeTrace
from mores.clients.picture_panels import (
    COLORS,
    GRAY,
    DotsPanel,
    DrawnPanel,
    GraphPanel,
    Panel,
    SeriesPanel,
    TextPanel,
    ValuesPanel,
)
from mores.clients.resolve import AgentId
from mores.core.environment import Environment
from mores.core.errors import printable
from mores.sim.simulator import Simulator

WIDTH, HEIGHT, DPI = 800, 608, 100  # pixels: multiples of 16, as video codecs want them
MAX_ROWS = 5  # of agents


class Picture:
    """Picture of the first world of a simulator.

    Args:
        simulator: the simulator, whose recorder is `trace`; reset.
        trace: the recorder.
        agents: the external agents, whose actions come first.
    """

    def __init__(
        self, simulator: Simulator, trace: EpisodeTrace, agents: Sequence[AgentId]
    ) -> None:
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._simulator, self._trace = simulator, trace
        style = resources.files("mores.report") / "mores.mplstyle"
        with resources.as_file(style) as path, matplotlib.style.context(str(path)):
            self._figure = Figure((WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="white")
            self._canvas = FigureCanvasAgg(self._figure)
            main, side, below = (
                self._figure.add_axes(place)
                for place in (
                    (0.075, 0.43, 0.50, 0.39),
                    (0.64, 0.43, 0.34, 0.39),
                    (0.075, 0.08, 0.36, 0.24),
                )
            )
            roles = [role.name for role in simulator.environment.roles]
            self._panels = [self._main_panel(main, roles), self._side_panel(side, agents[0])]
            self._returns = SeriesPanel(below, "Return so far (mean of each role)", roles, 0)
            self._panels += [
                self._returns,
                _Header(self._figure, simulator),
                _ActionsPanel(self._figure, simulator, trace, agents),
            ]
        self._background: Any = None
        self._frame_key: list[Any] = []
        self._texts: dict[Any, tuple[str, Any]] = {}  # text and pixels of each text artist

    def draw(self) -> np.ndarray:
        """The picture, uint8 `[608, 800, 3]`."""
        rewards = self._trace.rewards
        if isinstance(self._panels[0], SeriesPanel):
            self._panels[0].series = rewards
        self._returns.series = {
            role: np.cumsum([0.0, *numbers]).tolist() for role, numbers in rewards.items()
        }
        with warnings.catch_warnings():
            # Messages of agents may have any character: one that no font has is a box.
            warnings.filterwarnings("ignore", "Glyph|Matplotlib currently does not support")
            return self._drawn()

    def _drawn(self) -> np.ndarray:
        for panel in self._panels:
            panel.update()
        frame_key = [panel.frame_key for panel in self._panels]
        if self._background is None or frame_key != self._frame_key:
            self._canvas.draw()
            self._background = self._canvas.copy_from_bbox(self._figure.bbox)
            self._frame_key = frame_key
        self._canvas.restore_region(self._background)
        for panel in self._panels:
            for artist in panel.artists:
                self._draw_artist(artist)
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

    def _draw_artist(self, artist: Any) -> None:
        """Draw an artist; a text that did not change is copied, since fonts are slow."""
        if not hasattr(artist, "get_text"):
            self._figure.draw_artist(artist)
            return
        text = artist.get_text()
        known, region = self._texts.get(artist, (None, None))
        if known != text:
            self._figure.draw_artist(artist)
            area = artist.get_window_extent().padded(2) if text else None
            region = None if area is None else self._canvas.copy_from_bbox(area)
            self._texts[artist] = text, region
        elif region is not None:
            self._canvas.restore_region(region)

    def _main_panel(self, axes: Any, roles: Sequence[str]) -> Panel:
        if type(self._simulator.environment).draw is not Environment.draw:
            return DrawnPanel(axes, self._simulator)
        if self._has_values():
            return ValuesPanel(axes, self._trace, self._value_names())
        return SeriesPanel(axes, "Mean reward of each role in each round", roles, 1)

    def _side_panel(self, axes: Any, agent: AgentId) -> Panel:
        environment, state = self._simulator.environment, self._simulator.state
        if self._has_values() and environment.influence_graph(state) is not None:
            return GraphPanel(axes, self._simulator, self._value_names()[0])
        has_words = type(environment).render is not Environment.render
        if self._has_values() and not has_words:
            return DotsPanel(axes, self._trace, self._value_names())
        return TextPanel(axes, self._simulator, agent)

    def _has_values(self) -> bool:
        return bool(self._trace.values) and self._trace.values[0].size > 0

    def _value_names(self) -> list[str]:
        """Names of the values that are shown."""
        dimensions = self._trace.values[0].shape[1]
        names = self._simulator.environment.value_names
        if self._simulator.population is not None:
            names = self._simulator.population.value_names or names
        if not names:
            names = ["value"] if dimensions == 1 else [f"value {i}" for i in range(dimensions)]
        return [printable(name, 24) for name in names[:MAX_DIMENSIONS]]


class _Header(Panel):
    """Name and summary of the environment, round and phase."""

    def __init__(self, figure: Any, simulator: Simulator) -> None:
        super().__init__()
        self._simulator = simulator
        title, summary = environment_title(simulator.environment)
        figure.text(0.02, 0.955, title, fontsize=14, fontweight="bold", va="center")
        lines = textwrap.wrap(summary, 118)[:2]
        figure.text(0.02, 0.925, "\n".join(lines), fontsize=8.5, color=GRAY, va="top")
        self._clock = figure.text(
            0.98, 0.955, "", fontsize=11, ha="right", va="center", animated=True
        )
        self.artists = [self._clock]

    def update(self) -> None:
        """Set the number of rounds and the phase."""
        simulator = self._simulator
        text = f"{int(simulator.round[0])} of {simulator.rounds} rounds completed"
        if simulator.all_finished:
            text += "; the episode is over"
        elif len(simulator.phases) > 1:
            text += f"; next: {simulator.phase.name}"
        self._clock.set_text(text)


class _ActionsPanel(Panel):
    """Last actions and rewards of the first agents, external ones in bold."""

    def __init__(
        self, figure: Any, simulator: Simulator, trace: EpisodeTrace, agents: Sequence[AgentId]
    ) -> None:
        super().__init__()
        self._simulator, self._trace = simulator, trace
        self._agents = _listed_agents(simulator, agents)
        total = sum(role.num_agents for role in simulator.environment.roles)
        note = "bold: external agents"
        if total > len(self._agents):
            note += f"; {total - len(self._agents)} more agents are not listed"
        figure.text(0.50, 0.335, "Last actions", fontsize=9.5, fontweight="bold", va="center")
        figure.text(0.98, 0.335, "reward", fontsize=8.5, color=GRAY, va="center", ha="right")
        figure.text(0.50, 0.03, note, fontsize=8, color=GRAY, va="center")
        self._rows = []
        for row, agent in enumerate(self._agents):
            y, is_external = 0.292 - 0.052 * row, agent in agents
            color, weight = (COLORS[0], "bold") if is_external else (GRAY, "normal")
            figure.text(
                0.50, y, agent.name, fontsize=8.5, va="center", color=color, fontweight=weight
            )
            texts = [
                figure.text(x, y, "", fontsize=8.5, va="center", ha=align, animated=True)
                for x, align in ((0.64, "left"), (0.98, "right"))
            ]
            self._rows.append(texts)
            self.artists += texts

    def update(self) -> None:
        """Set the texts to the last actions."""
        for (action, reward), agent in zip(self._rows, self._agents, strict=True):
            role = self._simulator.roles[agent.role]
            text = self._trace.action_text(role, agent.agent_index) or "none yet"
            action.set_text(printable(text, 31))
            rewards = self._trace.last_rewards.get(agent.role)
            reward.set_text("" if rewards is None else f"{float(rewards[agent.agent_index]):.2g}")


def environment_title(environment: Environment[Any]) -> tuple[str, str]:
    """Name of the class as words, and the first sentence of its documentation."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(environment).__name__)
    first_paragraph = (inspect.getdoc(type(environment)) or "").split("\n\n")[0]
    return words, " ".join(first_paragraph.split())


def _listed_agents(simulator: Simulator, agents: Sequence[AgentId]) -> list[AgentId]:
    """Agents whose actions are listed: external ones, then the first of each role."""
    others = [
        AgentId(name, index)
        for index in range(MAX_ROWS)
        for name, role in simulator.roles.items()
        if index < role.num_agents
    ]
    first = agents[: MAX_ROWS - 1 if len(simulator.roles) > 1 else MAX_ROWS]
    return [*dict.fromkeys([*first, *others])][:MAX_ROWS]
