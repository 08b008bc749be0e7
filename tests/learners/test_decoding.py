"""Lookahead against enumeration of small trees; re-ranking of single actions."""

from __future__ import annotations

import itertools

import hypothesis
import hypothesis.strategies as st
import torch
from torch import Tensor

from mores.agents.learning.decoding import best_of_n, lookahead
from tests.refusals import refused

OPTIONS, DEPTH = 3, 4


class Tree:
    """Random log-probabilities and values. Observation: `(number of actions, base-3 digits)`."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(DEPTH + 1, OPTIONS**DEPTH, OPTIONS, generator=generator)
        self.logp = logits.log_softmax(-1)
        self.values = torch.rand(OPTIONS ** (DEPTH + 1), generator=generator)
        self.num_rows: list[int] = []  # of each evaluation of the policy

    def policy(self, observation: Tensor) -> Tensor:
        self.num_rows.append(len(observation))
        return self.logp[observation[:, 0].long(), observation[:, 1].long() % OPTIONS**DEPTH]

    def model(self, observation: Tensor, action: Tensor) -> Tensor:
        return torch.stack([observation[..., 0] + 1, observation[..., 1] * OPTIONS + action], -1)

    def heuristic(self, observation: Tensor) -> Tensor:
        return self.values[observation[..., 1].long()]


def expected_action(tree: Tree, node: list[int], depth: int, k: int, weight: float) -> int:
    """The action of one agent, from the definition."""
    count, number = node
    logp = tree.logp[count, number]
    scores = {}
    for a in sorted(range(OPTIONS), key=lambda a: -float(logp[a]))[:k]:
        leaf = number * OPTIONS + a
        for step in range(depth):
            leaf = leaf * OPTIONS + int(tree.logp[count + 1 + step, leaf].argmax())
        scores[a] = float(logp[a] + weight * tree.values[leaf])
    return max(scores, key=scores.__getitem__)


@hypothesis.settings(max_examples=50)
@hypothesis.given(st.integers(0, 10**6), st.integers(0, 2), st.integers(1, 4), st.floats(0, 20))
def test_lookahead_equals_its_definition(seed: int, depth: int, k: int, weight: float) -> None:
    tree = Tree(seed)
    nodes = [[0, 0], [1, 0], [1, 1], [1, 2], [0, 0], [1, 1]]
    action = lookahead(
        torch.tensor(nodes).float().view(2, 3, 2),
        tree.policy,
        tree.model,
        tree.heuristic,
        depth=depth,
        num_candidates=k,
        weight=weight,
    )
    expected = [expected_action(tree, node, depth, min(k, OPTIONS), weight) for node in nodes]
    assert action.shape == (2, 3) and action.flatten().tolist() == expected
    # One evaluation for the candidates of all agents.
    assert tree.num_rows == [6] + [6 * min(k, OPTIONS)] * depth


def test_full_search_finds_the_best_leaf() -> None:
    """The policy is optimal at every node but the root, where it prefers the worst option."""
    for seed in range(20):
        tree = Tree(seed)
        best = tree.values[: OPTIONS**DEPTH].view([OPTIONS] * DEPTH)
        for depth in range(DEPTH - 1, 0, -1):
            value = best if depth == DEPTH - 1 else best.amax(tuple(range(depth + 1, DEPTH)))
            value = value.reshape(OPTIONS**depth, OPTIONS)
            tree.logp[depth, : OPTIONS**depth] = (100 * value).log_softmax(-1)
        first = best.amax((1, 2, 3))
        tree.logp[0, 0] = (-5 * first).log_softmax(-1)

        def choose(k: int, weight: float, tree: Tree = tree) -> int:
            root, functions = torch.zeros(1, 2), (tree.policy, tree.model, tree.heuristic)
            last = DEPTH - 1
            return int(lookahead(root, *functions, depth=last, num_candidates=k, weight=weight))

        leaves = {
            path: float(best[path]) for path in itertools.product(range(OPTIONS), repeat=DEPTH)
        }
        optimum = max(leaves, key=leaves.__getitem__)
        assert choose(OPTIONS, 1e4) == optimum[0]
        assert choose(1, 1e4) == choose(OPTIONS, 0.0) == int(first.argmin())


def bandit(seed: int = 0, agents: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities and values of one action per agent; observations (agent, action)."""
    generator = torch.Generator().manual_seed(seed)
    logp = torch.randn(agents, 4, generator=generator).log_softmax(-1)
    values = torch.randn(agents, 4, generator=generator)
    return logp, values, torch.stack([torch.arange(agents), torch.zeros(agents)], -1)


def choose(logp: Tensor, values: Tensor, observation: Tensor, k: int = 4, **settings) -> Tensor:
    return lookahead(
        observation,
        lambda obs: logp[obs[:, 0].long()],
        lambda obs, action: torch.stack([obs[:, 0], action], -1),
        lambda obs: values[obs[..., 0].long(), obs[..., 1].long()],
        depth=0,
        num_candidates=k,
        **settings,
    )


def test_single_actions_are_re_ranked() -> None:
    """At depth 0: the best by log P + w h, with a weight for every agent."""
    logp, values, observation = bandit()
    weight = torch.linspace(0, 3, 50)
    action = choose(logp, values, observation, weight=weight)
    assert torch.equal(action, best_of_n(logp + weight[:, None] * values))
    assert torch.equal(choose(logp, values, observation, k=1, weight=9.0), logp.argmax(-1))
    likeliest = logp.topk(2).indices
    best = values.gather(1, likeliest).argmax(-1)
    action = choose(logp, values, observation, k=2, weight=1e6)
    assert torch.equal(action, likeliest.gather(1, best[:, None])[:, 0])


def test_illegal_options_are_not_taken() -> None:
    logp, values, observation = bandit()
    legal = torch.rand(50, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    legal[:, 2] |= ~legal.any(-1)
    for weight in (0.0, 1.0, 1e9):
        action = choose(logp, values, observation, weight=weight, action_mask=legal)
        assert legal.gather(1, action[:, None]).all()
        best = torch.where(legal, logp.double() + weight * values.double(), -torch.inf)
        assert torch.equal(action, best.argmax(-1))


def test_agents_are_independent() -> None:
    """NaN in log-probabilities or values affects the action of that agent only."""
    logp, values, observation = bandit()
    healthy = choose(logp, values, observation)
    logp[3], values[4] = torch.nan, torch.nan
    values[5, int(healthy[5])] = torch.nan
    faulty = choose(logp, values, observation)
    others = torch.tensor([n not in (3, 4, 5) for n in range(50)])
    assert torch.equal(faulty[others], healthy[others])
    assert faulty[4] == logp[4].argmax()  # greedy if all values are NaN
    assert faulty[5] != healthy[5]
    values[6, logp[6].argmax()] = torch.inf
    assert choose(logp, values, observation, weight=0.0)[6] == logp[6].argmax()


def test_the_first_of_equal_options_is_taken() -> None:
    logp, values = torch.full((2, 4), 0.25).log(), torch.ones(2, 4)
    observation = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    for k in range(1, 5):
        assert choose(logp, values, observation, k=k).tolist() == [0, 0]


def test_bad_input() -> None:
    logp, values, observation = bandit()
    with refused("out_of_range", path="num_candidates"):
        choose(logp, values, observation, k=0)
    with refused("out_of_range", path="depth"):
        lookahead(observation, len, len, len, depth=-1, num_candidates=1)


def test_best_of_n() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0], [torch.nan, -torch.inf, -5.0], [torch.nan] * 3])
    assert best_of_n(scores).tolist() == [1, 2, 0]
    assert best_of_n(scores[0]).tolist() == 1
    with refused("wrong_shape", path="scores"):
        best_of_n(torch.zeros(2, 0))
