"""Look-ahead against brute force on small trees; re-ranking where there is nothing ahead."""

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
    """What is seen is how many acts were done and which: `(count, number in base 3)`.

    Every node has log-probabilities of its own, every leaf a worth.
    """

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(DEPTH + 1, OPTIONS**DEPTH, OPTIONS, generator=generator)
        self.logp = logits.log_softmax(-1)
        self.worth = torch.rand(OPTIONS ** (DEPTH + 1), generator=generator)
        self.asked: list[int] = []

    def policy(self, seen: Tensor) -> Tensor:
        self.asked.append(len(seen))
        return self.logp[seen[:, 0].long(), seen[:, 1].long() % OPTIONS**DEPTH]

    def after(self, seen: Tensor, action: Tensor) -> Tensor:
        return torch.stack([seen[..., 0] + 1, seen[..., 1] * OPTIONS + action], -1)

    def heuristic(self, seen: Tensor) -> Tensor:
        return self.worth[seen[..., 1].long()]


def by_hand(tree: Tree, seen: list[int], ahead: int, k: int, weight: float) -> int:
    """The definition, for one seat."""
    count, number = seen
    logp = tree.logp[count, number]
    scores = {}
    for a in sorted(range(OPTIONS), key=lambda a: -float(logp[a]))[:k]:
        there = number * OPTIONS + a
        for step in range(ahead):
            there = there * OPTIONS + int(tree.logp[count + 1 + step, there].argmax())
        scores[a] = float(logp[a] + weight * tree.worth[there])
    return max(scores, key=scores.__getitem__)


@hypothesis.settings(max_examples=50)
@hypothesis.given(st.integers(0, 10**6), st.integers(0, 2), st.integers(1, 4), st.floats(0, 20))
def test_look_ahead_is_its_definition(seed: int, ahead: int, k: int, weight: float) -> None:
    tree = Tree(seed)
    seen = [[0, 0], [1, 0], [1, 1], [1, 2], [0, 0], [1, 1]]
    chosen = lookahead(
        torch.tensor(seen).float().view(2, 3, 2),
        tree.policy,
        tree.after,
        tree.heuristic,
        depth=ahead,
        num_candidates=k,
        weight=weight,
    )
    expected = [by_hand(tree, one, ahead, min(k, OPTIONS), weight) for one in seen]
    assert chosen.shape == (2, 3) and chosen.flatten().tolist() == expected
    # all candidates of all seats are asked about at once, however many
    assert tree.asked == [6] + [6 * min(k, OPTIONS)] * ahead


def test_all_options_to_the_end_find_the_best_leaf() -> None:
    """A policy that knows the best way everywhere but at the root, whose favourite is the worst."""
    for seed in range(20):
        tree = Tree(seed)
        best = tree.worth[: OPTIONS**DEPTH].view([OPTIONS] * DEPTH)
        for depth in range(DEPTH - 1, 0, -1):
            value = best if depth == DEPTH - 1 else best.amax(tuple(range(depth + 1, DEPTH)))
            value = value.reshape(OPTIONS**depth, OPTIONS)
            tree.logp[depth, : OPTIONS**depth] = (100 * value).log_softmax(-1)
        first = best.amax((1, 2, 3))
        tree.logp[0, 0] = (-5 * first).log_softmax(-1)

        def decide(k: int, weight: float, tree: Tree = tree) -> int:
            root = torch.zeros(1, 2)
            sight = (tree.policy, tree.after, tree.heuristic)
            return int(lookahead(root, *sight, depth=DEPTH - 1, num_candidates=k, weight=weight))

        leaves = {
            path: float(best[path]) for path in itertools.product(range(OPTIONS), repeat=DEPTH)
        }
        optimum = max(leaves, key=leaves.__getitem__)
        assert decide(OPTIONS, 1e4) == optimum[0]
        assert decide(1, 1e4) == decide(OPTIONS, 0.0) == int(first.argmin())


def bandit(seed: int = 0, people: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities and worths of one act of many people, and what they see: (who, act)."""
    generator = torch.Generator().manual_seed(seed)
    logp = torch.randn(people, 4, generator=generator).log_softmax(-1)
    worth = torch.randn(people, 4, generator=generator)
    return logp, worth, torch.stack([torch.arange(people), torch.zeros(people)], -1)


def decide(logp: Tensor, worth: Tensor, seen: Tensor, **settings) -> Tensor:
    return lookahead(
        seen,
        lambda sight: logp[sight[:, 0].long()],
        lambda sight, action: torch.stack([sight[:, 0], action], -1),
        lambda sight: worth[sight[..., 0].long(), sight[..., 1].long()],
        depth=0,
        **settings,
    )


def test_one_act_episodes_are_re_ranked() -> None:
    """With nothing ahead: the best by log P + w h, with a weight for every person."""
    logp, worth, seen = bandit()
    weight = torch.linspace(0, 3, 50)
    chosen = decide(logp, worth, seen, candidates=4, weight=weight)
    assert torch.equal(chosen, best_of_n(logp + weight[:, None] * worth))
    assert torch.equal(decide(logp, worth, seen, candidates=1, weight=9.0), logp.argmax(-1))
    two = logp.topk(2).indices
    second = worth.gather(1, two).argmax(-1)
    chosen = decide(logp, worth, seen, candidates=2, weight=1e6)
    assert torch.equal(chosen, two.gather(1, second[:, None])[:, 0])


def test_closed_options_are_not_taken() -> None:
    logp, worth, seen = bandit()
    legal = torch.rand(50, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    legal[:, 2] |= ~legal.any(-1)
    for weight in (0.0, 1.0, 1e9):
        chosen = decide(logp, worth, seen, candidates=4, weight=weight, legal=legal)
        assert legal.gather(1, chosen[:, None]).all()
        best = torch.where(legal, logp.double() + weight * worth.double(), -torch.inf)
        assert torch.equal(chosen, best.argmax(-1))


def test_seats_do_not_meet() -> None:
    """A broken policy or a worth that cannot be told decides at its own seat only."""
    logp, worth, seen = bandit()
    well = decide(logp, worth, seen, candidates=4)
    logp[3], worth[4] = torch.nan, torch.nan
    worth[5, int(well[5])] = torch.nan
    sick = decide(logp, worth, seen, candidates=4)
    others = torch.tensor([n not in (3, 4, 5) for n in range(50)])
    assert torch.equal(sick[others], well[others])
    assert sick[4] == logp[4].argmax()  # greedy where nothing is known of what follows
    assert sick[5] != well[5]
    worth[6, logp[6].argmax()] = torch.inf
    assert decide(logp, worth, seen, candidates=4, weight=0.0)[6] == logp[6].argmax()


def test_equals_go_to_the_first() -> None:
    logp, worth = torch.full((2, 4), 0.25).log(), torch.ones(2, 4)
    seen = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    for k in range(1, 5):
        assert decide(logp, worth, seen, candidates=k).tolist() == [0, 0]


def test_bad_input() -> None:
    logp, worth, seen = bandit()
    with refused("out_of_range", path="candidates"):
        decide(logp, worth, seen, candidates=0)
    with refused("out_of_range", path="ahead"):
        lookahead(seen, len, len, len, depth=-1, num_candidates=1)


def test_best_of() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0], [torch.nan, -torch.inf, -5.0], [torch.nan] * 3])
    assert best_of_n(scores).tolist() == [1, 2, 0]
    assert best_of_n(scores[0]).tolist() == 1
    with refused("wrong_shape", path="scores"):
        best_of_n(torch.zeros(2, 0))
