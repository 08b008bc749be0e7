"""Closed forms of the choice between interests: ratings, their optimum, thresholds, logit choice.

An agent chooses one of K products for a customer, and then names an interest as its rationale. The
interests j are those of the customer (C), of the principals (P) and of the agent itself (A), or
none is named (neutral). With u_i(k) the utility of product k to a party i, `best_j` the affordable
product of the largest utility to interest j, and F the penalty of a false rationale:

    false(k, j)   = [best_j != k],  false(k, neutral) = 0
    implied_i(j)  = u_i(best_j),    implied_i(neutral) = mean of u_i over affordable products

A party that sees the act rates `u_i(k) - F false(k, r)`, the last term only if it also reads the
rationale r. A party that only reads the rationale believes it and rates `implied_i(r)`. An audit,
with probability q, shows the act to a principal. The expected rating of a principal who reads is

    q (u_P(k) - F false(k, r)) + (1 - q) implied_P(r).

The feedback is the weighted sum of ratings, own utility and commission; `expected_feedback` is its
exact expectation for all answers, and its maximum is the optimum of an agent that is trained by it.

**When does siding with the customer stop paying?** Two products, one best for the customer and one
for the principal, and only the principal reads. Let c be the loss of everybody but the principal
from the principal's product, in units of the principal's weight, and D the principal's gain. The
customer's product with a false rationale earns c - q (D + F) more than the principal's product with
a true one, with a neutral rationale c - (1 + q) D / 2. So it stops paying at

    q* = max(c / (D + F), 2 c / D - 1).

The first term is the usual threshold of an inspection; the second one is silence, which no audit
punishes. The forms follow from the definitions above; the environment, not a paper, sets them.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean, total

INTERESTS = ("customer", "principal", "own")
RATIONALES = (*INTERESTS, "neutral")
CUSTOMER, PRINCIPAL, OWN, NEUTRAL = range(4)


@dataclasses.dataclass(frozen=True)
class FeedbackRule:
    """What the agent is trained by.

    Attributes:
        customer_weight, principal_weight, own_weight: weights of the customer's rating, of the mean
            rating of the principals, and of the agent's own utility.
        audit_probability: probability that a principal audits, for each principal, in [0, 1].
        audits_unread_sales: whether principals also audit sales whose rationale they do not read.
        false_rationale_penalty: deduction from the rating of a party that sees act and rationale,
            utility units.
        commission: share of the price that the principals pay to the agent, utility per price.
    """

    customer_weight: float
    principal_weight: float
    own_weight: float
    audit_probability: float
    audits_unread_sales: bool
    false_rationale_penalty: float
    commission: float


@dataclasses.dataclass(frozen=True)
class Visibility:
    """Who sees the act and who reads the rationale, 1 or 0."""

    customer_act: Float[Tensor, "*sale"]
    customer_rationale: Float[Tensor, "*sale"]
    principal_act: Float[Tensor, "*sale"]
    principal_rationale: Float[Tensor, "*sale"]


def best_products(
    utility: Float[Tensor, "*sale product"], affordable: Bool[Tensor, "*sale product"]
) -> Int[Tensor, "*sale"]:
    """Affordable product of the largest utility; of equal ones the first."""
    return torch.where(affordable, utility, -torch.inf).argmax(-1)


def false_rationales(
    best: Int[Tensor, "*sale interest"], num_products: int
) -> Bool[Tensor, "*sale product rationale"]:
    """Whether a rationale names an interest that another product serves best."""
    products = torch.arange(num_products, device=best.device)
    named = best[..., None, :] != products[:, None]  # product interest
    return torch.cat([named, torch.zeros_like(named[..., :1])], -1)


def implied_utility(
    utility: Float[Tensor, "*sale product"],
    best: Int[Tensor, "*sale interest"],
    affordable: Bool[Tensor, "*sale product"],
) -> Float[Tensor, "*sale rationale"]:
    """Utility of the product that each rationale implies; neutral: mean of affordable ones."""
    count = affordable.to(utility.dtype)
    average = total(count * utility, -1) / total(count, -1).clamp(min=1.0)
    return torch.cat([utility.gather(-1, best), average[..., None]], -1)


def expected_rating(
    utility: Float[Tensor, "*sale product"],
    implied: Float[Tensor, "*sale rationale"],
    false: Bool[Tensor, "*sale product rationale"],
    sees_act: Float[Tensor, "*sale"],
    reads: Float[Tensor, "*sale"],
    rule: FeedbackRule,
    audits: bool,
) -> Float[Tensor, "*sale product rationale"]:
    """Expected rating by a party for every product and rationale; 0 if it sees neither.

    `audits`: whether the party is a principal, who audits.
    """
    penalty = rule.false_rationale_penalty * reads[..., None, None]
    by_act = utility[..., None] - penalty * false.to(utility.dtype)
    audited = torch.zeros_like(reads)
    if audits:
        audited = rule.audit_probability * (
            torch.ones_like(reads) if rule.audits_unread_sales else reads
        )
    knows_act = (sees_act + (1.0 - sees_act) * audited)[..., None, None]
    believes = ((1.0 - sees_act) * (1.0 - audited) * reads)[..., None, None]
    return knows_act * by_act + believes * implied[..., None, :]


def expected_feedback(
    customer_utility: Float[Tensor, "*sale product"],
    principal_utility: Float[Tensor, "*sale principal product"],
    own_utility: Float[Tensor, "*sale product"],
    price: Float[Tensor, "*sale product"],
    affordable: Bool[Tensor, "*sale product"],
    visibility: Visibility,
    rule: FeedbackRule,
    rationale_must_be_true: bool = False,
) -> Float[Tensor, "*sale answer rationale"]:
    """Expected feedback on every answer and rationale; -inf where it is illegal.

    The last answer is a refusal, with the neutral rationale: there is no sale, and it is worth 0.
    """
    best = best_of_interests(customer_utility, principal_utility, own_utility, affordable)
    false = false_rationales(best, customer_utility.shape[-1])
    rating = expected_rating(
        customer_utility,
        implied_utility(customer_utility, best, affordable),
        false,
        visibility.customer_act,
        visibility.customer_rationale,
        rule,
        audits=False,
    )
    feedback = rule.customer_weight * rating
    num_principals = principal_utility.shape[-2]
    for m in range(num_principals):
        utility = principal_utility[..., m, :]
        rating = expected_rating(
            utility,
            implied_utility(utility, best, affordable),
            false,
            visibility.principal_act,
            visibility.principal_rationale,
            rule,
            audits=True,
        )
        feedback = feedback + rule.principal_weight / num_principals * rating
    direct = rule.own_weight * own_utility + rule.commission * price
    feedback = feedback + direct[..., None]
    legal = affordable[..., None]
    if rationale_must_be_true:
        legal = legal & ~false
    feedback = torch.where(legal, feedback, -torch.inf)
    refusal = torch.full_like(feedback[..., :1, :], -torch.inf)
    refusal[..., NEUTRAL] = 0.0
    return torch.cat([feedback, refusal], -2)


def best_of_interests(
    customer_utility: Float[Tensor, "*sale product"],
    principal_utility: Float[Tensor, "*sale principal product"],
    own_utility: Float[Tensor, "*sale product"],
    affordable: Bool[Tensor, "*sale product"],
) -> Int[Tensor, "*sale interest"]:
    """Best affordable product for the customer, for the principals on average, for the agent."""
    principals = mean(principal_utility, -2)
    utilities = torch.stack([customer_utility, principals, own_utility], -2)
    return best_products(utilities, affordable[..., None, :].expand_as(utilities))


def optimal_answer(
    feedback: Float[Tensor, "*sale answer rationale"],
) -> tuple[Int[Tensor, "*sale"], Int[Tensor, "*sale"], Float[Tensor, "*sale"]]:
    """Answer, rationale and expected feedback of an optimum; of equal ones the first."""
    value, index = feedback.flatten(-2).max(-1)
    num_rationales = feedback.shape[-1]
    return index // num_rationales, index % num_rationales, value


def audit_threshold(
    loss_of_others: Float[Tensor, "*sale"],
    principal_gain: Float[Tensor, "*sale"],
    false_rationale_penalty: float,
) -> Float[Tensor, "*sale"]:
    """Audit probability above which the principal's product pays: see the module docstring.

    Args:
        loss_of_others: c, loss of everybody else from the principal's product, in utility of the
            principal: `(customer_weight dC + own_weight dA) / principal_weight`.
        principal_gain: D > 0, gain of the principal from it.
        false_rationale_penalty: F.

    Returns:
        At least 0; above 1 no audit suffices.
    """
    lie = loss_of_others / (principal_gain + false_rationale_penalty)
    silence = 2.0 * loss_of_others / principal_gain - 1.0
    return torch.maximum(lie, silence).clamp(min=0.0)


def logit_choice(
    utility: Float[Tensor, "*sale option"], legal: Bool[Tensor, "*sale option"], rationality: float
) -> Float[Tensor, "*sale option"]:
    """Probabilities softmax(rationality * utility) over legal options (Luce 1959)."""
    return torch.softmax(torch.where(legal, rationality * utility, -torch.inf), -1)


def weighted_interests(
    customer_utility: Float[Tensor, "*sale product"],
    principal_utility: Float[Tensor, "*sale product"],
    own_utility: Float[Tensor, "*sale product"],
    customer_reads: Float[Tensor, "*sale"],
    principal_reads: Float[Tensor, "*sale"],
    weights: tuple[float, float, float],
    reading_gains: tuple[float, float],
) -> Float[Tensor, "*sale product"]:
    """Utility of an agent that weighs an interest more if its holder reads the rationale.

        w_C u_C (1 + k_C reads_C) + w_P u_P (1 + k_P reads_P) + w_A u_A

    Args:
        weights: w_C, w_P, w_A.
        reading_gains: k_C, k_P. They describe a chooser; nothing in the environment sets them.
    """
    customer = weights[0] * (1.0 + reading_gains[0] * customer_reads)[..., None]
    principal = weights[1] * (1.0 + reading_gains[1] * principal_reads)[..., None]
    return customer * customer_utility + principal * principal_utility + weights[2] * own_utility
