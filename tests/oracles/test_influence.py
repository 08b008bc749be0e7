"""The eight notions against enumeration, against value iteration, and through the environment."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mores.envs.influence.alignment_objectives import (
    ALIGNMENT_OBJECTIVES,
    optimal_action_sequences,
    solve,
)
from mores.envs.influence.dr_mdp import DRMDP
from mores.envs.influence.person_dr_mdp import (
    PersonDRMDP,
    inverse_cdf,
    quantile_coupling,
    susceptibility_threshold,
)
from tests.refusals import refused

TOY = DRMDP().person_dr_mdp(1.0)
N, C = 0, 1


# --- the two tastes, from the definitions ------------------------------------------------------


def judged(horizon: int) -> dict[tuple[int, ...], dict[str, float]]:
    """Every sequence of actions, by every sum: influence converts, to be left alone cures."""
    worth = [[1.0, -1.0], [1.0, 3.0]]
    found = {}
    for acts in itertools.product((0, 1), repeat=horizon):
        tastes = [N, *acts]  # in the next round one has the taste of what was just done
        found[acts] = {
            "real_time": sum(worth[t][a] for t, a in zip(tastes, acts, strict=False)),
            "final": sum(worth[tastes[-1]][a] for a in acts),
            "initial": sum(worth[N][a] for a in acts),
            "natural_shift": sum(worth[N][a] for a in acts),  # left alone, one stays N
            "privileged": sum(worth[N][a] for a in acts),
            "other ideal": sum(worth[C][a] for a in acts),
            "natural": all(t == N for t in tastes),
        }
    return found


def best_by(found: dict, name: str, among: set | None = None) -> tuple[float, set]:
    open_now = set(found) if among is None else among
    top = max(found[acts][name] for acts in open_now)
    return top, {acts for acts in open_now if found[acts][name] == top}


@pytest.mark.parametrize("horizon", range(1, 8))
def test_two_tastes_by_enumeration(horizon: int) -> None:
    found = judged(horizon)
    expected = {
        name: best_by(found, name)
        for name in ("real_time", "final", "initial", "natural_shift", "privileged")
    }
    natural = {acts for acts in found if found[acts]["natural"]}
    expected["constrained"] = best_by(found, "real_time", natural)

    eyes = {acts: (row["privileged"], row["other ideal"]) for acts, row in found.items()}
    nothing = eyes[(0,) * horizon]
    fine = {acts for acts, seen in eyes.items() if np.all(np.array(seen) >= nothing)}
    efficient = {
        acts
        for acts in fine
        if not any(np.all(np.array(eyes[b]) >= eyes[acts]) and eyes[b] != eyes[acts] for b in fine)
    }
    expected["pareto"] = (np.mean(nothing), efficient)

    greedy, taste = [], N
    for _ in range(horizon):
        greedy.append(int(-1 > 1 if taste == N else 3 > 1))
        taste = greedy[-1]
    expected["myopic"] = (found[tuple(greedy)]["real_time"], {tuple(greedy)})

    assert set(expected) == set(ALIGNMENT_OBJECTIVES)
    for notion, (value, best) in expected.items():
        assert solve(TOY, notion, horizon).value == pytest.approx(value, abs=1e-12), notion
        assert set(optimal_action_sequences(TOY, notion, horizon)) == best, notion
    value, best = best_by(found, "other ideal")
    assert solve(TOY, "privileged", horizon, privileged_preference=C).value == pytest.approx(value)
    assert set(optimal_action_sequences(TOY, "privileged", horizon, C)) == best


def test_two_tastes_in_figures() -> None:
    """Figures known beforehand: the switch of real time at a horizon of 3, and the other seven."""
    nothing, always = (0,) * 5, (1,) * 5
    assert [solve(TOY, "real_time", t).value for t in (1, 2, 3, 5)] == [1, 2, 5, 11]
    assert list(optimal_action_sequences(TOY, "real_time", 1)) == [(0,)]
    assert list(optimal_action_sequences(TOY, "real_time", 2)) == [(0, 0), (1, 1)]
    for horizon in range(3, 9):
        assert list(optimal_action_sequences(TOY, "real_time", horizon)) == [(1,) * horizon]
        assert solve(TOY, "real_time", horizon).value == 3 * (horizon - 1) - 1
    assert (solve(TOY, "final", 5).value, list(optimal_action_sequences(TOY, "final", 5))) == (
        15,
        [always],
    )
    for notion in ("initial", "natural_shift", "constrained", "privileged", "myopic", "pareto"):
        assert (solve(TOY, notion, 5).value, list(optimal_action_sequences(TOY, notion, 5))) == (
            5,
            [nothing],
        )
    assert list(optimal_action_sequences(TOY, "privileged", 5, privileged_preference=C)) == [always]
    with refused("unsupported", path="model"):
        optimal_action_sequences(DRMDP().person_dr_mdp(0.5), "final", 5)


# --- people left to chance: every policy, and value iteration ----------------------------------


def drawn(seed: int, tastes: int = 2, nature: bool = True) -> PersonDRMDP:
    """A person whose probabilities are quarters, so that four chance numbers stand for all."""
    rng = np.random.default_rng(seed)

    def row() -> tuple[float, ...]:
        return tuple((rng.multinomial(4, np.ones(tastes) / tastes) / 4).tolist())

    natural = tuple(row() for _ in range(tastes))
    if not nature:
        natural = tuple(tuple(float(i == j) for i in range(tastes)) for j in range(tastes))
    influenced = tuple(natural[i] if rng.random() < 0.3 else row() for i in range(tastes))
    rewards = tuple(tuple(rng.integers(-3, 4, 2).astype(float).tolist()) for _ in range(tastes))
    takes = float(rng.integers(0, 5) / 4)
    return PersonDRMDP(rewards, natural, influenced, takes, row())


def outcomes(model: PersonDRMDP, nature: int, taste: int, action: int) -> dict:
    """Next (nature, taste) and their probability, by playing all chance numbers through."""
    found: dict[tuple[int, int], float] = {}
    middles = [(i + 0.5) / 4 for i in range(4)]

    def follow(row: tuple[float, ...], u: float) -> int:
        return next(i for i in range(len(row)) if u < sum(row[: i + 1]))

    for u, v in itertools.product(middles, middles):
        away = action == 1 and v < model.susceptibility
        rows = model.influenced_transitions if away else model.natural_transitions
        after = follow(model.natural_transitions[nature], u), follow(rows[taste], u)
        found[after] = found.get(after, 0.0) + 1 / 16
    return found


def by_every_policy(model: PersonDRMDP, horizon: int, notion: str, sees_nature: bool) -> float:
    """The best of all deterministic policies of the history that is seen."""
    tastes, worth = model.num_preferences, model.reward_matrix
    total = 0.0
    for first, share in enumerate(model.initial_distribution):
        if not share:
            continue
        kinds = [(n, c) if sees_nature else c for n in range(tastes) for c in range(tastes)]
        kinds = list(dict.fromkeys(kinds))
        begun = (first, first) if sees_nature else first
        seen = [(begun, *h) for t in range(horizon) for h in itertools.product(kinds, repeat=t)]
        top = -math.inf
        for choice in itertools.product((0, 1), repeat=len(seen)):
            policy = dict(zip(seen, choice, strict=True))
            # (history seen, nature, taste, influences, sum) and probability
            paths = {((begun,), first, first, 0, 0.0): 1.0}
            fine = True
            for _ in range(horizon):
                following: dict[tuple, float] = {}
                for (past, n, c, count, earned), p in paths.items():
                    a = policy[past]
                    eyes = {"initial": first, "natural_shift": n, "privileged": 0}.get(notion, c)
                    for (n2, c2), q in outcomes(model, n, c, a).items():
                        fine &= notion != "constrained" or n2 == c2
                        past2 = (*past, (n2, c2) if sees_nature else c2)
                        key = (past2, n2, c2, count + a, earned + worth[eyes, a])
                        following[key] = following.get(key, 0.0) + p * q
                paths = following
            if notion == "final":
                value = sum(
                    p * (k * worth[c, 1] + (horizon - k) * worth[c, 0])
                    for (_, _, c, k, _), p in paths.items()
                )
            else:
                value = sum(p * earned for (*_, earned), p in paths.items())
            top = max(top, value) if fine else top
        total += share * top
    return total


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "notion", ["real_time", "final", "initial", "natural_shift", "privileged", "constrained"]
)
def test_no_policy_of_two_rounds_does_better(seed: int, notion: str) -> None:
    model = drawn(seed)
    best = by_every_policy(model, 2, notion, sees_nature=True)
    assert solve(model, notion, 2).value == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("notion", ["real_time", "final"])
def test_no_policy_of_three_rounds_does_better(seed: int, notion: str) -> None:
    model = drawn(seed + 100)
    best = by_every_policy(model, 3, notion, sees_nature=False)
    assert solve(model, notion, 3).value == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("notion", ["real_time", "final"])
def test_value_iteration_on_explicit_matrices(seed: int, notion: str) -> None:
    """A state is (round, taste, influences); the last round's states keep to themselves."""
    rng = np.random.default_rng(seed)
    tastes, horizon = 3, 5
    rows = rng.dirichlet(np.ones(tastes), (2, tastes)).tolist()
    model = PersonDRMDP(
        tuple(map(tuple, rng.normal(size=(tastes, 2)).tolist())),
        tuple(map(tuple, rows[0])),
        tuple(map(tuple, rows[1])),
        float(rng.uniform()),
        tuple(rng.dirichlet(np.ones(tastes)).tolist()),
    )
    places = list(itertools.product(range(horizon + 1), range(tastes), range(horizon + 1)))
    number = {place: i for i, place in enumerate(places)}
    matrix, pay = np.zeros((2, len(places), len(places))), np.zeros((len(places), 2))
    for (t, c, k), i in number.items():
        for a in (0, 1):
            if t == horizon or k + a > horizon:
                matrix[a, i, i] = 1.0
                continue
            takes = model.susceptibility * a
            for after in range(tastes):
                p = (
                    takes * model.influenced_transitions[c][after]
                    + (1 - takes) * model.natural_transitions[c][after]
                )
                matrix[a, i, number[t + 1, after, k + a]] = p
                if notion == "final" and t == horizon - 1:
                    done = k + a
                    one, other = model.rewards[after]
                    pay[i, a] += p * (done * other + (horizon - done) * one)
            if notion == "real_time":
                pay[i, a] = model.rewards[c][a]
    value = np.zeros(len(places))
    for _ in range(horizon + 1):
        worth = pay + np.stack([matrix[a] @ value for a in (0, 1)], 1)
        value = worth.max(1)
    solution = solve(model, notion, horizon)
    start = sum(p * value[number[0, c, 0]] for c, p in enumerate(model.initial_distribution))
    assert solution.value == pytest.approx(start, abs=1e-9)
    chosen = np.broadcast_to(
        solution.optimal_actions[:, 0, 0], (horizon, tastes, horizon + 1, 2)
    )  # first and nature do not matter
    for (t, c, k), i in number.items():
        if t < horizon and k <= t:
            assert chosen[t, c, k].tolist() == (worth[i] >= worth[i].max() - 1e-9).tolist()


@pytest.mark.parametrize("seed", range(40))
def test_unambiguously_desirable_policies(seed: int) -> None:
    """Against all sequences, and a thousand policies that leave their number to chance."""
    rng = np.random.default_rng(seed)
    worth = rng.integers(-1, 2, (int(rng.integers(2, 4)), 2)).astype(float)
    horizon = 4
    tastes = len(worth)
    stay = tuple(tuple(float(i == j) for i in range(tastes)) for j in range(tastes))
    model = PersonDRMDP(tuple(map(tuple, worth.tolist())), stay, stay, 1.0, stay[0])
    counts = np.concatenate([np.arange(horizon + 1.0), rng.uniform(0, horizon, 1000)])
    seen = counts[:, None] * worth[:, 1] + (horizon - counts[:, None]) * worth[:, 0]
    fine = seen[(seen >= seen[0] - 1e-9).all(1)]
    efficient = [
        row
        for row in seen[: horizon + 1]
        if (row >= seen[0] - 1e-9).all()
        and not ((fine >= row - 1e-9).all(1) & (fine > row + 1e-9).any(1)).any()
    ]
    found = {
        tuple(sum(acts) * worth[:, 1] + (horizon - sum(acts)) * worth[:, 0])
        for acts in optimal_action_sequences(model, "pareto", horizon)
    }
    assert found == {tuple(row) for row in efficient}


@pytest.mark.parametrize("seed", range(20))
def test_coupling_is_what_the_environment_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.multinomial(64, np.ones(3) / 3, 2) / 64
    u = torch.arange(0.5, 64) / 64
    zero = torch.zeros(1, 64, dtype=torch.int64)
    first = inverse_cdf(u[None], zero, (tuple(one.tolist()),))[0]
    second = inverse_cdf(u[None], zero, (tuple(other.tolist()),))[0]
    counted = np.zeros((3, 3))
    np.add.at(counted, (first.numpy(), second.numpy()), 1 / 64)
    assert quantile_coupling(one.tolist(), other.tolist()) == pytest.approx(counted, abs=1e-12)


# --- the switch ---------------------------------------------------------------------------------


def test_the_switch_in_closed_form() -> None:
    assert susceptibility_threshold(2.0, 2.0, 1) == math.inf
    assert susceptibility_threshold(2.0, 2.0, 2) == 1.0
    assert susceptibility_threshold(2.0, 2.0, 3) == pytest.approx((math.sqrt(5) - 1) / 2, abs=1e-12)
    assert susceptibility_threshold(2.0, 2.0, 4) == pytest.approx(0.5436890126920764, abs=1e-12)
    assert susceptibility_threshold(2.0, 2.0, 200) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(("cost", "gain"), [(2.0, 2.0), (1.0, 3.0), (5.0, 1.5)])
def test_the_switch_is_where_the_solver_has_it(cost: float, gain: float) -> None:
    game = DRMDP(rewards=((1.0, 1.0 - cost), (0.5, 1.0 + gain)))
    for horizon in range(1, 9):
        switch = susceptibility_threshold(cost, gain, horizon)
        for takes in {0.05 * i for i in range(1, 21)} | {switch - 1e-6, switch + 1e-6}:
            if not 0 <= takes <= 1 or abs(takes - switch) < 1e-7:
                continue
            best = solve(game.person_dr_mdp(takes), "real_time", horizon).optimal_actions[
                0, 0, 0, 0, 0
            ]
            assert best.tolist() == ([False, True] if takes > switch else [True, False])
