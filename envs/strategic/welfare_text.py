"""The welfare game in words."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mores.envs.strategic.welfare_parameters import WelfareParameters, WelfareState
from mores.envs.strategic.welfare_task import ACTS

MAX_ROWS = 8
PHRASES = {
    "direct": "answers",
    "clarify": "asks, then answers",
    "answer_and_ask": "answers, and asks",
}


def describe(
    game: WelfareParameters, state: WelfareState, metrics: Mapping[str, Tensor], world: int
) -> str:
    """A table of the first conversations of a world, and the means of all of them."""
    requests = int(state.requests[world])
    if not requests and not bool((state.act[world] >= 0).any()):
        return f"{game.num_users} users; no request yet"
    costs = game.costs(state)
    lines = [
        f"request {requests}: {game.num_users} users; utilities U (user) and L (operator)",
        "user  request   looks     assistant           words  correct      U      L  price",
    ]
    for user in range(min(MAX_ROWS, game.num_users)):
        act = int(state.act[world, user])
        words = {0.0: "definite", 1.0: "vague"}
        lines.append(
            f"{user:4d}  {words[float(state.is_vague[world, user])]:8s}  "
            f"{words[float(state.cue[world, user])]:8s}  "
            f"{PHRASES[ACTS[act]] if act >= 0 else 'not yet':18s}  "
            f"{100 * float(state.total_words[world, user]):5.0f}  "
            f"{float(state.accuracy[world, user]):7.2f}  "
            f"{float(state.user[world, user]):5.2f}  {float(state.assistant[world, user]):5.2f}  "
            f"{float(costs.price[world, user]):5.2f}"
        )
    if game.num_users > MAX_ROWS:
        lines.append(f"      ... and {game.num_users - MAX_ROWS} more users")
    mean = {name: float(x[world]) for name, x in metrics.items()}
    lines.append(
        f"mean: U {mean['user_utility']:.3f}, L {mean['assistant_utility']:.3f}, welfare "
        f"{mean['welfare']:.3f}, {100 * mean['words']:.0f} words, "
        f"{100 * mean['accuracy']:.0f} % correct, {100 * mean['vague_share']:.0f} % vague"
    )
    return "\n".join(lines)
