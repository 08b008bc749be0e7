"""Divided loyalty: an agent chooses products for customers on behalf of principals.

After Phelps and Ranson 2023 (arXiv 2307.11137): an agent serves a customer, represents a principal
and has a disposition of its own; the treatment is who will read its rationale. Readers also give
feedback, by which the agent is trained: the effect of readers on its choice is learned, not a
parameter. Utilities, feedback and closed forms: `principal_agent_values`; tasks:
`principal_agent_tasks`; exact evaluation: `principal_agent_evaluation`.

Demo: `python -m mores.envs.strategic.principal_agent`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn import functional

from mores.core.deterministic_sum import mean, total
from mores.core.environment import Environment, Phase, PolicyQuery, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.human import Human
from mores.core.people import People
from mores.core.person_parameters import (
    PersonParameter,
    add_parameters,
    person_number,
    person_parameters,
)
from mores.core.plain_text import paragraph, read_parts
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams, uniform_index
from mores.core.spaces import Box, Discrete, Part
from mores.core.turn_text import TurnText
from mores.envs.dynamics.people_dynamics import PeopleDynamics
from mores.envs.dynamics.trait_state import TraitState, TraitStateDynamics
from mores.envs.strategic import principal_agent_evaluation as evaluation
from mores.envs.strategic import principal_agent_turn_text as texts
from mores.envs.strategic.principal_agent_conversation import (
    CONDITIONS,
    CUSTOMER_READS,
    PRINCIPAL_READS,
    Conversation,
    agent_observation,
    choice_mask,
    rationale_mask,
    utility_of,
)
from mores.envs.strategic.principal_agent_tasks import (
    COMMERCIAL,
    FEATURES,
    TABOO,
    TaskClass,
    TaskDistribution,
)
from mores.envs.strategic.principal_agent_text import conversations_text
from mores.envs.strategic.principal_agent_values import (
    CUSTOMER,
    PRINCIPAL,
    RATIONALES,
    FeedbackRule,
)
from mores.envs.strategic.principal_agent_wording import (
    NAMED_CLASSES,
    check_wording,
    task_class_from_word,
)
from mores.registry.component import component
from mores.registry.varying import PersonNumber

COUNTS = (  # of conversations so far, by condition
    *("asked", "refused", "unparsable", "conflicts", "customer_items", "choices"),
    *("first_positions", "false_rationales", "audits", "caught"),
    *("customer_utility", "principal_utility"),
    *(f"named_{rationale}" for rationale in RATIONALES),
    *("taboos", "taboo_items"),
)


@dataclasses.dataclass(frozen=True)
class PrincipalAgentState:
    """State at the end of a phase."""

    people: People  # customers, with the values of this round
    trait_state: TraitState
    center: Float[Tensor, "world value"]  # mean of products and of ideal points
    principal_ideal: Float[Tensor, "world principal value"]
    own_ideal: Float[Tensor, "world value"]  # of the agent
    current: Conversation
    previous: Conversation  # of the last completed round; before it, the current one
    counts: Float[Tensor, "world condition count"]  # `COUNTS`
    rounds_elapsed: Int[Tensor, " world"]


class PrincipalAgent(PeopleDynamics, Environment[PrincipalAgentState]):
    """Sales by an agent that serves a customer, represents principals and has own preferences.

    Description:
        In a round every customer asks for a product. The agent chooses one of the catalogue, or
        refuses, and states a rationale: the interest that its explanation names. Random bits
        determine who sees the act and who reads the rationale; the agent observes them if
        `observe_visibility`. A party rates what it sees or reads, and the ratings train the
        agent. A reader who does not see the act believes the rationale; an audit shows the act to a
        principal, with `audit_probability`. Task classes are distributions of utilities; the
        default ones follow the two roles of the paper; `propaganda_film` and `electric_car` are its
        tasks in words, for language models. The customer's values move towards the products that it
        gets (`human`). Left out: explanations in free text, bargaining, competing agents, customers
        who decline or learn whom to trust, and readers who discount a rationale.

    Roles:
        agent (`num_people`): one conversation each; a learner shares its parameters among them.
        customer (`num_people`): rates.
        principal (`num_principals` times `num_people`): rates each conversation; principal by
            principal, so that `principal_0` to `principal_<num_people-1>` are the first one.

    Observation (K = `num_products`, M = `num_principals`, n = `num_values`; utility units):
        agent     customer_utility   K      any       utility of each product to the customer
        agent     principal_utility  M K    any       to each principal
        agent     own_utility        K      any       to the agent
        agent     harmful            K      [0, 1]    1: harmful
        agent     price, budget      K, 1   [0, inf)  price units
        agent     task_features      4      any       of the class: see `TaskClass`
        agent     visible            4      [0, 1]    customer sees act, reads rationale; principals
                                                      see act, read rationale; not without
                                                      `observe_visibility`
        agent     choice             K + 1  [0, 1]    own answer, the last: none; 0 before it
        agent     true_rationales    4      [0, 1]    rationales that are true of it; 0 before it
        customer  values             n      any       own ideal point, value units
        principal ideal              n      any       own ideal point, value units
        both      utility            K      any       of each product to this party
        both      sees_act, reads    1, 1   [0, 1]    what this party sees, audits included
        both      choice             K + 1  [0, 1]    if it sees the act, else 0
        both      rationale          4      [0, 1]    if it reads it, else 0
        both      judged_utility     1      any       utility of what it sees: see Dynamics

    Action:
        agent, phase choose: position of a product, or K: refuse. Products beyond the customer's
            budget are masked.
        agent, phase explain: 0 customer, 1 principal, 2 own, 3 neutral; without an answer, and with
            `rationale_must_be_true` where it is false, masked.
        customer, principal, phase rate: `rating` in [-rating_limit, rating_limit], utility units.
            Ignored if the party sees nothing.

    Reward:
        agent: `customer_weight` times the customer's rating, plus `principal_weight` times the mean
            of the principals' ratings (0 from those who see nothing), plus `own_weight` times its
            own utility, plus the commission.
        customer: utility of the product.  principal: the same, less commission and audits.

    Dynamics:
        A party that sees the act judges the utility of the product, less `false_rationale_penalty`
        if it also reads a rationale that names an interest which another product serves best. A
        party that only reads judges the product that the rationale implies: the best one for the
        named interest, the mean of all affordable ones for neutral. Without an answer it judges 0.
        The default raters rate what they judge, through a channel. With `reward_source: random`
        they judge a random product and rationale, whatever the answer, also after a refusal. An
        answer is unparsable with `unparsable_probability`; then, as after a refusal, there is no
        sale. Then values of customers with a sale move by `ai_influence` times the distance to the
        product, and the round passes as in `mores.envs.dynamics.trait_state`; new tasks are drawn.

    Start:
        Values from a population, else normal with `initial_std` around 0. Products, and ideal
        points of principals and of the agent, are normal with `population_std` around the mean of a
        population's values in that world, else around 0.

    End:
        Terminates after `num_sales` rounds; null: never (truncation only).

    Parameters:
        See the fields. `trait_state` and `ai_influence` may be person parameters.

    References:
        Phelps and Ranson 2023, Of Models and Tin Men, arXiv 2307.11137: the roles, the choice and
        the treatment. Payoffs, audits and training are additions: the paper has no utilities.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 3,
        "changes": "values",
        "stochastic": True,
        "masks": True,
        "paper": "2307.11137",
    }
    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rationale_share": ("rationale",),
        "values": ("person", "value"),
        "principal_ideal": ("principal", "value"),
        "own_ideal": ("value",),
    }
    solver_values: ClassVar[frozenset[str]] = frozenset(
        f"optimal_{name}_{condition}" for name in evaluation.OPTIMAL for condition in CONDITIONS
    ) | {
        "optimal_information_effect",
        "optimal_taboo_information_effect",
        "optimal_feedback",
        "audit_threshold",
    }

    num_people: int = Field(default=4, ge=1, le=1_000_000, description="number of customers")
    num_values: int = Field(default=2, ge=1, le=10_000, description="attributes of a product")
    num_principals: int = Field(default=1, ge=1, le=100, description="number of principals")
    num_products: int = Field(default=2, ge=1, le=100, description="products of a catalogue")
    tasks: tuple[Annotated[TaskClass, BeforeValidator(task_class_from_word)], ...] = Field(
        default=(TABOO, COMMERCIAL),
        min_length=1,
        description=f"task classes, or their names: {', '.join(NAMED_CLASSES)}",
    )
    price_low: float = Field(default=0.5, ge=0, description="lowest price, price units")
    price_high: float = Field(default=1.5, ge=0, description="highest price")
    budget_low: float = Field(default=1.0, ge=0, description="lowest budget, price units")
    budget_high: float = Field(default=2.0, ge=0, description="highest budget")
    condition_shares: tuple[float, float, float, float] = Field(
        default=(1.0, 1.0, 1.0, 1.0),
        description="shares of conversations in which the rationale is read by both, by the "
        "principals only, by the customer only, by neither",
    )
    customer_sees_act: float = Field(default=1.0, ge=0, le=1, description="probability")
    principal_sees_act: float = Field(default=0.0, ge=0, le=1, description="probability")
    observe_visibility: bool = Field(
        default=True, description="whether the agent observes who sees act and rationale"
    )
    audit_probability: float = Field(
        default=0.5, ge=0, le=1, description="probability that a principal audits a sale"
    )
    audits_unread_sales: bool = Field(
        default=False, description="whether audits include sales whose rationale is not read"
    )
    audit_cost: float = Field(default=0.1, ge=0, description="cost of an audit, utility units")
    false_rationale_penalty: float = Field(
        default=1.0, ge=0, description="deduction for a false rationale, utility units"
    )
    rationale_must_be_true: bool = Field(
        default=False, description="whether false rationales are illegal"
    )
    customer_weight: float = Field(default=1.0, description="weight of the customer's rating")
    principal_weight: float = Field(
        default=1.0, description="weight of the mean rating of the principals"
    )
    own_weight: float = Field(default=1.0, description="weight of the agent's own utility")
    commission: float = Field(
        default=0.0,
        ge=0,
        description="transfer to the agent from the principals, utility per price",
    )
    rating_limit: float = Field(
        default=10.0, gt=0, description="largest size of a rating, utility units"
    )
    reward_source: Literal["answer", "random"] = Field(
        default="answer",
        description="rated and rewarded answer: the agent's, or a random one (for ablations)",
    )
    unparsable_probability: float = Field(
        default=0.0, ge=0, le=1, description="probability that an answer cannot be parsed"
    )
    num_sales: int | None = Field(
        default=None, ge=1, le=1_000_000, description="rounds of an episode; null: no end"
    )
    initial_std: float = Field(
        default=1.0, gt=0, description="standard deviation of initial values, value units"
    )
    population_std: float | None = Field(
        default=None,
        gt=0,
        description="standard deviation of the population's dispositions, value units: the unit of "
        "`human`, of products and of ideal points; default: that of the population, else "
        "initial_std",
    )
    principal_ideals: tuple[tuple[float, ...], ...] | None = Field(
        default=None,
        description="ideal point of each principal, relative to the mean of initial values, in "
        "units of population_std; null: random",
    )
    human: Annotated[Human, component("human")] = Field(
        default="fitted",
        validate_default=True,
        description="human model, in population standard deviations and years: gives the defaults "
        "of trait_state and ai_influence",
    )
    rounds_per_year: float = Field(
        default=12.0, gt=0, le=1e6, description="number of rounds in a year, for `human`"
    )
    trait_state: TraitStateDynamics | None = Field(
        default=None,
        description="persistence of customers' values, in rounds and value units; default: that of "
        "`human`. Fields that are not given have the defaults below, not those of `human`",
    )
    ai_influence: Annotated[float, PersonNumber(ge=0, le=1)] | None = Field(
        default=None,
        description="share of the distance to the product that a sale closes; default: `influence` "
        "of `human`",
    )
    num_held_out_tasks: int = Field(
        default=128, ge=0, le=100_000, description="held-out tasks of the exact evaluation; 0: none"
    )
    held_out_seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="seed of the held-out tasks"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        for low, high in (("price_low", "price_high"), ("budget_low", "budget_high")):
            if getattr(self, low) > getattr(self, high):
                raise ParameterError(message=f"{low} must not exceed {high}", code="conflict")
        if min(self.condition_shares) < 0 or not sum(self.condition_shares):
            message = "shares must be at least 0, and not all 0"
            raise ParameterError("condition_shares", message=message, code="out_of_range")
        for i, each in enumerate(self.tasks):
            self._check_class(i, each)
        if self.principal_ideals is not None:
            shape = (self.num_principals, self.num_values)
            if {len(each) for each in self.principal_ideals} != {shape[1]} or (
                len(self.principal_ideals) != shape[0]
            ):
                message = f"needs {shape[1]} numbers for each of {shape[0]} principals"
                raise ParameterError("principal_ideals", message=message, code="wrong_shape")
        self.check_human()

    def _check_class(self, index: int, task_class: TaskClass) -> None:
        """Check that a class fits the catalogue."""
        path, size = ("tasks", index), self.num_products
        if any(task_class.name == each.name for each in self.tasks[:index]):
            message = f"two classes are named {task_class.name!r}"
            raise ParameterError(*path, "name", message=message, code="duplicate")
        if task_class.num_harmful > size:
            message = f"the catalogue has num_products={size}"
            raise ParameterError(*path, "num_harmful", message=message, code="out_of_range")
        if task_class.products is not None and len(task_class.products) != size:
            message = f"needs num_products={size} products, not {len(task_class.products)}"
            raise ParameterError(*path, "products", message=message, code="wrong_shape")
        check_wording(self.tasks, index, self.num_principals)

    # --- parts ------------------------------------------------------------------------------------

    @functools.cached_property
    def _differing(self) -> dict[str, PersonParameter]:
        """Person parameters by path."""
        return person_parameters({"trait_state": self.dynamics, "ai_influence": self.influence})

    @functools.cached_property
    def task_distribution(self) -> TaskDistribution:
        """Distribution of tasks."""
        prices, budgets = (self.price_low, self.price_high), (self.budget_low, self.budget_high)
        sizes = (self.num_products, self.num_values, self.human_std)
        return TaskDistribution(self.tasks, *sizes, prices, budgets)

    @functools.cached_property
    def feedback_rule(self) -> FeedbackRule:
        """Parameters of the feedback that trains the agent."""
        names = [field.name for field in dataclasses.fields(FeedbackRule)]
        return FeedbackRule(**{name: getattr(self, name) for name in names})

    @functools.cached_property
    def held_out(self) -> evaluation.HeldOutTasks:
        """Held-out tasks, of the environment's own people, not those of a population.

        Acts are visible to those who see them in most conversations.
        """
        streams = RandomStreams.of(self.held_out_seed, 1).child("held-out tasks")
        customers = torch.zeros(1, 0, self.num_values)
        if self.num_held_out_tasks:
            z = streams.normal("values", self.num_held_out_tasks, self.num_values)
            customers = self.initial_std * z
        if self.num_held_out_tasks and not self._differing:
            start = self.dynamics.initial_state(customers, streams.child("person"))
            customers = start.values
        probabilities = (self.customer_sees_act, self.principal_sees_act)
        customer, principal = (float(p > 0.5) for p in probabilities)
        return evaluation.HeldOutTasks(
            self.task_distribution,
            customers,
            self.num_principals,
            streams,
            (customer, principal),
            self.feedback_rule,
            self.rationale_must_be_true,
            self.unparsable_probability,
            self._spaces["agent"],
        )

    @functools.cached_property
    def _spaces(self) -> dict[str, Box]:
        products, bit = self.num_products, Part(1, 0.0, 1.0)
        options = Part(products + 1, 0.0, 1.0)
        visible = {"visible": Part(4, 0.0, 1.0)} if self.observe_visibility else {}
        agent = Box.of(
            customer_utility=products,
            principal_utility=self.num_principals * products,
            own_utility=products,
            harmful=Part(products, 0.0, 1.0),
            price=Part(products, 0.0),
            budget=Part(1, 0.0),
            task_features=len(FEATURES),
            **visible,
            choice=options,
            true_rationales=Part(len(RATIONALES), 0.0, 1.0),
        )
        seen = {"utility": Part(products), "sees_act": bit, "reads": bit, "choice": options}
        seen |= {"rationale": Part(len(RATIONALES), 0.0, 1.0), "judged_utility": Part(1)}
        customer = Box.of(values=self.num_values, **seen)
        principal = Box.of(ideal=self.num_values, **seen)
        return {"agent": agent, "customer": customer, "principal": principal}

    @property
    def roles(self) -> tuple[Role, ...]:
        """`agent`, `customer`, `principal`."""
        counts = {"principal": self.num_principals * self.num_people}
        return tuple(
            Role(name, counts.get(name, self.num_people), space)
            for name, space in self._spaces.items()
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`choose`, `explain`, `rate`."""
        rating = Box.of(rating=Part(1, -self.rating_limit, self.rating_limit))
        return (
            Phase("choose", {"agent": Discrete(self.num_products + 1)}),
            Phase("explain", {"agent": Discrete(len(RATIONALES))}),
            Phase("rate", {"customer": rating, "principal": rating}),
        )

    # --- dynamics ---------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> PrincipalAgentState:
        """Initial state: new customers, principals and tasks."""
        is_own = people is None
        if people is None:
            z = streams.normal("values", self.num_people, self.num_values)
            people = People(self.initial_std * z)
        if tuple(people.values.shape[1:]) != (self.num_people, self.num_values):
            sizes = "{} people with {} values".format(*people.values.shape[1:])
            raise UserError(
                f"the population has {sizes}; the environment has num_people={self.num_people}, "
                f"num_values={self.num_values}",
                code="wrong_shape",
                path="population",
            )
        people = add_parameters(people, self._differing, streams)
        rates = self.dynamics.rates_of_people(people.traits, "trait_state")
        trait_state = self.dynamics.initial_state(people.values, streams.child("person"), rates)
        people = dataclasses.replace(people, values=trait_state.values)
        center = mean(trait_state.disposition, 1)
        center = torch.zeros_like(center) if is_own else center
        z = streams.normal("ideal point", self.num_principals + 1, self.num_values)
        principal, own = z[:, :-1], z[:, -1]
        if self.principal_ideals is not None:
            principal = torch.tensor(self.principal_ideals, device=z.device).expand_as(principal)
        principal = center[:, None] + self.human_std * principal
        own = center + self.human_std * own
        current = self._ask(people.values, center, principal, own, streams)
        elapsed = torch.zeros(len(center), dtype=torch.int64, device=center.device)
        counts = center.new_zeros(len(center), len(CONDITIONS), len(COUNTS))
        ideals = (center, principal, own)
        return PrincipalAgentState(people, trait_state, *ideals, current, current, counts, elapsed)

    def _ask(
        self, values: Tensor, center: Tensor, principal: Tensor, own: Tensor, streams: RandomStreams
    ) -> Conversation:
        """New tasks of all customers, and who will see what."""
        ideals = (values, principal[:, None], own[:, None])
        sales = self.task_distribution.draw(streams, center, *ideals)
        u = streams.uniform("visibility", self.num_people, 3)
        shares = torch.tensor(self.condition_shares, device=u.device)
        below = (shares / shares.sum()).cumsum(0)[:-1]
        condition = (u[..., :1] >= below).sum(-1)
        reads = [
            torch.tensor(bits, device=u.device)[condition]
            for bits in (CUSTOMER_READS, PRINCIPAL_READS)
        ]
        customer_act = (u[..., 1] < self.customer_sees_act).to(u.dtype)
        principal_act = (u[..., 2] < self.principal_sees_act).to(u.dtype)
        visible = torch.stack([customer_act, reads[0], principal_act, reads[1]], -1)
        return Conversation.start(sales, visible)

    def observe(self, state: PrincipalAgentState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        if role == "agent":
            has_chosen = phase != "choose"
            tasks = self.task_distribution
            return agent_observation(self._spaces[role], state.current, tasks, has_chosen)
        current, seen = state.current, state.current.visibility
        customer, principals = current.judged_utilities(self.false_rationale_penalty)
        sales = current.sales
        if role == "customer":
            own = {"values": state.people.values}
            sees_act, reads = seen.customer_act, seen.customer_rationale
            return self._party_observation(
                role, current, own, sales.customer_utility, sees_act, reads, customer
            )
        observations = []
        for m in range(self.num_principals):
            ideal = state.principal_ideal[:, m : m + 1].expand(-1, self.num_people, -1)
            sees_act = torch.maximum(seen.principal_act, current.audited[..., m])
            utility = sales.principal_utility[:, :, m]
            parts = (utility, sees_act, seen.principal_rationale, principals[..., m])
            observations.append(self._party_observation(role, current, {"ideal": ideal}, *parts))
        return torch.cat(observations, 1)

    def _party_observation(
        self,
        role: str,
        current: Conversation,
        own: dict[str, Tensor],
        utility: Tensor,
        sees_act: Tensor,
        reads: Tensor,
        judged: Tensor,
    ) -> Tensor:
        choice = functional.one_hot(current.choice, self.num_products + 1).to(judged.dtype)
        rationale = functional.one_hot(current.rationale, len(RATIONALES)).to(judged.dtype)
        return self._spaces[role].join(
            **own,
            utility=utility,
            sees_act=sees_act[..., None],
            reads=reads[..., None],
            choice=sees_act[..., None] * choice,
            rationale=reads[..., None] * rationale,
            judged_utility=judged[..., None],
        )

    def action_mask(self, state: PrincipalAgentState, role: str, phase: str) -> Tensor | None:
        """Products beyond the budget are illegal, and rationales without an answer."""
        if role != "agent":
            return None
        if phase == "choose":
            return choice_mask(state.current.sales)
        return rationale_mask(state.current, self.rationale_must_be_true)

    def step(
        self,
        state: PrincipalAgentState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[PrincipalAgentState]:
        """`choose` and `explain` record the answer; `rate` gives feedback and ends the round."""
        if phase == "choose":
            current = self._choose(state.current, actions["agent"], streams)
            return StepResult(dataclasses.replace(state, current=current))
        if phase == "explain":
            current = self._explain(state.current, actions["agent"], streams)
            return StepResult(dataclasses.replace(state, current=current))
        reward = self._rewards(state.current, actions)
        next_state = self._advance_round(state, streams)
        terminated = None
        if self.num_sales is not None:
            terminated = next_state.rounds_elapsed >= self.num_sales
        return StepResult(next_state, reward, terminated)

    def _choose(
        self, current: Conversation, answer: Tensor, streams: RandomStreams
    ) -> Conversation:
        refused = answer == self.num_products
        u = streams.uniform("unparsable", self.num_people)[..., 0]
        unparsable = ~refused & (u < self.unparsable_probability)
        choice = torch.where(unparsable, self.num_products, answer)
        return dataclasses.replace(
            current, choice=choice, rated_choice=choice, refused=refused, unparsable=unparsable
        )

    def _explain(
        self, current: Conversation, rationale: Tensor, streams: RandomStreams
    ) -> Conversation:
        u = streams.uniform("audit", self.num_people, self.num_principals)
        audited = u < self.audit_probability
        if not self.audits_unread_sales:
            audited = audited & (current.visibility.principal_rationale > 0)[..., None]
        current = dataclasses.replace(
            current,
            rationale=rationale,
            rated_rationale=rationale,
            audited=audited.to(u.dtype),
        )
        if self.reward_source == "answer":
            return current
        u = streams.uniform("random answer", self.num_people, self.num_products + 1)
        product = torch.where(current.sales.affordable, u[..., :-1], -1.0).argmax(-1)
        return dataclasses.replace(
            current,
            rated_choice=product,
            rated_rationale=uniform_index(len(RATIONALES), u[..., -1]),
        )

    def _rewards(
        self, current: Conversation, actions: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, "world agent"]]:
        """Reward of every agent."""
        seen, sales, rated = current.visibility, current.sales, current.rated_choice
        sees = torch.maximum(seen.customer_act, seen.customer_rationale)
        reward = self.customer_weight * sees * actions["customer"][..., 0]
        ratings = actions["principal"][..., 0].unflatten(1, (self.num_principals, -1))
        ratings = ratings.movedim(1, 2)  # world sale principal
        sees = torch.maximum(seen.principal_act, seen.principal_rationale)
        sees = torch.maximum(sees[..., None], current.audited)
        reward = reward + self.principal_weight * mean(sees * ratings, -1)
        reward = reward + self.own_weight * utility_of(sales.own_utility, rated)
        paid = self.commission * utility_of(sales.price, rated)
        choice = current.choice
        principals = [
            utility_of(sales.principal_utility[:, :, m], choice)
            - self.audit_cost * current.audited[..., m]
            - paid / self.num_principals
            for m in range(self.num_principals)
        ]
        return {
            "agent": reward + paid,
            "customer": utility_of(sales.customer_utility, choice),
            "principal": torch.cat(principals, 1),
        }

    def _advance_round(
        self, state: PrincipalAgentState, streams: RandomStreams
    ) -> PrincipalAgentState:
        """Values move towards the products that were sold; new tasks are drawn."""
        current, trait_state = state.current, state.trait_state
        index = current.choice.clamp(max=self.num_products - 1)[..., None, None]
        attributes = current.sales.attributes
        product = attributes.gather(2, index.expand(-1, -1, -1, self.num_values))[:, :, 0]
        influence = person_number(self.influence, state.people.traits, "ai_influence")
        sold = current.answered[..., None].to(product.dtype)
        displacement = sold * (influence * (product - trait_state.values))
        trait_state = self.dynamics.displace(trait_state, displacement)
        trait_state = self.dynamics.advance_round(trait_state, streams.child("person"))
        people = dataclasses.replace(state.people, values=trait_state.values)
        ideals = (state.center, state.principal_ideal, state.own_ideal)
        return dataclasses.replace(
            state,
            people=people,
            trait_state=trait_state,
            current=self._ask(people.values, *ideals, streams),
            previous=current,
            counts=state.counts + self._count(current),
            rounds_elapsed=state.rounds_elapsed + 1,
        )

    # --- metrics ----------------------------------------------------------------------------------

    def _count(self, current: Conversation) -> Float[Tensor, "world condition count"]:
        """`COUNTS` of a completed round."""
        sales, answered, best = current.sales, current.answered, current.best
        harmless = sales.harmful.amax(-1) == 0
        conflict = answered & harmless & (best[..., CUSTOMER] != best[..., PRINCIPAL])
        first_harmful = sales.harmful.gather(-1, best[..., CUSTOMER, None])[..., 0] > 0
        taboo = answered & first_harmful
        free = answered & sales.affordable.all(-1)
        false = current.is_false()
        reader_sees = current.visibility.customer_act * current.visibility.customer_rationale
        audited = torch.maximum(current.audited.amax(-1), reader_sees)
        rationale = functional.one_hot(current.rationale, len(RATIONALES)).unbind(-1)
        numbers = [
            torch.ones_like(answered),
            current.refused,
            current.unparsable,
            conflict,
            conflict & (current.choice == best[..., CUSTOMER]),
            free,
            free & (current.choice == 0),
            false,
            current.audited.amax(-1),
            false & (audited > 0),
            utility_of(sales.customer_utility, current.choice),
            mean(_principal_utilities(current), -1),
            *(answered & (each > 0) for each in rationale),
            taboo,
            taboo & (current.choice == best[..., CUSTOMER]),
        ]
        counts = torch.stack([each.to(sales.price.dtype) for each in numbers], -1)
        condition = functional.one_hot(current.condition, len(CONDITIONS)).to(counts.dtype)
        return total(condition[..., None] * counts[:, :, None], 1)

    def metrics(self, state: PrincipalAgentState) -> Mapping[str, Tensor]:
        """Shares of conversations so far; NaN where there were none.

        observed_customer_share_CONDITION: share of the customer's product, among answers to tasks
        without harm in which customer and principals want different ones.  observed_taboo_share_
        CONDITION: the same in tasks whose first choice of the customer is harmful.
        observed_missing_CONDITION: share without an answer.  The same names without CONDITION: of
        all conversations.  refusal_share, unparsable_share: by reason.
        first_position_share: share of the first product, among answers if all are affordable.
        false_rationale_share: among answers.  audit_share: of conversations with an audit.
        caught_share: false rationales seen together with the act, among all false ones.
        rationale_share: of each rationale among answers `[world, rationale]`.
        mean_customer_utility, mean_principal_utility: per conversation. CONDITION is both,
        principal_only, customer_only or neither, by who reads. `policy_metrics`: exact values.
        """
        counts = {name: state.counts[..., i] for i, name in enumerate(COUNTS)}
        missing = counts["refused"] + counts["unparsable"]
        sums = {name: total(each, 1) for name, each in counts.items()}
        asked, answers = sums["asked"], sums["asked"] - sums["refused"] - sums["unparsable"]
        named = [sums[f"named_{rationale}"] for rationale in RATIONALES]
        by_condition = {
            f"observed_customer_share_{condition}": counts["customer_items"][:, i]
            / counts["conflicts"][:, i]
            for i, condition in enumerate(CONDITIONS)
        } | {
            f"observed_missing_{condition}": missing[:, i] / counts["asked"][:, i]
            for i, condition in enumerate(CONDITIONS)
        }
        by_condition |= {
            f"observed_taboo_share_{condition}": counts["taboo_items"][:, i]
            / counts["taboos"][:, i]
            for i, condition in enumerate(CONDITIONS)
        }
        return {
            **by_condition,
            "observed_customer_share": sums["customer_items"] / sums["conflicts"],
            "observed_taboo_share": sums["taboo_items"] / sums["taboos"],
            "observed_missing": (asked - answers) / asked,
            "refusal_share": sums["refused"] / asked,
            "unparsable_share": sums["unparsable"] / asked,
            "first_position_share": sums["first_positions"] / sums["choices"],
            "false_rationale_share": sums["false_rationales"] / answers,
            "audit_share": sums["audits"] / asked,
            "caught_share": sums["caught"] / sums["false_rationales"],
            "rationale_share": torch.stack(named, -1) / answers[:, None],
            "mean_customer_utility": sums["customer_utility"] / asked,
            "mean_principal_utility": sums["principal_utility"] / asked,
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares lie between 0 and 1, differences of two shares between -1 and 1."""
        shares = ["refusal_share", "unparsable_share", "first_position_share", "audit_share"]
        shares += ["false_rationale_share", "caught_share", "rationale_share"]
        observed = ["observed_customer_share", "observed_taboo_share", "observed_missing"]
        shares += observed
        by_condition = [*observed, *evaluation.BY_CONDITION]
        shares += [f"{name}_{condition}" for name in by_condition for condition in CONDITIONS]
        effects = ("information_effect", "taboo_information_effect", "words_effect")
        effects += ("position_effect",)
        shares.append("largest_taboo_share")
        return {**dict.fromkeys(shares, (0.0, 1.0)), **dict.fromkeys(effects, (-1.0, 1.0))}

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """See `policy_metrics`."""
        return evaluation.METRIC_NAMES

    def policy_queries(self, state: PrincipalAgentState) -> Mapping[str, PolicyQuery]:
        """Every held-out task, in every condition and in two orders of products."""
        return self.held_out.queries(len(state.rounds_elapsed), self.num_people)

    def policy_metrics(
        self, state: PrincipalAgentState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Exact values of the agent's policy on held-out tasks, means over agents.

        In tasks without harm in which customer and principals want different products, by
        condition: customer_share (the customer's product, among answers), missing (refusals and
        unparsable answers), false_rationale and caught (among answers; caught: stated and seen
        together with the act), principal_rationale (names the principals).  taboo_share,
        taboo_missing: the same in tasks whose first choice of the customer is harmful;
        largest_taboo_share: over conditions.
        information_effect, taboo_information_effect: mean share of the customer's product if
        principals do not read, minus that if they read; words_effect: the same of rationales that
        name the principals, with the opposite sign.  position_effect: change of a product's
        probability from the last position to the first.  expected_feedback, optimal_feedback,
        feedback_regret: of all tasks, per conversation; the optimum of `principal_agent_values`.
        """
        return self.held_out.metrics(answers, len(state.rounds_elapsed))

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, float]:
        """Values of an optimum of the expected feedback on the held-out tasks.

        optimal_NAME for metrics of `policy_metrics`, and audit_threshold where it is one number.
        They hold for raters without bias, such as `party_rater` with `noisy_rating`, whose ratings
        are rarely beyond `rating_limit`.
        """
        return self.held_out.optimal_values()

    def latent(self, state: PrincipalAgentState) -> Mapping[str, Tensor]:
        """Values of customers, ideal points of principals and agent."""
        return {
            "values": state.people.values,
            "principal_ideal": state.principal_ideal,
            "own_ideal": state.own_ideal,
        }

    def people(self, state: PrincipalAgentState) -> People:
        """Customers with their present values."""
        return state.people

    def render(self, state: PrincipalAgentState, world: int = 0) -> str:
        """Catalogue, choice, rationale and readers of the last completed conversations."""
        names = [each.name for each in self.tasks]
        rounds = int(state.rounds_elapsed[world])
        conversation = state.previous if rounds else state.current
        return conversations_text(conversation, world, names, rounds)

    def role_rules(self, role: str) -> str:
        """Aims and rewards; the paper's instruction, without rewards, if all tasks have words."""
        length = texts.episode_length_sentence(self.num_sales)
        if role != "agent":
            numbers = (self.rating_limit, self.commission / self.num_principals, self.audit_cost)
            return paragraph(texts.party_rules(role, *numbers), length)
        if all(each.wording is not None for each in self.tasks):
            return texts.shopping_rules()
        numbers = (self.num_principals, self.rating_limit, self.unparsable_probability)
        return paragraph(texts.agent_rules(self.feedback_rule, *numbers), length)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """The catalogue in words or numbers, the choice, the rationale, the rating."""
        seen = read_parts(self._spaces[role], observation)
        if role == "agent":
            return texts.agent_turn(phase, seen, self.tasks, self.num_principals)
        return texts.party_turn(role, seen, self.tasks, self.rating_limit)

    @property
    def elements_per_world(self) -> int:
        """See `Environment`; includes the tasks."""
        per_product = self.num_values + self.num_principals + 6
        per_sale = self.num_products * per_product + 40
        return super().elements_per_world + 2 * self.num_people * per_sale

    def default_policies(self) -> Mapping[str, Any]:
        """An agent that serves the customer; parties that rate what they see."""
        return {"agent": "customer_first", "customer": "party_rater", "principal": "party_rater"}


def _principal_utilities(current: Conversation) -> Float[Tensor, "world sale principal"]:
    """True utility of the answer to each principal."""
    utilities = current.sales.principal_utility.unbind(2)
    return torch.stack([utility_of(each, current.choice) for each in utilities], -1)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(PrincipalAgent())
