"""The estimate of `benchmarks.language_coupling` where its ratio is known."""

from __future__ import annotations

import torch

from benchmarks.language_coupling import draw, variance_ratios

ROUNDS, REPLICATES, PERSONAS, DRAWS = 2, 60, 3, 20


def test_ratio_of_variances():
    """y = shared + own noise: (2 a + 2 b) / 2 b, with and without a draw of the rating's own."""
    generator = torch.Generator().manual_seed(1)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    text = normal(ROUNDS, REPLICATES, PERSONAS, 1)
    own = [0.5 * normal(ROUNDS, REPLICATES, PERSONAS, DRAWS) for _ in range(2)]
    level = torch.arange(PERSONAS).double()[:, None]  # personas differ, which is no variance
    ratios = variance_ratios(level + text + own[0], level + text + own[1], 200, 0)
    assert ratios.shape == (ROUNDS, 201)
    low, high = torch.tensor(ratios[:, 1:]).quantile(torch.tensor([0.025, 0.975]).double(), dim=1)
    assert ((low < 5.0) & (high > 5.0)).all()  # (1 + 0.25) / 0.25
    constant = torch.ones(ROUNDS, REPLICATES, PERSONAS, 1, dtype=torch.float64)
    assert torch.tensor(variance_ratios(constant, constant, 2, 0)).isnan().all()


def test_drawn_ratings_have_their_probabilities_and_share_their_numbers():
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15]).double()
    expanded = probabilities.expand(ROUNDS, REPLICATES, PERSONAS, 5)
    for is_ordered in (True, False):
        ratings = draw(expanded, is_ordered, DRAWS, 5)
        shares = torch.bincount(ratings.flatten().long(), minlength=6)[1:] / ratings.numel()
        error = (probabilities * (1 - probabilities) / ratings.numel()).sqrt()
        assert ((shares - probabilities).abs() < 5 * error).all()
        assert torch.equal(ratings, draw(expanded, is_ordered, DRAWS, 5))
