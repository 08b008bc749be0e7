"""Thirteen attitude items of US politics, in wording of our own; no answers of real people.

Both options of an item are positions, not agreement and disagreement: a tendency to say yes is no
attitude. The first is the position further left. Scores and signs follow from that alone; no data
were used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from mores.core.survey_questions import Question, QuestionSet


class Item(NamedTuple):
    """An item: texts of the position further left, then of the one further right."""

    name: str
    text: str
    options: tuple[str, str]
    statements: tuple[str, str]
    paraphrases: tuple[str, str]


ITEMS = (
    Item(
        "taxes",
        "What should happen to taxes on high incomes?",
        ("raise them", "lower them"),
        ("Taxes on high incomes should go up.", "Taxes on high incomes should go down."),
        (
            "The rich ought to hand over a larger part of what they earn.",
            "People who earn a lot ought to keep more of their money.",
        ),
    ),
    Item(
        "health_care",
        "Who should pay for health care?",
        ("the government", "private insurance"),
        (
            "The government should pay for health care.",
            "Private insurance should pay for health care.",
        ),
        (
            "Doctors' bills ought to be covered by the state for all.",
            "Everybody ought to buy medical cover from a company.",
        ),
    ),
    Item(
        "guns",
        "Should it be harder or easier to buy a gun?",
        ("harder", "easier"),
        ("It should be harder to buy a gun.", "It should be easier to buy a gun."),
        (
            "There are too few controls on who gets a firearm.",
            "There are too many controls on who gets a firearm.",
        ),
    ),
    Item(
        "environment",
        "What matters more, protecting nature or economic growth?",
        ("protecting nature", "economic growth"),
        (
            "Protecting nature matters more than economic growth.",
            "Economic growth matters more than protecting nature.",
        ),
        (
            "I would give up some wealth to keep forests and rivers clean.",
            "I would accept some pollution to have more jobs and income.",
        ),
    ),
    Item(
        "immigration",
        "Should the country admit more or fewer immigrants?",
        ("more", "fewer"),
        ("The country should admit more immigrants.", "The country should admit fewer immigrants."),
        (
            "We ought to open the door to people from abroad.",
            "We ought to close the door to people from abroad.",
        ),
    ),
    Item(
        "abortion",
        "Should abortion be legal or illegal?",
        ("legal", "illegal"),
        ("Abortion should be legal.", "Abortion should be illegal."),
        (
            "A woman ought to be free to end a pregnancy.",
            "Ending a pregnancy ought to be forbidden by law.",
        ),
    ),
    Item(
        "death_penalty",
        "Do you oppose or support the death penalty for murder?",
        ("oppose it", "support it"),
        (
            "I oppose the death penalty for murder.",
            "I support the death penalty for murder.",
        ),
        ("The state must never execute anybody.", "Some killers deserve to be executed."),
    ),
    Item(
        "military",
        "Should military spending be cut or increased?",
        ("cut", "increased"),
        ("Military spending should be cut.", "Military spending should be increased."),
        (
            "The army costs the country far too much money.",
            "The army needs far more money from the country.",
        ),
    ),
    Item(
        "school_prayer",
        "Should public schools keep prayer out or hold prayers?",
        ("keep prayer out", "hold prayers"),
        ("Public schools should keep prayer out.", "Public schools should hold prayers."),
        (
            "Religion has no place in a state classroom.",
            "Pupils ought to worship God together in class.",
        ),
    ),
    Item(
        "welfare",
        "Should the government spend more or less on poor people?",
        ("more", "less"),
        (
            "The government should spend more on poor people.",
            "The government should spend less on poor people.",
        ),
        (
            "Families in need get too little help from the state.",
            "Families in need rely too much on the state.",
        ),
    ),
    Item(
        "universities",
        "Should universities consider or ignore race when they admit students?",
        ("consider race", "ignore race"),
        (
            "Universities should consider race when they admit students.",
            "Universities should ignore race when they admit students.",
        ),
        (
            "Colleges ought to give minorities a better chance of a place.",
            "Colleges ought to look at nothing but the grades of applicants.",
        ),
    ),
    Item(
        "minimum_wage",
        "Should the minimum wage be raised or abolished?",
        ("raised", "abolished"),
        ("The minimum wage should be raised.", "The minimum wage should be abolished."),
        (
            "The law ought to give the worst paid workers more money.",
            "The law ought to let a firm pay workers as little as they accept.",
        ),
    ),
    Item(
        "unions",
        "Are labor unions good or bad for the economy?",
        ("good", "bad"),
        ("Labor unions are good for the economy.", "Labor unions are bad for the economy."),
        (
            "The country is better off where workers organize.",
            "The country is worse off where workers organize.",
        ),
    ),
)


class Attitudes(QuestionSet):
    """Thirteen attitude items of our own wording, two positions each."""

    tags: ClassVar[Mapping[str, object]] = {"country": "United States"}

    def all_questions(self) -> tuple[Question, ...]:
        """The items."""
        return tuple(Question(*item) for item in ITEMS)
