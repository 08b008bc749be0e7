"""Twenty rounds of every environment: states, observations, actions, rewards, metrics, feedback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mores.agents.composite.per_agent import Cast
from mores.agents.people.anes96 import Anes96
from mores.agents.people.boltzmann_annotator import Chooser
from mores.agents.people.normal import Normal
from mores.agents.people.survey_respondent import Respondent
from mores.agents.scripted.assistants import LookAhead, Mirror, Persuade, Silent
from mores.agents.scripted.progressgym import Extrapolative, Lifelong, Oracle, Persistence, Static
from mores.agents.scripted.repeated_game import Strategy
from mores.agents.scripted.uniform_random import Anyhow
from mores.core import pytree
from mores.core.environment import Game, Player
from mores.core.random_streams import Worlds
from mores.envs.dynamics.cohorts import Cohorts
from mores.envs.dynamics.history import History
from mores.envs.dynamics.peers import Peers
from mores.envs.dynamics.trait_state import Settled
from mores.envs.dynamics.trust import Trust
from mores.envs.feedback.pairwise_preferences import Pairs
from mores.envs.feedback.token_feedback import Requests
from mores.envs.influence.alignment_objectives import NOTIONS
from mores.envs.influence.dr_mdp import Influence
from mores.envs.influence.dr_mdp_planner import Planner
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.lock_in import LockIn
from mores.envs.opinion.panel import Advocate, Panel
from mores.envs.strategic.matrix_game import Copy, MatrixGame
from mores.envs.strategic.moral_hazard import CarefulAgent, Commission, FairPrincipal
from mores.sim.episode_dataset import Diary
from mores.sim.simulator import Table
from tests.golden.entries import Entry, entry

WORLDS = Worlds.grid(2, 2)
ROUNDS = 20


def cases() -> Iterator[tuple[str, Game[Any], dict[str, Player], Any]]:
    """Name, environment, policies by role, population."""
    yield from _coevolution()
    yield "panel", Panel(people=7), {}, None
    yield "panel/talk", Panel(people=8, conversation=4, every=3), {"assistant": Advocate()}, None
    for objective in NOTIONS:
        game = Influence(people=4, objective=objective, susceptibility=0.5)
        yield f"influence/{objective}", game, {}, None
    yield "influence/planner", Influence(people=4, horizon=6), {"assistant": Planner()}, None
    yield "lock_in", LockIn(people=5), {}, None
    yield "lock_in/two", LockIn(people=5, assistants=2, prior_precision=1.0), {}, None
    yield from _matrix_game()
    yield "requests", Requests(), {}, None
    yield "requests/principals", Requests(principals=3, conflict=0.9, weights=(1, 1, 1)), {}, None
    errors = (0.05, 0.45)
    yield "requests/review", Requests(answers=4, review=True, error_rates=errors), {}, None
    yield "pairs", Pairs(people=5), {}, None
    chooser = {"person": Chooser(rationality=2.0, flip=0.2, rating_noise=0.5)}
    yield "pairs/ratings", Pairs(people=5, ratings=True), chooser, None
    yield "commission", Commission(), {}, None
    scripted = {"principal": FairPrincipal(share=0.4), "agent": CarefulAgent()}
    yield "commission/scripted", Commission(agents=4), scripted, None
    for kind, game in EVERY.items():
        yield f"{kind}/random", game, {role.name: Anyhow() for role in game.roles}, None


EVERY: dict[str, Game[Any]] = {
    "coevolution": Coevolution(people=6),
    "panel": Panel(people=6),
    "influence": Influence(people=6),
    "lock_in": LockIn(people=6),
    "matrix_game": MatrixGame(trembles=0.3),
    "requests": Requests(),
    "pairs": Pairs(people=6),
    "commission": Commission(),
}


def _coevolution() -> Iterator[tuple[str, Game[Any], dict[str, Player], Any]]:
    game = Coevolution(people=7, noise=0.1, history=History(drift=0.02, noise=0.01))
    yield "coevolution", game, {}, None
    assistants: dict[str, Player] = {
        "mirror": Mirror(rate=0.3),
        "look_ahead": LookAhead(rate=0.3, ahead=3),
        "persuade": Persuade(goal=(0.6, 0.0), reach=0.5),
        "silent": Silent(),
        "lifelong": Lifelong(),
        "static": Static(),
        "persistence": Persistence(),
        "extrapolative": Extrapolative(),
    }
    for name, player in assistants.items():
        yield f"coevolution/{name}", game, {"assistant": player}, None
    for challenge in ("follow", "predict", "coevolve"):
        judged = Coevolution(people=3, challenge=challenge)  # type: ignore[arg-type]
        yield f"coevolution/{challenge}", judged, {"assistant": Lifelong()}, None
    seer = Coevolution(people=2, challenge="predict", oracle=True)
    yield "coevolution/oracle", seer, {"assistant": Oracle()}, None
    settled = Settled(half_life=0.5, left=0.39, volatility=0.25, volatility_spread=1.06)
    answers = Respondent(noise=0.25, low=-1.0, high=1.0)
    full = Coevolution(
        people=12,
        assistants=2,
        person=settled,
        trust=Trust(rate=0.1),
        cohorts=Cohorts(turnover=0.1, mutation=0.1),
        peers=Peers(rule="degroot", ties=3, closeness=0.3, listening=0.1),
    )
    yield "coevolution/full", full, {"person": answers, "assistant": Mirror()}, None
    karate = Coevolution(
        people=34, assistants=0, peers=Peers(rule="friedkin_johnsen", network="karate")
    )
    yield "coevolution/karate", karate, {}, None
    camps = Normal(count=9, values=2)
    yield "coevolution/normal", Coevolution(people=9), {}, camps
    voters = Coevolution(people=944, person=settled, peers=full.peers)
    yield "coevolution/anes96", voters, {"person": answers}, Anes96(resample=True, reliability=0.59)


def _matrix_game() -> Iterator[tuple[str, Game[Any], dict[str, Player], Any]]:
    dilemma = MatrixGame(trembles=0.1, continuation=0.9)
    yield "matrix_game", dilemma, {}, None
    yield "matrix_game/copy", dilemma, {"player": Copy()}, None
    names = ("tit_for_tat", "grudger", "win_stay_lose_shift", "generous_tit_for_tat")
    for name in names:
        yield f"matrix_game/{name}", dilemma, {"player": Strategy(name=name, noise=0.1)}, None
    goods = MatrixGame(payoffs="public_goods", agents=4, levels=3)
    yield "matrix_game/public_goods", goods, {}, None
    pair = Cast.model_validate(
        {"seats": [{"kind": "strategy", "name": "tit_for_tat", "noise": 0.2}, {"kind": "anyhow"}]}
    )
    yield "matrix_game/cast", dilemma, {"player": pair}, None


def entries() -> Iterator[tuple[str, Entry]]:
    """Every tensor of every case, by its path."""
    for name, game, players, people in cases():
        for path, tensor in played(game, players, people):
            yield f"environment/{name}/{path}", entry(tensor)


def played(
    game: Game[Any], players: dict[str, Player], people: Any
) -> Iterator[tuple[str, torch.Tensor]]:
    """Play twenty rounds, episodes of twelve; all that anybody saw, did, earned, was told."""
    roles = [role.name for role in game.roles]
    diary = Diary(roles)
    policies = {**game.baseline(), **players}
    table = Table(game, policies, {}, WORLDS, 12, True, people, diary=diary)
    table.reset(3)
    metrics: dict[str, list[torch.Tensor]] = {}
    for _ in range(ROUNDS):
        table.step()
        for name, value in game.measures(table.state).items():
            metrics.setdefault(name, []).append(value)
    for path, tensor in pytree.flatten(table.state).items():
        yield f"state/{path}", tensor
    for name, values in metrics.items():
        yield f"metric/{name}", torch.stack(values, 1)
    for name, tensor in game.hidden(table.state).items():
        yield f"latent/{name}", tensor
    for role in roles:
        lived = diary.experience(role)
        for phase, tensor in lived.seen.items():
            yield f"{role}/{phase}/observation", tensor
        for phase, tensor in lived.acted.items():
            yield f"{role}/{phase}/action", tensor
        for phase, tensor in lived.legal.items():
            yield f"{role}/{phase}/mask", tensor
        if lived.reward is not None:
            yield f"{role}/reward", lived.reward
        for name, tensor in lived.feedback.items():
            yield f"{role}/feedback/{name}", tensor
