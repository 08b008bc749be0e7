"""Closed forms of divided loyalty against enumeration in plain Python."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mores.envs.strategic import principal_agent_values as values
from mores.envs.strategic.principal_agent_values import FeedbackRule, Visibility

RULE = FeedbackRule(
    customer_weight=1.3,
    principal_weight=0.7,
    own_weight=0.4,
    audit_probability=0.3,
    audits_unread_sales=False,
    false_rationale_penalty=0.8,
    commission=0.2,
)


def enumerated(task: dict[str, np.ndarray], rule: FeedbackRule, must_be_true: bool) -> np.ndarray:
    """Expected feedback `[answer, rationale]`: every audit outcome, by its probability."""
    customer, principals, own = task["customer"], task["principals"], task["own"]
    legal = [k for k in range(len(customer)) if task["affordable"][k]]
    interests = [customer, principals.mean(0), own]
    best = [max(legal, key=lambda k, u=u: (u[k], -k)) for u in interests]
    result = np.full((len(customer) + 1, 4), -np.inf)
    result[-1, 3] = 0.0
    c_act, c_reads, p_act, p_reads = task["visible"]
    for k, r in itertools.product(legal, range(4)):
        false = r < 3 and best[r] != k
        if false and must_be_true:
            continue

        def rating(u, sees, reads, false=false, r=r, k=k):
            if sees:
                return u[k] - rule.false_rationale_penalty * reads * false
            if reads:
                return u[best[r]] if r < 3 else float(np.mean([u[j] for j in legal]))
            return 0.0

        total = rule.own_weight * own[k] + rule.commission * task["price"][k]
        total += rule.customer_weight * rating(customer, c_act, c_reads)
        q = rule.audit_probability if p_reads or rule.audits_unread_sales else 0.0
        for u in principals:
            for audited, p in ((1, q), (0, 1 - q)):
                share = rule.principal_weight / len(principals)
                total += p * share * rating(u, max(p_act, audited), p_reads)
        result[k, r] = total
    return result


def random_task(rng: np.random.Generator, num_products: int, num_principals: int) -> dict:
    affordable = rng.random(num_products) < 0.7
    affordable[rng.integers(num_products)] = True
    return {
        "customer": rng.normal(size=num_products),
        "principals": rng.normal(size=(num_principals, num_products)),
        "own": rng.normal(size=num_products),
        "price": rng.random(num_products),
        "affordable": affordable,
        "visible": rng.integers(0, 2, 4),
    }


@pytest.mark.parametrize(("num_products", "num_principals"), [(2, 1), (4, 3)])
@pytest.mark.parametrize("unread", [False, True])
@pytest.mark.parametrize("must_be_true", [False, True])
def test_expected_feedback_equals_enumeration(num_products, num_principals, unread, must_be_true):
    rng = np.random.default_rng(num_products)
    rule = FeedbackRule(**{**vars(RULE), "audits_unread_sales": unread})
    tasks = [random_task(rng, num_products, num_principals) for _ in range(40)]
    expected = np.stack([enumerated(task, rule, must_be_true) for task in tasks])
    arrays = {name: torch.from_numpy(np.stack([t[name] for t in tasks])) for name in tasks[0]}
    found = values.expected_feedback(
        arrays["customer"],
        arrays["principals"],
        arrays["own"],
        arrays["price"],
        arrays["affordable"],
        Visibility(*arrays["visible"].double().unbind(-1)),
        rule,
        must_be_true,
    )
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    answer, rationale, value = values.optimal_answer(found)
    np.testing.assert_allclose(value, expected.max((1, 2)), atol=1e-12)
    chosen = expected[np.arange(40), answer.numpy(), rationale.numpy()]
    np.testing.assert_allclose(chosen, value, atol=1e-12)


def best_by_interest(audit_probability: float, c: float, gain: float, penalty: float) -> tuple:
    """Best expected feedback with the customer's, and with the principal's product."""
    task = {
        "customer": np.array([c, 0.0]),
        "principals": np.array([[0.0, gain]]),
        "own": np.zeros(2),
        "price": np.ones(2),
        "affordable": np.array([True, True]),
        "visible": (1, 0, 0, 1),
    }
    rule = FeedbackRule(1.0, 1.0, 0.0, audit_probability, False, penalty, 0.0)
    feedback = enumerated(task, rule, must_be_true=False)
    return feedback[0].max(), feedback[1].max()


def test_audit_threshold_is_where_the_enumerated_optimum_changes():
    rng = np.random.default_rng(1)
    kinds = set()
    for _ in range(300):
        c, gain, penalty = rng.uniform(0.05, 2, 3)
        threshold = float(values.audit_threshold(torch.tensor(c), torch.tensor(gain), penalty))
        lie, silence = c / (gain + penalty), 2 * c / gain - 1
        kinds.add("never" if threshold > 1 else "lie" if lie > silence else "silence")
        for q in (threshold - 1e-3, threshold + 1e-3):
            if 0 <= q <= 1:
                customer, principal = best_by_interest(q, c, gain, penalty)
                assert (customer > principal) == (q < threshold)
        if threshold > 1:
            customer, principal = best_by_interest(1.0, c, gain, penalty)
            assert customer > principal
    assert kinds == {"never", "lie", "silence"}


def test_logit_choice_and_weighted_interests():
    customer, principal = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    own, reads = torch.tensor([0.5, 0.5]), torch.ones(())
    utility = values.weighted_interests(
        customer, principal, own, 0 * reads, reads, (1.0, 0.5, 2.0), (9.0, 1.0)
    )
    assert utility.tolist() == [2.0, 3.0]
    legal = torch.tensor([True, True])
    probability = values.logit_choice(utility, legal, 2.0)
    assert probability[1].item() == pytest.approx(1 / (1 + math.exp(-2.0)))
    legal = torch.tensor([True, False])
    assert values.logit_choice(utility, legal, 2.0).tolist() == [1.0, 0.0]


def test_best_product_of_equal_ones_is_the_first_affordable():
    utility = torch.tensor([3.0, 1.0, 1.0])
    affordable = torch.tensor([False, True, True])
    assert values.best_products(utility, affordable).item() == 1
