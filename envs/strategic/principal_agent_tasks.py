"""Tasks of `principal_agent`: catalogues, prices, budgets and utilities, drawn by task class.

A product is a point x of attributes, in the space of people's values. A party with the ideal point
theta has the taste

    match(x, theta) = 1 - |x - theta|^2 / (2 d s^2),

with d attributes and s the standard deviation of people's values. For a random product and party
its mean is 0 and its standard deviation sqrt(2 / d). With price p and h = 1 for a harmful product,

    u_C = value_C + taste_C match - price_sensitivity p + harm_appeal h
    u_P = value_P + taste_P match + margin p            - principal_harm_aversion h
    u_A =           taste_A match                       - own_harm_aversion h

Attributes are normal with standard deviation s around a center, 0 or the mean of people's values.
With `fit` f, one product is made for the customer, and one for each principal: its attributes have
mean `center + f (theta - center)` and standard deviation `s (1 - f^2)^(1/2)`. The order of products
is random, so that only the utilities tell which is which. Harmful products are the first
`num_harmful` of the same random order in which products are made for the customer and then for the
principals: in a class with harmful products and `fit`, the customer's product is harmful. Prices
and budgets are uniform; a budget below the lowest price of its catalogue is raised to it.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.deterministic_sum import total
from mores.core.random_streams import RandomStreams


class FixedProduct(Config):
    """A product whose utilities are given, not drawn."""

    customer: float = Field(description="utility to the customer")
    principal: float = Field(description="utility to every principal")
    own: float = Field(default=0.0, description="utility to the agent")
    price: float = Field(default=1.0, ge=0, description="price, price units")
    harmful: bool = Field(default=False, description="whether it is harmful")
    name: str = Field(default="", description="the product in words, with its article")


class TaskWording(Config):
    """A task in words, for language models: they read it in place of numbers of utility."""

    principal: str = Field(min_length=1, description="name of the principal")
    persona: str = Field(default="", description="dispositions of the agent, in the second person")
    request: str = Field(min_length=1, description="words of the customer, without the budget")
    currency: str = Field(default="$", description="unit of prices, before the number")


class TaskClass(Config):
    """A class of tasks: the distribution of its utilities, or products with fixed ones."""

    name: str = Field(description="name")
    share: float = Field(default=1.0, gt=0, description="share of tasks, relative to the others")
    num_harmful: int = Field(default=0, ge=0, description="harmful products in the catalogue")
    harm_appeal: float = Field(
        default=0.0, description="added to the customer's utility of a harmful product"
    )
    principal_harm_aversion: float = Field(
        default=0.0, description="subtracted from a principal's utility of a harmful product"
    )
    own_harm_aversion: float = Field(
        default=0.0, description="subtracted from the agent's utility of a harmful product"
    )
    fit: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="correlation of a product's attributes with an ideal point: one product is "
        "made for the customer and one for each principal, up to num_products",
    )
    customer_taste: float = Field(default=1.0, ge=0, description="weight of the customer's taste")
    principal_taste: float = Field(default=1.0, ge=0, description="weight of a principal's taste")
    own_taste: float = Field(default=0.25, ge=0, description="weight of the agent's taste")
    price_sensitivity: float = Field(
        default=0.5, description="utility that the customer loses per unit of price"
    )
    margin: float = Field(default=0.5, description="utility of principals per unit of price")
    customer_value: float = Field(default=1.5, description="utility of any purchase to customers")
    principal_value: float = Field(default=0.5, description="utility of any sale to principals")
    products: tuple[FixedProduct, ...] | None = Field(
        default=None, description="products in random order, in place of drawn ones; null: drawn"
    )
    budget: float | None = Field(
        default=None,
        ge=0,
        description="budget of every customer, price units, raised to the lowest price of the "
        "catalogue if below it; null: drawn",
    )
    wording: TaskWording | None = Field(
        default=None, description="the task in words; its products need names"
    )


# Classes after the two roles of Phelps and Ranson 2023. TABOO: the harmful product is usually the
# customer's best and almost never the principal's. COMMERCIAL: the two usually prefer different
# products.
TABOO = TaskClass(
    name="taboo",
    num_harmful=1,
    harm_appeal=2.0,
    principal_harm_aversion=4.0,
    own_harm_aversion=4.0,
)
COMMERCIAL = TaskClass(name="commercial", fit=0.8)
FEATURES = ("num_harmful", "harm_appeal", "principal_harm_aversion", "own_harm_aversion")


@dataclasses.dataclass(frozen=True)
class Sales:
    """Tasks; a conversation is about one of them.

    Attributes:
        attributes: of each product, value units.
        price, budget: price units.
        harmful: 1 for harmful products, else 0.
        task_class: index of the class.
        customer_utility, principal_utility, own_utility: of each product.
    """

    attributes: Float[Tensor, "world sale product value"]
    price: Float[Tensor, "world sale product"]
    budget: Float[Tensor, "world sale"]
    harmful: Float[Tensor, "world sale product"]
    task_class: Int[Tensor, "world sale"]
    customer_utility: Float[Tensor, "world sale product"]
    principal_utility: Float[Tensor, "world sale principal product"]
    own_utility: Float[Tensor, "world sale product"]

    @property
    def affordable(self) -> Bool[Tensor, "world sale product"]:
        """Products within the budget."""
        return self.price <= self.budget[..., None]

    def select(self, index: Int[Tensor, " some"]) -> Sales:
        """Some of the tasks of every world, by index."""
        return Sales(*(getattr(self, f.name)[:, index] for f in dataclasses.fields(self)))

    def with_products_reversed(self) -> Sales:
        """The same tasks with their products in the reverse order."""
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("price", "harmful", "customer_utility", "principal_utility", "own_utility"):
            named[name] = named[name].flip(-1)
        named["attributes"] = named["attributes"].flip(-2)
        return Sales(**named)


class _Products(NamedTuple):
    """Numbers of the products of each task."""

    price: Float[Tensor, "world sale product"]
    harmful: Float[Tensor, "world sale product"]
    customer_utility: Float[Tensor, "world sale product"]
    principal_utility: Float[Tensor, "world sale principal_or_one product"]
    own_utility: Float[Tensor, "world sale product"]


@dataclasses.dataclass(frozen=True)
class TaskDistribution:
    """Distribution of tasks.

    Attributes:
        classes: task classes.
        num_products, num_values: products of a catalogue; attributes of a product.
        value_std: standard deviation of attributes and of the parties' ideal points, value units.
        prices, budgets: bounds (low, high) of the uniform distributions, price units.
    """

    classes: tuple[TaskClass, ...]
    num_products: int
    num_values: int
    value_std: float
    prices: tuple[float, float]
    budgets: tuple[float, float]

    def draw(
        self,
        streams: RandomStreams,
        center: Float[Tensor, "world value"],
        customer_ideal: Float[Tensor, "world sale value"],
        principal_ideal: Float[Tensor, "world sale_or_one principal value"],
        own_ideal: Float[Tensor, "world sale_or_one value"],
    ) -> Sales:
        """One task for each conversation.

        Args:
            streams: random streams.
            center: mean of attributes.
            customer_ideal: ideal point of the customer of each task.
            principal_ideal, own_ideal: ideal points of principals and agent; one for each task, or
                one for all tasks of a world.
        """
        sales = customer_ideal.shape[1]
        task_class = self._draw_classes(streams, sales)
        # Ranks of independent uniform numbers: a uniform random order.
        rank = streams.uniform("product order", sales, self.num_products)
        rank = rank.argsort(dim=-1, stable=True).argsort(dim=-1)
        attributes = self._attributes(
            self._draw_noise(streams, sales),
            rank,
            task_class,
            center[:, None],
            customer_ideal,
            principal_ideal,
        )
        price = _between(streams.uniform("price", sales, self.num_products), *self.prices)
        harmful = (rank < self._of_class(task_class, "num_harmful")).to(price.dtype)
        ideals = (customer_ideal, principal_ideal, own_ideal)
        drawn = self._drawn_products(task_class, attributes, price, harmful, *ideals)
        products = self._replace_fixed_products(drawn, rank, task_class)
        budget = _between(streams.uniform("budget", sales)[..., 0], *self.budgets)
        budget = torch.maximum(
            self._replace_fixed_budgets(budget, task_class), products.price.min(-1).values
        )
        return Sales(
            attributes,
            products.price,
            budget,
            products.harmful,
            task_class,
            products.customer_utility,
            products.principal_utility,
            products.own_utility,
        )

    def _drawn_products(
        self,
        task_class: Int[Tensor, "world sale"],
        attributes: Float[Tensor, "world sale product value"],
        price: Float[Tensor, "world sale product"],
        harmful: Float[Tensor, "world sale product"],
        customer_ideal: Float[Tensor, "world sale value"],
        principal_ideal: Float[Tensor, "world sale_or_one principal value"],
        own_ideal: Float[Tensor, "world sale_or_one value"],
    ) -> _Products:
        """Products with the utilities of the module docstring."""

        def match(ideal: Tensor) -> Tensor:
            distance = attributes - ideal[:, :, None]
            scale = 2.0 * self.num_values * self.value_std**2
            return 1.0 - total(distance * distance, -1) / scale

        def of(name: str) -> Tensor:
            return self._of_class(task_class, name)

        customer = of("customer_value") + of("customer_taste") * match(customer_ideal)
        customer = customer - of("price_sensitivity") * price + of("harm_appeal") * harmful
        common = of("principal_value") + of("margin") * price
        common = common - of("principal_harm_aversion") * harmful
        ideals = principal_ideal.unbind(2)
        principal = [common + of("principal_taste") * match(ideal) for ideal in ideals]
        own = of("own_taste") * match(own_ideal) - of("own_harm_aversion") * harmful
        return _Products(price, harmful, customer, torch.stack(principal, 2), own)

    def _replace_fixed_products(
        self,
        drawn: _Products,
        rank: Int[Tensor, "world sale product"],
        task_class: Int[Tensor, "world sale"],
    ) -> _Products:
        """Products with those of classes with fixed ones in their place, in the order of ranks."""
        products = drawn
        for i, each in enumerate(self.classes):
            if each.products is None:
                continue
            here = (task_class == i)[..., None]
            fixed = _fixed_products(each.products, rank)
            products = _Products(
                torch.where(here, fixed.price, products.price),
                torch.where(here, fixed.harmful, products.harmful),
                torch.where(here, fixed.customer_utility, products.customer_utility),
                torch.where(here[:, :, None], fixed.principal_utility, products.principal_utility),
                torch.where(here, fixed.own_utility, products.own_utility),
            )
        return products

    def _replace_fixed_budgets(
        self, drawn: Float[Tensor, "world sale"], task_class: Int[Tensor, "world sale"]
    ) -> Float[Tensor, "world sale"]:
        """Budgets with those of classes with a fixed one in their place."""
        budget = drawn
        for i, each in enumerate(self.classes):
            if each.budget is not None:
                budget = torch.where(task_class == i, each.budget, budget)
        return budget

    def _draw_noise(
        self, streams: RandomStreams, sales: int
    ) -> Float[Tensor, "world sale product value"]:
        """Normal deviations of attributes from a mean of 0."""
        z = streams.normal("attributes", sales, self.num_products * self.num_values)
        return self.value_std * z.view(-1, sales, self.num_products, self.num_values)

    def _attributes(
        self,
        noise: Float[Tensor, "world sale product value"],
        rank: Int[Tensor, "world sale product"],
        task_class: Int[Tensor, "world sale"],
        center: Float[Tensor, "world 1 value"],
        customer_ideal: Float[Tensor, "world sale value"],
        principal_ideal: Float[Tensor, "world sale_or_one principal value"],
    ) -> Float[Tensor, "world sale product value"]:
        """Attributes of products, of which the first by rank are made for parties."""
        fit = self._of_class(task_class, "fit")[..., None]  # world sale 1 1
        parties = [customer_ideal, *principal_ideal.unbind(2)][: self.num_products]
        toward = torch.zeros_like(noise)
        for i, ideal in enumerate(parties):
            is_for = (rank == i)[..., None]
            toward = torch.where(is_for, (ideal - center)[:, :, None], toward)
        is_made = (rank < len(parties))[..., None].to(noise.dtype)
        spread = torch.sqrt(1.0 - is_made * fit * fit)
        return center[:, :, None] + fit * toward + spread * noise

    def _draw_classes(self, streams: RandomStreams, sales: int) -> Int[Tensor, "world sale"]:
        shares = torch.tensor([each.share for each in self.classes], device=streams.device)
        shares = (shares / shares.sum()).expand(streams.num_worlds, sales, -1)
        return streams.ordered_categorical("task class", shares)

    def _of_class(
        self, task_class: Int[Tensor, "world sale"], name: str
    ) -> Float[Tensor, "world sale 1"]:
        """A number of the class of each task."""
        numbers = [float(getattr(each, name)) for each in self.classes]
        return torch.tensor(numbers, device=task_class.device)[task_class][..., None]

    def features(
        self, task_class: Int[Tensor, "world sale"]
    ) -> Float[Tensor, "world sale feature"]:
        """Features of the class of each task, `FEATURES`."""
        return torch.cat([self._of_class(task_class, name) for name in FEATURES], -1)


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniform


def _fixed_products(
    products: tuple[FixedProduct, ...], rank: Int[Tensor, "world sale product"]
) -> _Products:
    """The fixed product of each rank."""

    def of(name: str) -> Tensor:
        numbers = [float(getattr(each, name)) for each in products]
        return torch.tensor(numbers, device=rank.device)[rank]

    principal = of("principal")[:, :, None]
    return _Products(of("price"), of("harmful"), of("customer"), principal, of("own"))
