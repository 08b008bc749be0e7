"""A page that shows a `MoresModel` in the browser: `solara run page.py`.

    from mores.clients.mesa import MoresModel, make_page
    page = make_page(MoresModel("coevolution", seed=1, num_people=30), plots=["rms_distance"])

The network of agents, colored by a value, and plots of metrics over time, with Mesa's controls.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.colors

from mores.clients.mesa.mores_model import CommunityAgent, MoresModel
from mores.core.errors import UserError, did_you_mean

COLORS = "coolwarm"  # low values blue, high values red
WITHOUT_VALUES = "0.6"  # gray


def make_page(
    model: MoresModel,
    plots: Sequence[str] = (),
    value_index: int = 0,
    color_limit: float | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Any:
    """A Solara element with the network of agents and a plot of each metric.

    Args:
        model: the model.
        plots: names of metrics of the model.
        value_index: index of the value that colors people, from 0.
        color_limit: value of the strongest color, > 0, value units; default: the largest absolute
            current value of a person.
        parameters: arguments of `MoresModel` for Mesa's reset button, numbers or Mesa's inputs
            (`{"seed": 1, "num_people": Slider(...)}`). Without them it resets to the defaults.

    Raises:
        UserError: the model has no metric of that name; Solara is not installed.
    """
    try:
        from mesa.visualization import SolaraViz, make_plot_component, make_space_component
    except ImportError as error:
        message = f"Mesa's pages need more packages ({error}): pip install mores[mesa]"
        raise UserError(message, code="not_installed", path="solara") from None
    for name in plots:
        if name not in model.metrics:
            message = f"plots: the model has no metric {name!r}{did_you_mean(name, model.metrics)}"
            raise UserError(message, code="unknown_name", path="plots")
    if color_limit is None:
        agents = [agent for agent in model.agents if isinstance(agent, CommunityAgent)]
        sizes = [abs(float(a.values[value_index])) for a in agents if a.values is not None]
        color_limit = max(sizes, default=1.0) or 1.0
    portrayal = functools.partial(portray, value_index=value_index, color_limit=color_limit)
    draws_edges = model.space.G.number_of_edges() > 0  # Mesa 3.3.1 fails to draw none
    space = make_space_component(portrayal, draw_grid=draws_edges)
    components = [space, *(make_plot_component(name) for name in plots)]
    return SolaraViz(
        model,
        components=components,
        model_params=dict(parameters or {}),
        name=type(model.environment).__name__,
    )


def portray(agent: CommunityAgent, value_index: int, color_limit: float) -> Any:
    """How Mesa draws an agent: people by their value, others in gray.

    Args:
        agent: the agent.
        value_index: index of the value that colors people, from 0.
        color_limit: value of the strongest color, > 0, value units; its negative has the strongest
            opposite color.
    """
    from mesa.visualization.components import AgentPortrayalStyle

    color = WITHOUT_VALUES
    if agent.values is not None:
        share = (float(agent.values[value_index]) / color_limit + 1) / 2
        color = matplotlib.colors.to_hex(matplotlib.colormaps[COLORS](share))
    return AgentPortrayalStyle(color=color, size=60)
