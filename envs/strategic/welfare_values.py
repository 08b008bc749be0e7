"""Closed forms of the welfare game, in which the assistant maximizes the user's utility.

Notation: p_D, p_V accuracy of definite and vague requests, D = p_D - p_V, delta the cost of a turn,
eps that of a follow-up question, kappa ~ U(0, K) the cost of writing definitely, a the accuracy of
the cue, mu = P(vague | cue). Answers have a fixed length. Utilities of the user:

                    definite      vague
    direct          p_D           p_V
    clarify         p_D - delta   p_D - delta
    answer and ask  p_D - eps     p_V + (1 - p_V) (p_D - delta) - eps

The assistant compares expectations under mu: thresholds in mu. A user writes definitely if kappa is
below k*, the difference of the expected utilities of both requests. Under an assistant that
clarifies at a vague cue and else answers directly, `k* = (2 a - 1) delta + (1 - a) D`; under one
that always answers directly, `k* = D`. As `delta < D`, help makes users vague.

Equilibria with the acts direct and clarify: everyone is vague and the assistant always clarifies,
for every a; and the one that follows the cue, exactly if `P(vague | definite cue) <= delta / D`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import brentq

from mores.envs.strategic.welfare_task import ACTS, Costs, WelfareTask, type_and_act


class Request(NamedTuple):
    """The numbers of the module docstring."""

    accuracy_definite: float = 0.9
    accuracy_vague: float = 0.4
    delay_cost: float = 0.15
    followup_cost: float = 0.03
    max_writing_cost: float = 0.8

    @property
    def accuracy_gain(self) -> float:
        """D, what a definite request adds to accuracy."""
        return self.accuracy_definite - self.accuracy_vague

    @property
    def rescue(self) -> float:
        """What a follow-up question adds to the utility of a vague request, before its cost."""
        return (1.0 - self.accuracy_vague) * (self.accuracy_definite - self.delay_cost)


def clarify_threshold(request: Request) -> float:
    """mu from which clarifying is better than a direct answer: delta / D."""
    return request.delay_cost / request.accuracy_gain


def ask_threshold(request: Request) -> float:
    """mu from which an answer with a follow-up question is better than one without."""
    return request.followup_cost / request.rescue


def ask_clarify_threshold(request: Request) -> float:
    """mu from which clarifying is better than a follow-up question; above 1: never."""
    saved = request.delay_cost - request.followup_cost
    return saved / (request.accuracy_gain - request.rescue)


def cue_writing_threshold(request: Request, cue_accuracy: float) -> float:
    """k* against an assistant that clarifies at a vague cue and answers at a definite one."""
    a = cue_accuracy
    return (2 * a - 1) * request.delay_cost + (1 - a) * request.accuracy_gain


def direct_writing_threshold(request: Request) -> float:
    """k* against an assistant that always answers directly."""
    return request.accuracy_gain


def ask_writing_threshold(request: Request) -> float:
    """k* against an assistant that always answers with a follow-up question."""
    return request.accuracy_gain - request.rescue


def vague_share(threshold: float, max_writing_cost: float) -> float:
    """Share of vague requests of users who write definitely below a threshold: 1 - k* / K."""
    return 1.0 - min(max(threshold, 0.0) / max_writing_cost, 1.0)


def user_net_utility(definite: float, vague: float, max_writing_cost: float) -> float:
    """Expected utility minus the cost of writing, of users who respond best.

    Args:
        definite, vague: expected utility of a request of either form under the assistant.
    """
    threshold = min(max(definite - vague, 0.0), max_writing_cost)
    gain = (definite - vague) * threshold - threshold**2 / 2
    return vague + gain / max_writing_cost


def cue_net_utility(request: Request, cue_accuracy: float) -> float:
    """`user_net_utility` under the assistant that follows the cue."""
    a, delta = cue_accuracy, request.delay_cost
    definite = request.accuracy_definite - (1 - a) * delta
    vague = a * (request.accuracy_definite - delta) + (1 - a) * request.accuracy_vague
    return user_net_utility(definite, vague, request.max_writing_cost)


def direct_net_utility(request: Request) -> float:
    """`user_net_utility` under the assistant that always answers directly."""
    definite, vague = request.accuracy_definite, request.accuracy_vague
    return user_net_utility(definite, vague, request.max_writing_cost)


def clarify_net_utility(request: Request) -> float:
    """`user_net_utility` if the assistant always clarifies and everyone is vague: p_D - delta."""
    return request.accuracy_definite - request.delay_cost


def vague_at_definite_cue(request: Request, cue_accuracy: float) -> float:
    """P(vague | definite cue) if users respond best to the assistant that follows the cue."""
    a = cue_accuracy
    vague = vague_share(cue_writing_threshold(request, a), request.max_writing_cost)
    return (1 - a) * vague / ((1 - a) * vague + a * (1 - vague))


def cue_equilibrium_accuracy(request: Request) -> float:
    """Smallest accuracy of the cue at which following it is an equilibrium."""

    def excess(a: float) -> float:
        return vague_at_definite_cue(request, a) - clarify_threshold(request)

    return float(brentq(excess, 0.5, 1.0, xtol=1e-14))  # type: ignore[arg-type]


def expected_act(request: Request, mu: float, act: str) -> tuple[float, float]:
    """Expected utility of the user, and words in hundreds, of an act at a belief mu.

    Answers have 200 words, a clarifying question 30, a follow-up question 60.
    """
    p, low = request.accuracy_definite, request.accuracy_vague
    if act == "direct":
        return (1 - mu) * p + mu * low, 2.0
    if act == "clarify":
        return p - request.delay_cost, 2.3
    used = mu * (1 - low)  # probability of a reply
    value = (1 - mu) * p + mu * (low + request.rescue) - request.followup_cost
    return value, 2.6 + 2 * used


def switch_price(request: Request, mu: float, costly: str, cheap: str) -> float:
    """Price of a hundred words at which the costlier of two acts loses its advantage."""
    (high, words), (low, fewer) = (expected_act(request, mu, act) for act in (costly, cheap))
    return (high - low) / (words - fewer)


def best_response_vague_share(
    task: WelfareTask,
    acts: tuple[str, str],
    words: float,
    costs: tuple[float, float],
    cue_accuracy: float,
    max_writing_cost: float,
) -> float:
    """Share of vague requests of users who respond best to fixed acts at both cues.

    Args:
        acts: act at a definite and at a vague cue.
        words: length of answers, hundreds.
        costs: of a turn, and of reading a hundred words.
    """
    dtype = torch.float64
    number = Costs(*(torch.tensor(x, dtype=dtype) for x in (*costs, 0.0)))
    vague, act = type_and_act(number.price)
    user = task.outcome(vague, act, torch.tensor(words, dtype=dtype), number).user
    definite_cue, vague_cue = (user[:, ACTS.index(name)] for name in acts)
    a = cue_accuracy
    definite = a * definite_cue[0] + (1 - a) * vague_cue[0]
    written_vaguely = a * vague_cue[1] + (1 - a) * definite_cue[1]
    return vague_share(float(definite - written_vaguely), max_writing_cost)
