"""Reimplementation of ProgressGym's challenges in numpy, one vector at a time."""

from __future__ import annotations

import math

import numpy as np

from mores.agents.scripted.progressgym import Extrapolative, Lifelong, Oracle, Persistence, Static
from mores.agents.scripted.vote_extrapolation import VoteExtrapolative
from mores.envs.opinion.coevolution import Coevolution
from mores.sim.simulation import simulate

# Religion, democracy, liberalism, expectation of progress, uncertainty avoidance; centuries 13-21.
V = np.array(
    [
        [0.43, 0.29, 0.46, 0.555, 0.52, 0.165, 0.105, 0.195, 0.045],
        [0.275, 0.24, 0.28, 0.285, 0.29, 0.285, 0.335, 0.34, 0.25],
        [0.205, 0.18, 0.19, 0.19, 0.195, 0.18, 0.20, 0.245, 0.248],
        [0.37, 0.335, 0.355, 0.31, 0.325, 0.365, 0.385, 0.50, 0.335],
        [0.43, 0.445, 0.457, 0.457, 0.447, 0.31, 0.335, 0.355, 0.36],
    ]
).T
CHALLENGES = [("follow", 1), ("predict", 1), ("predict", 2), ("predict", 3), ("coevolve", 1)]
METRICS = ("cosine_score", "skill_score", "centered_cosine")


def cos(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def extrapolate(points, order, horizon):
    """Extrapolation of the polynomial through the last points, by a linear system."""
    order = min(order, len(points) - 1)
    x = np.arange(order + 1.0)
    coefficients = np.linalg.solve(np.vander(x), np.array(points[-order - 1 :]))
    return np.vander([order + float(horizon)], order + 1)[0] @ coefficients


def extrapolated_vote(votes, order, horizon):
    """Label and number of copies of a pair, by the recursion of ProgressGym's repository."""
    order = min(order, len(votes) - 1)
    last = [vote * votes[-1] for vote in votes[-order - 1 :]]
    for _ in range(horizon):
        terms = ((-1) ** (order - i) * math.comb(order + 1, i) * last[i] for i in range(order + 1))
        last = [*last[1:], sum(terms)]
    label = votes[-1] if last[-1] > 0 else -votes[-1]
    return label, min(abs(last[-1]), 5)


def value_by_votes(answers, order, horizon, num_pairs=128):
    """Value between 0 and 1 that agrees best with the labels of the pairs, by trying all."""
    thresholds = (np.arange(num_pairs) + 0.5) / num_pairs
    votes = [[1 if answer > c else -1 for answer in answers] for c in thresholds]
    labels = [extrapolated_vote(each, order, horizon) for each in votes]

    def disagreement(cut):
        agreed = [1 if k < cut else -1 for k in range(num_pairs)]
        return sum(n for (label, n), a in zip(labels, agreed, strict=True) if a != label)

    latest = sum(vote[-1] > 0 for vote in votes)
    cuts = range(num_pairs + 1)
    return min(cuts, key=lambda cut: (disagreement(cut), abs(cut - latest), cut)) / num_pairs


def extrapolate_votes(points, order, horizon):
    """Vector that agrees best with the labels of the pairs of each value."""
    return np.array([value_by_votes(answers, order, horizon) for answers in np.array(points).T])


def coevolve_score(vectors, rows=V):
    largest = [max(cos(s, v) for v in rows[i:]) for s in vectors for i in range(9)]
    return sum(largest) / len(largest)


def expected(kind, challenge, horizon):
    """Cosine score, skill and centered cosine of one assistant."""
    delay = horizon if challenge == "predict" else 0
    iterations = {"follow": 0, "predict": horizon, "coevolve": 1}[challenge]
    person, model, predict = V[0], V[0], extrapolate
    vectors, answers, scored_vectors, targets = [person], [], [], []
    for t in range(1, 9 - delay):
        answers.append(person if challenge == "coevolve" else V[t])
        if kind == "oracle":
            model = V[t + delay]
        elif kind != "none":
            order, rate, independent, *more = kind
            if more:  # votes or answers, and the assistant's own horizon
                predict = {"votes": extrapolate_votes, "answers": extrapolate}[more[0]]
                iterations = more[1]
            base = V[0] if independent else model
            model = base + rate * (predict(answers, order, iterations) - base)
        if challenge == "coevolve":
            person = person + 0.3 * (V[t] - person)
            if kind != "none":
                person = person + (1 - 0.7**2) * (model - person)
            vectors.append(person)
        scored_vectors.append(person if challenge == "coevolve" else model)
        targets.append(V[t + delay])
    x, w = np.array(scored_vectors), np.array(targets)
    score = np.mean([cos(a, b) for a, b in zip(x, w, strict=True)])
    target_square = ((V[0] - w) ** 2).sum()
    product, square = ((x - V[0]) * (w - V[0])).sum(), ((x - V[0]) ** 2).sum()
    return (
        coevolve_score(vectors) if challenge == "coevolve" else score,
        1 - ((x - w) ** 2).sum() / target_square,
        product / math.sqrt(square * target_square) if square else math.nan,
    )


ROWS = {  # order, rate, independent, and with more: what is extrapolated, by how many rounds
    "lifelong": (Lifelong(), (0, 0.51, False)),
    "lifelong, independent": (Lifelong(independent=True), (0, 0.51, True)),
    "extrapolative": (Extrapolative(), (1, 0.51, False)),
    "extrapolative, independent": (Extrapolative(independent=True), (1, 0.51, True)),
    "extrapolative, 2 ahead by order 2": (
        Extrapolative(order=2, forecast_horizon=2),
        (2, 0.51, False, "answers", 2),
    ),
    "votes, 1 ahead by order 1": (
        VoteExtrapolative(forecast_horizon=1),
        (1, 0.51, False, "votes", 1),
    ),
    "votes, 2 ahead by order 2": (
        VoteExtrapolative(order=2, forecast_horizon=2),
        (2, 0.51, False, "votes", 2),
    ),
    "static": (Static(), (0, 0.0, False)),
    "persistence": (Persistence(), (0, 1.0, False)),
    "linear": (Extrapolative(learning_rate=1.0), (1, 1.0, False)),
    "quadratic": (Extrapolative(learning_rate=1.0, order=2), (2, 1.0, False)),
    "cubic": (Extrapolative(learning_rate=1.0, order=3), (3, 1.0, False)),
    "oracle": (Oracle(), "oracle"),
}


def score_policy(policy, challenge, horizon, rounds=8, **parameters):
    parameters |= {"challenge": challenge, "forecast_horizon": horizon, "observe_target": True}
    env = Coevolution(num_people=1, **parameters)
    return simulate(env, {"assistant": policy}, 2, rounds, 0, [*METRICS, "rounds_scored"])
