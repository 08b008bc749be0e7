"""Twenty rounds of every environment: states, observations, actions, rewards, metrics, feedback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.people.anes96 import Anes96Population
from mores.agents.people.boltzmann_annotator import BoltzmannAnnotator
from mores.agents.people.normal import NormalPopulation
from mores.agents.people.survey_respondent import SurveyRespondent
from mores.agents.scripted.assistants import LinearTrend, Mirror, Persuader, Silent
from mores.agents.scripted.progressgym import Extrapolative, Lifelong, Oracle, Persistence, Static
from mores.agents.scripted.repeated_game import Strategy
from mores.agents.scripted.uniform_random import UniformRandom
from mores.core import pytree
from mores.core.environment import Environment
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.envs.dynamics.cohorts import Cohorts
from mores.envs.dynamics.history import History
from mores.envs.dynamics.peers import Peers
from mores.envs.dynamics.trait_state import TraitStateDynamics
from mores.envs.dynamics.trust import Trust
from mores.envs.feedback.pairwise_preferences import PairwisePreferences
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.envs.influence.alignment_objectives import ALIGNMENT_OBJECTIVES
from mores.envs.influence.dr_mdp import DRMDP
from mores.envs.influence.dr_mdp_planner import DRMDPPlanner
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.lock_in import LockIn
from mores.envs.opinion.panel import Advocate, Panel
from mores.envs.strategic.matrix_game import ImitateLast, MatrixGame
from mores.envs.strategic.moral_hazard import BestResponseAgent, FixedSharePrincipal, MoralHazard
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulator import Simulator
from tests.golden.entries import Entry, entry

WORLDS = Worlds.grid(2, 2)
ROUNDS = 20


def cases() -> Iterator[tuple[str, Environment[Any], dict[str, Policy], Any]]:
    """Name, environment, policies by role, population."""
    yield from _coevolution()
    yield "panel", Panel(num_people=7), {}, None
    yield (
        "panel/talk",
        Panel(num_people=8, conversation_round=4, wave_interval=3),
        {"assistant": Advocate()},
        None,
    )
    for objective in ALIGNMENT_OBJECTIVES:
        game = DRMDP(num_people=4, objective=objective, susceptibility=0.5)
        yield f"influence/{objective}", game, {}, None
    yield "influence/planner", DRMDP(num_people=4, horizon=6), {"assistant": DRMDPPlanner()}, None
    yield "lock_in", LockIn(num_people=5), {}, None
    yield "lock_in/two", LockIn(num_people=5, num_assistants=2, prior_precision=1.0), {}, None
    yield from _matrix_game()
    yield "requests", TokenFeedback(), {}, None
    yield (
        "requests/principals",
        TokenFeedback(num_principals=3, conflict=0.9, principal_weights=(1, 1, 1)),
        {},
        None,
    )
    errors = (0.05, 0.45)
    yield (
        "requests/review",
        TokenFeedback(num_completions=4, review=True, annotator_error_rates=errors),
        {},
        None,
    )
    yield "pairs", PairwisePreferences(num_people=5), {}, None
    chooser = {
        "person": BoltzmannAnnotator(rationality=2.0, flip_probability=0.2, rating_noise_std=0.5)
    }
    yield "pairs/ratings", PairwisePreferences(num_people=5, collect_ratings=True), chooser, None
    yield "commission", MoralHazard(), {}, None
    scripted = {"principal": FixedSharePrincipal(offered_share=0.4), "agent": BestResponseAgent()}
    yield "commission/scripted", MoralHazard(num_agents=4), scripted, None
    for kind, game in EVERY.items():
        yield f"{kind}/random", game, {role.name: UniformRandom() for role in game.roles}, None


EVERY: dict[str, Environment[Any]] = {
    "coevolution": Coevolution(num_people=6),
    "panel": Panel(num_people=6),
    "influence": DRMDP(num_people=6),
    "lock_in": LockIn(num_people=6),
    "matrix_game": MatrixGame(tremble_probability=0.3),
    "requests": TokenFeedback(),
    "pairs": PairwisePreferences(num_people=6),
    "commission": MoralHazard(),
}


def _coevolution() -> Iterator[tuple[str, Environment[Any], dict[str, Policy], Any]]:
    game = Coevolution(num_people=7, noise_std=0.1, history=History(drift=0.02, noise_std=0.01))
    yield "coevolution", game, {}, None
    assistants: dict[str, Policy] = {
        "mirror": Mirror(learning_rate=0.3),
        "look_ahead": LinearTrend(learning_rate=0.3, forecast_horizon=3),
        "persuade": Persuader(goal=(0.6, 0.0), goal_weight=0.5),
        "silent": Silent(),
        "lifelong": Lifelong(),
        "static": Static(),
        "persistence": Persistence(),
        "extrapolative": Extrapolative(),
    }
    for name, player in assistants.items():
        yield f"coevolution/{name}", game, {"assistant": player}, None
    for challenge in ("follow", "predict", "coevolve"):
        judged = Coevolution(num_people=3, challenge=challenge)  # type: ignore[arg-type]
        yield f"coevolution/{challenge}", judged, {"assistant": Lifelong()}, None
    seer = Coevolution(num_people=2, challenge="predict", observe_target=True)
    yield "coevolution/oracle", seer, {"assistant": Oracle()}, None
    settled = TraitStateDynamics(
        half_life=0.5, retained_share=0.39, volatility=0.25, volatility_heterogeneity=1.06
    )
    answers = SurveyRespondent(noise_std=0.25, low=-1.0, high=1.0)
    full = Coevolution(
        num_people=12,
        num_assistants=2,
        trait_state=settled,
        trust=Trust(learning_rate=0.1),
        cohorts=Cohorts(turnover=0.1, mutation_std=0.1),
        peers=Peers(rule="degroot", degree=3, homophily_scale=0.3, peer_weight=0.1),
    )
    yield "coevolution/full", full, {"person": answers, "assistant": Mirror()}, None
    karate = Coevolution(
        num_people=34, num_assistants=0, peers=Peers(rule="friedkin_johnsen", graph="karate_club")
    )
    yield "coevolution/karate", karate, {}, None
    camps = NormalPopulation(num_people=9, num_values=2)
    yield "coevolution/normal", Coevolution(num_people=9), {}, camps
    voters = Coevolution(num_people=944, trait_state=settled, peers=full.peers)
    yield (
        "coevolution/anes96",
        voters,
        {"person": answers},
        Anes96Population(resample=True, reliability=0.59),
    )


def _matrix_game() -> Iterator[tuple[str, Environment[Any], dict[str, Policy], Any]]:
    dilemma = MatrixGame(tremble_probability=0.1, continuation_probability=0.9)
    yield "matrix_game", dilemma, {}, None
    yield "matrix_game/copy", dilemma, {"player": ImitateLast()}, None
    names = ("tit_for_tat", "grudger", "win_stay_lose_shift", "generous_tit_for_tat")
    for name in names:
        yield (
            f"matrix_game/{name}",
            dilemma,
            {"player": Strategy(name=name, noise_probability=0.1)},
            None,
        )
    goods = MatrixGame(payoffs="public_goods", num_agents=4, num_levels=3)
    yield "matrix_game/public_goods", goods, {}, None
    pair = PerAgentPolicy.model_validate(
        {
            "policies": [
                {"kind": "strategy", "name": "tit_for_tat", "noise_probability": 0.2},
                {"kind": "random"},
            ]
        }
    )
    yield "matrix_game/cast", dilemma, {"player": pair}, None


def entries() -> Iterator[tuple[str, Entry]]:
    """Every tensor of every case, by its path."""
    for name, game, players, people in cases():
        for path, tensor in played(game, players, people):
            yield f"environment/{name}/{path}", entry(tensor)


def played(
    game: Environment[Any], players: dict[str, Policy], people: Any
) -> Iterator[tuple[str, torch.Tensor]]:
    """Play twenty rounds, episodes of twelve; all that anybody saw, did, earned, was told."""
    roles = [role.name for role in game.roles]
    diary = EpisodeRecorder(roles)
    policies = {**game.default_policies(), **players}
    table = Simulator(game, policies, {}, WORLDS, 12, True, people, recorder=diary)
    table.reset(3)
    metrics: dict[str, list[torch.Tensor]] = {}
    for _ in range(ROUNDS):
        table.step()
        for name, value in game.metrics(table.state).items():
            metrics.setdefault(name, []).append(value)
    for path, tensor in pytree.flatten(table.state).items():
        yield f"state/{path}", tensor
    for name, values in metrics.items():
        yield f"metric/{name}", torch.stack(values, 1)
    for name, tensor in game.latent(table.state).items():
        yield f"latent/{name}", tensor
    for role in roles:
        lived = diary.dataset(role)
        for phase, tensor in lived.observation.items():
            yield f"{role}/{phase}/observation", tensor
        for phase, tensor in lived.action.items():
            yield f"{role}/{phase}/action", tensor
        for phase, tensor in lived.action_mask.items():
            yield f"{role}/{phase}/mask", tensor
        if lived.reward is not None:
            yield f"{role}/reward", lived.reward
        for name, tensor in lived.feedback.items():
            yield f"{role}/feedback/{name}", tensor
