"""Twenty rounds of every environment: states, observations, actions, rewards, metrics, feedback."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch

from mores.agents.channels.choices import BoltzmannChoice, BradleyTerryChoice
from mores.agents.channels.noisy_rating import NoisyRating
from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.people.anes96 import Anes96Population
from mores.agents.people.annotator import Annotator
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
from mores.envs.dynamics.trait_state import TraitStateDynamics
from mores.envs.dynamics.trust import Trust
from mores.envs.feedback.pairwise_preferences import PairwisePreferences
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.envs.influence.alignment_objectives import ALIGNMENT_OBJECTIVES
from mores.envs.influence.dr_mdp import DRMDP
from mores.envs.influence.dr_mdp_planner import DRMDPPlanner
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.lock_in import LockIn
from mores.envs.opinion.panel import Advocate, Panel, TruthfulAnswer
from mores.envs.strategic.matrix_game import ImitateLast, MatrixGame
from mores.envs.strategic.moral_hazard import BestResponseAgent, FixedSharePrincipal, MoralHazard
from mores.registry import make_environment
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulator import Simulator
from tests.golden.entries import Entry, entry

WORLDS = Worlds.grid(2, 2)
ROUNDS = 20
GRAPH = {"kind": "homophily", "degree": 3, "homophily_scale": 0.3, "peer_weight": 0.1}


def cases() -> Iterator[tuple[str, Environment[Any], dict[str, Policy], Any]]:
    """Name, environment, policies by role, population."""
    yield from _coevolution()
    yield "panel", Panel(num_people=7), {"person": TruthfulAnswer()}, None
    yield (
        "panel/conversation",
        Panel(num_people=8, conversation_round=4, wave_interval=3),
        {"person": TruthfulAnswer(), "assistant": Advocate()},
        None,
    )
    for objective in ALIGNMENT_OBJECTIVES:
        environment = DRMDP(num_people=4, objective=objective, susceptibility=0.5)
        yield f"dr_mdp/{objective}", environment, {}, None
    yield "dr_mdp/planner", DRMDP(num_people=4, horizon=6), {"assistant": DRMDPPlanner()}, None
    yield "lock_in", LockIn(num_people=5), {}, None
    yield "lock_in/two", LockIn(num_people=5, num_assistants=2, prior_precision=1.0), {}, None
    yield from _matrix_game()
    yield "token_feedback", TokenFeedback(), {}, None
    yield (
        "token_feedback/principals",
        TokenFeedback(num_principals=3, conflict=0.9, principal_weights=(1, 1, 1)),
        {},
        None,
    )
    errors = (0.05, 0.45)
    yield (
        "token_feedback/review",
        TokenFeedback(
            num_completions=4, review=True, choice=BradleyTerryChoice(annotator_error_rates=errors)
        ),
        {},
        None,
    )
    yield "pairwise_preferences", PairwisePreferences(num_people=5), {}, None
    annotator = {
        "person": Annotator(
            choice=BoltzmannChoice(rationality=2.0, flip_probability=0.2),
            rating=NoisyRating(noise_std=0.5),
        )
    }
    yield (
        "pairwise_preferences/ratings",
        PairwisePreferences(num_people=5, collect_ratings=True),
        annotator,
        None,
    )
    yield "moral_hazard", MoralHazard(), {}, None
    scripted = {"principal": FixedSharePrincipal(offered_share=0.4), "agent": BestResponseAgent()}
    yield "moral_hazard/scripted", MoralHazard(num_agents=4), scripted, None
    yield from _strategic()
    for kind, environment in EVERY.items():
        yield (
            f"{kind}/random",
            environment,
            {role.name: UniformRandom() for role in environment.roles},
            None,
        )


CONTRACT_GAMES = (
    *("cheap_talk", "inspection", "limited_commitment", "limited_liability"),
    *("linear", "off_switch", "screening"),
)
PROTOCOLS = ("audit_and_edit", "auditor", "calibrated_monitoring", "defer_to_resample")
EVERY: dict[str, Environment[Any]] = {
    "coevolution": Coevolution(human="idealised", num_people=6),
    "panel": Panel(num_people=6),
    "dr_mdp": DRMDP(num_people=6),
    "lock_in": LockIn(num_people=6),
    "matrix_game": MatrixGame(tremble_probability=0.3),
    "token_feedback": TokenFeedback(),
    "pairwise_preferences": PairwisePreferences(num_people=6),
    "moral_hazard": MoralHazard(),
}


def _coevolution() -> Iterator[tuple[str, Environment[Any], dict[str, Policy], Any]]:
    environment = Coevolution(
        human="idealised", num_people=7, noise_std=0.1, history=History(drift=0.02, noise_std=0.01)
    )
    yield "coevolution", environment, {}, None
    assistants: dict[str, Policy] = {
        "mirror": Mirror(learning_rate=0.3),
        "linear_trend": LinearTrend(learning_rate=0.3, forecast_horizon=3),
        "persuader": Persuader(goal=(0.6, 0.0), goal_weight=0.5),
        "silent": Silent(),
        "lifelong": Lifelong(),
        "static": Static(),
        "persistence": Persistence(),
        "extrapolative": Extrapolative(),
    }
    for name, policy in assistants.items():
        yield f"coevolution/{name}", environment, {"assistant": policy}, None
    for challenge in ("follow", "predict", "coevolve"):
        challenged = Coevolution(human="idealised", num_people=3, challenge=challenge)  # type: ignore[arg-type]
        yield f"coevolution/{challenge}", challenged, {"assistant": Lifelong()}, None
    observing = Coevolution(
        human="idealised", num_people=2, challenge="predict", observe_target=True
    )
    yield "coevolution/oracle", observing, {"assistant": Oracle()}, None
    trait_state = TraitStateDynamics(
        half_life=0.5, retained_share=0.39, volatility=0.25, volatility_heterogeneity=1.06
    )
    respondent = SurveyRespondent(noise_std=0.25, low=-1.0, high=1.0)
    full = Coevolution(
        human="idealised",
        num_people=12,
        num_assistants=2,
        trait_state=trait_state,
        trust=Trust(learning_rate=0.1),
        cohorts=Cohorts(turnover=0.1, mutation_std=0.1),
        peers={"rule": "degroot", "graph": GRAPH},
    )
    yield "coevolution/full", full, {"person": respondent, "assistant": Mirror()}, None
    karate = Coevolution(
        human="idealised",
        num_people=34,
        num_assistants=0,
        peers={"rule": "friedkin_johnsen", "graph": "karate_club"},
    )
    yield "coevolution/karate", karate, {}, None
    population = NormalPopulation(num_people=9, num_values=2)
    yield "coevolution/normal", Coevolution(human="idealised", num_people=9), {}, population
    voters = Coevolution(
        human="idealised", num_people=944, trait_state=trait_state, peers=full.peers
    )
    yield (
        "coevolution/anes96",
        voters,
        {"person": respondent},
        Anes96Population(resample=True, reliability=0.59),
    )


def _strategic() -> Iterator[tuple[str, Environment[Any], dict[str, Policy], Any]]:
    for game in CONTRACT_GAMES:
        yield f"contracts/{game}", make_environment("contracts", game={"kind": game}), {}, None
    for protocol in PROTOCOLS:
        control = make_environment("control", protocol={"kind": protocol}, num_people=3)
        yield f"control/{protocol}", control, {}, None
    for kind in ("biased_users", "principal_agent", "weak_to_strong", "welfare_game"):
        environment = make_environment(kind)
        yield kind, environment, {}, None
        random = {role.name: UniformRandom() for role in environment.roles}
        yield f"{kind}/random", environment, random, None


def _matrix_game() -> Iterator[tuple[str, Environment[Any], dict[str, Policy], Any]]:
    dilemma = MatrixGame(tremble_probability=0.1, continuation_probability=0.9)
    yield "matrix_game", dilemma, {}, None
    yield "matrix_game/imitate_last", dilemma, {"player": ImitateLast()}, None
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
    yield "matrix_game/per_agent", dilemma, {"player": pair}, None


def entries(every: int = 1) -> Iterator[tuple[str, Entry]]:
    """Every tensor of every case, or of one case in `every`, by its path."""
    for name, environment, policies, population in itertools.islice(cases(), 0, None, every):
        for path, tensor in simulated_tensors(environment, policies, population):
            yield f"environment/{name}/{path}", entry(tensor)


def simulated_tensors(
    environment: Environment[Any], policies: dict[str, Policy], population: Any
) -> Iterator[tuple[str, torch.Tensor]]:
    """Twenty rounds in episodes of twelve: state, metrics, and what each role recorded."""
    roles = [role.name for role in environment.roles]
    recorder = EpisodeRecorder(roles)
    policies = {**environment.default_policies(), **policies}
    simulator = Simulator(
        environment, policies, {}, WORLDS, 12, "same_step", population, recorder=recorder
    )
    simulator.reset(3)
    metrics: dict[str, list[torch.Tensor]] = {}
    for _ in range(ROUNDS):
        simulator.step()
        for name, value in environment.metrics(simulator.state).items():
            metrics.setdefault(name, []).append(value)
    for path, tensor in pytree.flatten(simulator.state).items():
        yield f"state/{path}", tensor
    for name, values in metrics.items():
        yield f"metric/{name}", torch.stack(values, 1)
    for name, tensor in environment.latent(simulator.state).items():
        yield f"latent/{name}", tensor
    for role in roles:
        dataset = recorder.dataset(role)
        for phase, tensor in dataset.observation.items():
            yield f"{role}/{phase}/observation", tensor
        for phase, tensor in dataset.action.items():
            yield f"{role}/{phase}/action", tensor
        for phase, tensor in dataset.action_mask.items():
            yield f"{role}/{phase}/mask", tensor
        if dataset.reward is not None:
            yield f"{role}/reward", dataset.reward
        for name, tensor in dataset.feedback.items():
            yield f"{role}/feedback/{name}", tensor
