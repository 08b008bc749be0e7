"""ProgressGym's challenges: how well an assistant keeps up with history, and its people with it.

Follow: say where history is. Predict: say where it will be `ahead` rounds on. Coevolve: advise
people whom history and the assistant both move; judged is where the people go. A challenge sets
defaults of the environment, what an assistant may see besides, the end, and the scores; all else is
as in any other game. With v_0 ... v_n the rows of history, u_t what the assistant says in round t
and s_t the people's centre after it, the original scores (Qiu et al. 2024, the judges' own
formulas: those of the repository's older `metric.py` differ) are

    follow    mean over t of cos(u_t, v_t),        t = 1 ... n
    predict   mean over t of cos(u_t, v_{t+k}),    t = 1 ... n - k
    coevolve  mean over all s_t (s_0 included) and all i of max over j >= i of cos(s_t, v_j)

Cosines of vectors without negative parts are all near 1. So with them go two centred figures, with
x_t for u_t or s_t, and w_t for what it is held against (v_t, v_{t+k}; v_t in coevolve):

    skill           1 - sum_t |x_t - w_t|^2 / sum_t |v_0 - w_t|^2
    centred cosine  sum_t (x_t - v_0).(w_t - v_0) / (sum_t |x_t - v_0|^2 sum_t |w_t - v_0|^2)^.5

1 is perfect; skill 0 is as good as staying at v_0. They sum over rounds before they divide, as
skill scores of forecasts do (Murphy 1988, Mon. Weather Rev. 116, 2417), since history may come by
v_0. What is undefined is nan: the centred cosine of staying at v_0, a score before the first round.

In coevolve the repository finetunes the people's proxy for one epoch on history, then for two on
the assistant. If an epoch covers the share r of the way, these are pulls of 1 - (1 - r) and
1 - (1 - r)^2. No r is published: r = .3 is a choice of mores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean, norm, total
from mores.core.environment import Box, Part
from mores.core.errors import ParameterError
from mores.envs.dynamics.history import History

Challenge = Literal["none", "follow", "predict", "coevolve"]
EPOCH_SHARE = 0.3  # share of the way that an epoch of finetuning covers


@dataclasses.dataclass(frozen=True)
class ChallengeRecord:
    """What was judged so far: by rounds completed, 0 to the last; zero where still to come."""

    mean_value: Float[Tensor, "world round value"]  # the people's centre
    advice: Float[Tensor, "world round assistant value"]  # what each assistant said


def fill_defaults(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """An environment's parameters with those that a table or a challenge brings, if not given.

    A table brings the number of values, and people who all begin at its first row; a challenge
    brings `progress_by_eye`. In coevolve history and assistants pull by one and two epochs. In
    follow and predict people are history itself: its pull is complete, assistants move nobody.
    """
    challenge, history = parameters.get("challenge", "none"), parameters.get("history", {})
    if isinstance(history, History):
        history = history.model_dump(exclude_unset=True)
    if not isinstance(history, dict) or challenge not in ("none", "follow", "predict", "coevolve"):
        return dict(parameters)  # validation will tell
    brought: dict[str, Any] = {}
    if challenge != "none":
        coevolve = challenge == "coevolve"
        if not history.get("points"):
            history = {"trajectory": "progressgym_digitized", **history}
        history = {"attraction": EPOCH_SHARE if coevolve else 1.0, **history}
        brought["ai_influence"] = round(1.0 - (1.0 - EPOCH_SHARE) ** 2, 12) if coevolve else 0.0
    if history.get("trajectory") or history.get("points"):
        brought["initial_std"] = 0.0
        try:
            course = History(**{n: v for n, v in history.items() if n in ("trajectory", "points")})
            assert course.trajectory_values is not None
            brought["num_values"] = course.trajectory_values.shape[1]
        except ValueError:
            pass  # validation will tell
    return {**brought, **parameters, **({"history": history} if history else {})}


def num_scored_rounds(challenge: Challenge, forecast_horizon: int, history: History) -> int:
    """How many rounds are judged; 0 without a challenge."""
    if challenge == "none" or history.trajectory_values is None:
        return 0
    return len(history.trajectory_values) - 1 - _scoring_delay(challenge, forecast_horizon)


def check_challenge(
    challenge: Challenge,
    forecast_horizon: int,
    history: History,
    num_values: int,
    value_limit: float,
) -> None:
    """Refuse what does not go together.

    Raises:
        ValueError: with what is wrong.
    """
    if challenge != "predict" and forecast_horizon != 1:
        raise ParameterError(
            message="ahead: says nothing but in the challenge predict", code="conflict"
        )
    if history.trajectory_values is None:
        if challenge != "none":
            raise ParameterError(
                message=f"{challenge} needs a history with a table or points", code="missing"
            )
        return
    if history.trajectory_values.shape[1] != num_values:
        raise ParameterError(
            message=f"values: history has {history.trajectory_values.shape[1]}, not {num_values}",
            code="conflict",
        )
    if history.trajectory_values.abs().max() > value_limit:
        raise ParameterError(message="extent: history leaves it", code="conflict")
    if challenge != "none" and num_scored_rounds(challenge, forecast_horizon, history) < 1:
        most = len(history.trajectory_values) - 2
        raise ParameterError(
            message=f"ahead: history has rounds for at most {most}, not {forecast_horizon}",
            code="conflict",
        )


def extra_parts(
    challenge: Challenge, history: History, observe_target: bool, value_part: Part
) -> Mapping[str, Part]:
    """What an assistant sees besides."""
    parts: dict[str, Part] = {}
    if challenge != "none" and history.trajectory_values is not None:
        parts = {"initial_history": value_part, "forecast_horizon": Part(1, 0.0, len(history.trajectory_values) - 1.0)}
    return {**parts, "target": value_part} if observe_target else parts


def extra_observation(
    observation_space: Box,
    challenge: Challenge,
    forecast_horizon: int,
    history: History,
    history_position: Float[Tensor, "world value"],
    rounds_elapsed: Int[Tensor, " world"],
) -> dict[str, Tensor]:
    """Those parts of an assistant's sight that `extra_parts` added."""
    found: dict[str, Tensor] = {}
    if "initial_history" in observation_space.parts:
        found["initial_history"] = history.position_at(torch.zeros_like(rounds_elapsed))[:, None]
        aim = 1.0 if challenge == "coevolve" else float(_scoring_delay(challenge, forecast_horizon))
        found["forecast_horizon"] = torch.full_like(found["initial_history"][..., :1], aim)
    if "target" in observation_space.parts:
        target = history_position
        if history.trajectory_values is not None:
            target = history.position_at(
                rounds_elapsed + _scoring_delay(challenge, forecast_horizon)
            )
        found["target"] = target[:, None]
    return found


def _scoring_delay(challenge: Challenge, forecast_horizon: int) -> int:
    """How many rounds after the assistant spoke it is judged."""
    return forecast_horizon if challenge == "predict" else 0


def initial_record(
    num_rounds: int, values: Float[Tensor, "world agent value"], num_assistants: int
) -> ChallengeRecord | None:
    """Paths at the start; none where nothing is judged."""
    if not num_rounds:
        return None
    people = values.new_zeros(len(values), num_rounds + 1, values.shape[2])
    advice = values.new_zeros(len(values), num_rounds + 1, num_assistants, values.shape[2])
    start = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    return record_round(ChallengeRecord(people, advice), start, values, advice[:, 0])


def record_round(
    record: ChallengeRecord,
    rounds_elapsed: Int[Tensor, " world"],
    values: Float[Tensor, "world agent value"],
    advice: Float[Tensor, "world assistant value"],
) -> ChallengeRecord:
    """Paths with what holds after `rounds_elapsed` rounds."""
    rounds = torch.arange(record.mean_value.shape[1], device=values.device)
    here = rounds == rounds_elapsed[:, None]  # world round
    people = torch.where(here[..., None], mean(values, 1)[:, None], record.mean_value)
    said = torch.where(here[..., None, None], advice[:, None], record.advice)
    return ChallengeRecord(people, said)


class ChallengeScores(NamedTuple):
    """Of each world; nan where undefined."""

    cosine_score: Float[Tensor, " world"]
    skill_score: Float[Tensor, " world"]
    centered_cosine: Float[Tensor, " world"]
    rounds_scored: Float[Tensor, " world"]  # rounds judged so far


def undefined_scores(template: Tensor) -> dict[str, Float[Tensor, " world"]]:
    """Scores where there is no challenge: nan."""
    return dict.fromkeys(ChallengeScores._fields, torch.full_like(template[:, 0], torch.nan))


def challenge_scores(
    challenge: Challenge,
    forecast_horizon: int,
    history: History,
    record: ChallengeRecord,
    rounds_elapsed: Int[Tensor, " world"],
) -> ChallengeScores:
    """The original score and the centred ones, over the rounds judged so far.

    Several assistants are judged one by one, and averaged.
    """
    assert history.trajectory_values is not None
    course = history.trajectory_values.to(rounds_elapsed.device)
    last = record.mean_value.shape[1] - 1
    judged = (
        torch.arange(1, last + 1, device=rounds_elapsed.device) <= rounds_elapsed[:, None]
    )  # world round
    if challenge == "coevolve":
        against, said = course[1:], record.mean_value[:, 1:, None]
        score = _coevolve_score(record.mean_value, course, rounds_elapsed)
    else:
        against, said = (
            course[1 + _scoring_delay(challenge, forecast_horizon) :],
            record.advice[:, 1:],
        )
        each = _masked_sum(judged, cosine_similarity(said, against[:, None]))
        score = mean(each / rounds_elapsed.clamp(max=last)[:, None], 1)
    away, way = said - course[0], (against - course[0])[:, None]
    off = said - against[:, None]
    room = _masked_sum(judged, total(way * way, -1).expand(len(rounds_elapsed), -1, 1))
    skill = 1.0 - _masked_sum(judged, total(off * off, -1)) / room
    along = _masked_sum(judged, total(away * way, -1))
    centred = along / (_masked_sum(judged, total(away * away, -1)) * room).sqrt()
    return ChallengeScores(
        score, mean(skill, 1), mean(centred, 1), total(judged.to(score.dtype), 1)
    )


def _coevolve_score(
    mean_value: Float[Tensor, "world round value"],
    trajectory: Float[Tensor, "row value"],
    rounds_elapsed: Int[Tensor, " world"],
) -> Float[Tensor, " world"]:
    """Mean over simulated vectors and rows i of the best cosine with a row from i on."""
    alike = cosine_similarity(mean_value[:, :, None], trajectory)  # world round row
    best = alike.flip(-1).cummax(-1).values
    so_far = (
        torch.arange(mean_value.shape[1], device=rounds_elapsed.device) <= rounds_elapsed[:, None]
    )
    simulated = (rounds_elapsed + 1).clamp(max=mean_value.shape[1])
    return _masked_sum(so_far, mean(best, -1)[..., None])[:, 0] / simulated


def cosine_similarity(one: Tensor, other: Tensor) -> Tensor:
    """Of the angle between two vectors, over the last dimension."""
    return total(one * other, -1) / (norm(one) * norm(other))


def _masked_sum(
    mask: Bool[Tensor, "world round"], values: Float[Tensor, "world round assistant"]
) -> Float[Tensor, "world assistant"]:
    """Sum over the rounds that are judged."""
    return total(torch.where(mask[..., None], values, 0.0), 1)
