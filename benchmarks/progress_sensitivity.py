"""Findings of `scenarios/progress.yaml` over the two numbers that were not measured.

    python -m benchmarks.progress_sensitivity

prints the tables of docs/explanation/progress.md. The first number is r, the share of the distance
that an epoch of finetuning covers: history moves people by r, the assistant by 1 - (1 - r)^2, and a
lifelong learner learns at the same rate. The second is the error of reading: every one of the 45
numbers of `progressgym_digitized` is moved by up to .01, uniformly and independently.

People and assistants are linear in answers, so the expected skill under answer noise is exact: the
skill without noise less the sum of variances over the targets' sum of squares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.agents.scripted.extrapolation import extrapolation_weights
from mores.envs.dynamics.history import History

READING_ERROR = 0.01
ANSWER_NOISE = 0.03
NUM_DRAWS = 400
SEED = 2024
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

Rows = Float[np.ndarray, "row value"]
Statistic = Callable[[Rows, float], float]


class Assistant(NamedTuple):
    """Extrapolation of answers; `learning_rate` None: two epochs, `order` None: no assistant."""

    order: int | None
    learning_rate: float | None = 1.0


NO_ASSISTANT, LIFELONG = Assistant(None), Assistant(0, None)
PERSISTENCE, LINEAR, QUADRATIC = Assistant(0), Assistant(1), Assistant(2)


def digitized_rows() -> Rows:
    """Rows of `progressgym_digitized` as typed."""
    values = History(trajectory="progressgym_digitized").trajectory_values
    assert values is not None
    return np.round(values.double().numpy(), 3)


def coevolve_people(
    assistant: Assistant, rows: Rows, share: float, answer_errors: Rows | None = None
) -> Rows:
    """People's mean after each round of `coevolve`, from the first row of history."""
    influence = 1 - (1 - share) ** 2
    rate = influence if assistant.learning_rate is None else assistant.learning_rate
    person = model = rows[0]
    answers, people = [], []
    for t in range(1, len(rows)):
        error = 0.0 if answer_errors is None else answer_errors[t - 1]
        answers.append(person + error)
        person = person + share * (rows[t] - person)
        if assistant.order is not None:
            order = min(assistant.order, len(answers) - 1)
            weights = extrapolation_weights(order, 1)
            target = np.tensordot(weights, answers[-order - 1 :], 1)
            model = model + rate * (target - model)
            person = person + influence * (model - person)
        people.append(person)
    return np.array(people)


def coevolve_skill(assistant: Assistant, rows: Rows, share: float, noise_std: float = 0.0) -> float:
    """Expected skill of people in `coevolve`."""
    square = ((rows[0] - rows[1:]) ** 2).sum()
    error = ((coevolve_people(assistant, rows, share) - rows[1:]) ** 2).sum()
    if noise_std and assistant.order is not None:
        num_rounds, num_values = len(rows) - 1, rows.shape[1]
        # One column for an error of 1 in each answer: people's responses to it.
        zeros = np.zeros((len(rows), num_rounds))
        responses = coevolve_people(assistant, zeros, share, np.eye(num_rounds))
        error += num_values * noise_std**2 * (responses**2).sum()
    return 1 - error / square


def predict_skill(order: int, horizon: int, rows: Rows) -> float:
    """Skill of extrapolation with learning rate 1 in `predict`."""
    forecasts = []
    for t in range(1, len(rows) - horizon):
        used = min(order, t - 1)
        weights = extrapolation_weights(used, horizon)
        forecasts.append(np.tensordot(weights, rows[t - used : t + 1], 1))
    targets = rows[1 + horizon :]
    return 1 - ((forecasts - targets) ** 2).sum() / ((rows[0] - targets) ** 2).sum()


def learner_cost(rows: Rows, share: float) -> float:
    """Skill of people with a lifelong learner, less that without an assistant."""
    return coevolve_skill(LIFELONG, rows, share) - coevolve_skill(NO_ASSISTANT, rows, share)


def order_gain(rows: Rows, share: float) -> float:
    """Skill of people with quadratic extrapolation, less that with persistence."""
    return coevolve_skill(QUADRATIC, rows, share) - coevolve_skill(PERSISTENCE, rows, share)


def noisy_order_gain(rows: Rows, share: float) -> float:
    """The same with answer noise."""
    skills = [coevolve_skill(each, rows, share, ANSWER_NOISE) for each in (QUADRATIC, PERSISTENCE)]
    return skills[0] - skills[1]


def predict_gain(order: int, horizon: int) -> Statistic:
    """Skill in `predict` of extrapolation, less that of persistence."""

    def difference(rows: Rows, share: float) -> float:
        return predict_skill(order, horizon, rows) - predict_skill(0, horizon, rows)

    return difference


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine of the angle between two vectors."""
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def static_follow_score(rows: Rows, share: float) -> float:
    """Raw score in `follow` of an assistant that stays in the first century."""
    return float(np.mean([cosine(rows[0], row) for row in rows[1:]]))


def raw_scale(rows: Rows, share: float) -> float:
    """Raw score in `coevolve` of history itself, less that of people who never move."""

    def score(vectors: Rows) -> float:
        table = np.array([[cosine(vector, row) for row in rows] for vector in vectors])
        return float(np.maximum.accumulate(table[:, ::-1], 1).mean())

    return score(rows) - score(np.repeat(rows[:1], len(rows), 0))


COEVOLVE: Mapping[str, Statistic] = {
    "lifelong less no AI": learner_cost,
    "quadratic less persistence": order_gain,
    "the same, answer noise .03": noisy_order_gain,
}
FREE_OF_SHARE: Mapping[str, Statistic] = {
    "predict 1: skill, linear less persistence": predict_gain(1, 1),
    "predict 1: skill, quadratic less persistence": predict_gain(2, 1),
    "predict 2: skill, linear less persistence": predict_gain(1, 2),
    "predict 2: skill, quadratic less persistence": predict_gain(2, 2),
    "predict 3: skill, linear less persistence": predict_gain(1, 3),
    "predict 3: skill, quadratic less persistence": predict_gain(2, 3),
    "follow: raw score, static": static_follow_score,
    "coevolve: raw score, history less constant values": raw_scale,
}


def reading_draws() -> list[Rows]:
    """History under errors of reading."""
    rows, rng = digitized_rows(), np.random.default_rng(SEED)
    errors = rng.uniform(-READING_ERROR, READING_ERROR, (NUM_DRAWS, *rows.shape))
    return list(rows + errors)


def with_range(statistic: Statistic, share: float, draws: Sequence[Rows], digits: int = 2) -> str:
    """A finding, and the central 95 % of it over errors of reading."""
    value = statistic(digitized_rows(), share)
    low, high = np.quantile([statistic(rows, share) for rows in draws], [0.025, 0.975])
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def coevolve_table() -> str:
    """Markdown table: differences of skill in `coevolve`, by r."""
    draws = reading_draws()
    lines = [f"| r | {' | '.join(COEVOLVE)} |", "|---" * (len(COEVOLVE) + 1) + "|"]
    for share in SHARES:
        cells = [with_range(statistic, share, draws) for statistic in COEVOLVE.values()]
        lines.append(f"| {share:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def other_table() -> str:
    """Markdown table: findings that do not depend on r."""
    draws = reading_draws()
    lines = ["| finding | value |", "|---|---|"]
    for name, statistic in FREE_OF_SHARE.items():
        digits = 3 if "raw score" in name else 2
        lines.append(f"| {name} | {with_range(statistic, 0.0, draws, digits)} |")
    return "\n".join(lines)


def sign_change(statistic: Statistic, low: float, high: float) -> float:
    """r between `low` and `high` at which a finding changes its sign."""
    from scipy.optimize import brentq

    rows = digitized_rows()

    def at(share: float) -> float:
        return statistic(rows, share)

    return float(brentq(at, low, high))  # type: ignore[arg-type]


if __name__ == "__main__":
    print(coevolve_table(), other_table(), sep="\n\n")
    for name in ("quadratic less persistence", "the same, answer noise .03"):
        print(f"{name}: changes its sign at r = {sign_change(COEVOLVE[name], 0.05, 0.6):.3f}")
