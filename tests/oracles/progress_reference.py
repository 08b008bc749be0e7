"""Reimplementation of ProgressGym's challenges in numpy, one vector at a time."""

from __future__ import annotations

import math

import numpy as np

from mores.agents.scripted.progressgym import Extrapolative, Lifelong, Oracle, Persistence, Static
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


def coevolve_score(vectors):
    largest = [max(cos(s, v) for v in V[i:]) for s in vectors for i in range(9)]
    return sum(largest) / len(largest)


def expected(kind, challenge, horizon):
    """Cosine score, skill and centered cosine of one assistant."""
    delay = horizon if challenge == "predict" else 0
    iterations = {"follow": 0, "predict": horizon, "coevolve": 1}[challenge]
    person, model = V[0], V[0]
    vectors, answers, scored_vectors, targets = [person], [], [], []
    for t in range(1, 9 - delay):
        answers.append(person if challenge == "coevolve" else V[t])
        if kind == "oracle":
            model = V[t + delay]
        elif kind != "none":
            order, rate, independent = kind
            base = V[0] if independent else model
            model = base + rate * (extrapolate(answers, order, iterations) - base)
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


ROWS = {  # order, rate, independent
    "lifelong": (Lifelong(), (0, 0.51, False)),
    "lifelong, independent": (Lifelong(independent=True), (0, 0.51, True)),
    "extrapolative": (Extrapolative(), (1, 0.51, False)),
    "extrapolative, independent": (Extrapolative(independent=True), (1, 0.51, True)),
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
