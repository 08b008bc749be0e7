"""Conversations of `principal_agent`: a task, an answer, a rationale, and what each party sees."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mores.core.spaces import Box
from mores.envs.strategic import principal_agent_values as values
from mores.envs.strategic.principal_agent_tasks import Sales, TaskDistribution
from mores.envs.strategic.principal_agent_values import NEUTRAL, RATIONALES, Visibility

VISIBILITY = ("customer_act", "customer_rationale", "principal_act", "principal_rationale")
CONDITIONS = ("both", "principal_only", "customer_only", "neither")  # who reads the rationale
CUSTOMER_READS, PRINCIPAL_READS = (1.0, 0.0, 1.0, 0.0), (1.0, 1.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Conversation:
    """A round of every conversation, so far.

    Attributes:
        sales: the tasks.
        visible: who sees act and rationale, 1 or 0: `VISIBILITY`.
        choice: index of the product; `num_products`: no answer, or none yet.
        rationale: index in `RATIONALES`; neutral without an answer.
        refused, unparsable: why there is no answer.
        audited: whether each principal audits, 1 or 0.
        rated_choice, rated_rationale: answer and rationale that the parties rate: those of the
            agent, unless ratings are independent of it.
    """

    sales: Sales
    visible: Float[Tensor, "world sale 4"]
    choice: Int[Tensor, "world sale"]
    rationale: Int[Tensor, "world sale"]
    refused: Bool[Tensor, "world sale"]
    unparsable: Bool[Tensor, "world sale"]
    audited: Float[Tensor, "world sale principal"]
    rated_choice: Int[Tensor, "world sale"]
    rated_rationale: Int[Tensor, "world sale"]

    @staticmethod
    def start(sales: Sales, visible: Float[Tensor, "world sale 4"]) -> Conversation:
        """Conversations without an answer."""
        shape, device = sales.budget.shape, sales.budget.device
        none = torch.full(shape, sales.price.shape[-1], dtype=torch.int64, device=device)
        neutral = torch.full_like(none, NEUTRAL)
        no = torch.zeros(shape, dtype=torch.bool, device=device)
        audited = torch.zeros_like(sales.principal_utility[..., 0])
        return Conversation(sales, visible, none, neutral, no, no, audited, none, neutral)

    @property
    def answered(self) -> Bool[Tensor, "world sale"]:
        """Conversations with an answer: a product."""
        return self.choice < self.sales.price.shape[-1]

    @property
    def visibility(self) -> Visibility:
        """Who sees act and rationale."""
        return Visibility(*self.visible.unbind(-1))

    @property
    def condition(self) -> Int[Tensor, "world sale"]:
        """Index in `CONDITIONS` of who reads the rationale."""
        seen = self.visibility
        return (3 - 2 * seen.principal_rationale - seen.customer_rationale).round().long()

    @property
    def best(self) -> Int[Tensor, "world sale interest"]:
        """Best affordable product of each interest."""
        sales = self.sales
        utilities = (sales.customer_utility, sales.principal_utility, sales.own_utility)
        return values.best_of_interests(*utilities, sales.affordable)

    def is_false(self) -> Bool[Tensor, "world sale"]:
        """Whether the rationale names an interest that another product serves best."""
        return _is_false(self.best, self.choice, self.rationale)

    def true_rationales(self) -> Bool[Tensor, "world sale rationale"]:
        """Rationales that are true of the answer; without an answer the neutral one alone."""
        named = self.best == self.choice[..., None]
        return torch.cat([named, torch.ones_like(named[..., :1])], -1)

    def judged_utilities(
        self, penalty: float
    ) -> tuple[Float[Tensor, "world sale"], Float[Tensor, "world sale principal"]]:
        """Utility of what the customer and each principal see; 0 without an answer."""
        seen, sales, best = self.visibility, self.sales, self.best
        false = _is_false(best, self.rated_choice, self.rated_rationale)

        def judge(utility: Tensor, sees_act: Tensor, reads: Tensor) -> Tensor:
            implied = values.implied_utility(utility, best, sales.affordable)
            implied = implied.gather(-1, self.rated_rationale[..., None])[..., 0]
            by_act = utility_of(utility, self.rated_choice) - penalty * reads * false.to(reads)
            judged = torch.where(sees_act > 0, by_act, torch.where(reads > 0, implied, 0.0))
            return torch.where(self.rated_choice < utility.shape[-1], judged, 0.0)

        customer = judge(sales.customer_utility, seen.customer_act, seen.customer_rationale)
        principals = [
            judge(
                sales.principal_utility[:, :, m],
                torch.maximum(seen.principal_act, self.audited[..., m]),
                seen.principal_rationale,
            )
            for m in range(self.audited.shape[-1])
        ]
        return customer, torch.stack(principals, -1)


def utility_of(
    utility: Float[Tensor, "world sale product"], choice: Int[Tensor, "world sale"]
) -> Float[Tensor, "world sale"]:
    """Utility of the chosen product; 0 without an answer."""
    padded = torch.cat([utility, torch.zeros_like(utility[..., :1])], -1)
    return padded.gather(-1, choice[..., None])[..., 0]


def _is_false(
    best: Int[Tensor, "world sale interest"],
    choice: Int[Tensor, "world sale"],
    rationale: Int[Tensor, "world sale"],
) -> Bool[Tensor, "world sale"]:
    named = best.gather(-1, rationale.clamp(max=NEUTRAL - 1)[..., None])[..., 0]
    return (rationale != NEUTRAL) & (named != choice)


def agent_observation(
    space: Box, conversation: Conversation, tasks: TaskDistribution, has_chosen: bool
) -> Float[Tensor, "world sale size"]:
    """Observation of an agent, before or after its choice."""
    sales = conversation.sales
    num_products = sales.price.shape[-1]
    choice = functional.one_hot(conversation.choice, num_products + 1).to(sales.price.dtype)
    true = conversation.true_rationales().to(sales.price.dtype)
    parts = {
        "customer_utility": sales.customer_utility,
        "principal_utility": sales.principal_utility.flatten(2),
        "own_utility": sales.own_utility,
        "harmful": sales.harmful,
        "price": sales.price,
        "budget": sales.budget[..., None],
        "task_features": tasks.features(sales.task_class),
        "visible": conversation.visible,
        "choice": choice if has_chosen else torch.zeros_like(choice),
        "true_rationales": true if has_chosen else torch.zeros_like(true),
    }
    return space.join(**{name: parts[name] for name in space.parts})


def choice_mask(sales: Sales) -> Bool[Tensor, "world sale answer"]:
    """Legal answers: affordable products, and a refusal."""
    affordable = sales.affordable
    return torch.cat([affordable, torch.ones_like(affordable[..., :1])], -1)


def rationale_mask(
    conversation: Conversation, must_be_true: bool
) -> Bool[Tensor, "world sale rationale"]:
    """Legal rationales: all, or the true ones; without an answer the neutral one."""
    true = conversation.true_rationales()
    if must_be_true:
        return true
    neutral = torch.arange(len(RATIONALES), device=true.device) == NEUTRAL
    return conversation.answered[..., None] | neutral
