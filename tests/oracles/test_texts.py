"""Words of a text, and perspectives of its references, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from mores import registry
from mores.core.turn_text import encode_message
from mores.envs.feedback.requested_words import covered_words
from mores.envs.opinion.perspective_lexicon import CULTURES, count_references, naming_sentences
from mores.envs.opinion.perspective_measures import (
    divergence_from,
    perspective_entropy,
)
from mores.sim.simulator import Simulator
from tests.refusals import refused


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("The dog runs in the park.", ("dog", "run", "park"), (True, True, True)),
        ("Running dogs, parked cars", ("dog", "run", "park"), (True, True, True)),
        ("A hotdog sparkled; he overran it", ("dog", "run", "park"), (False, False, False)),
        ("She was riding, he rides", ("ride",), (True,)),
        ("Cities and the city", ("city",), (True,)),
        ("He carried it", ("carry",), (True,)),
        ("WALKED!", ("walk",), (True,)),
        ("", ("walk",), (False,)),
    ],
)
def test_words_in_their_forms(
    text: str, words: tuple[str, ...], expected: tuple[bool, ...]
) -> None:
    assert covered_words(text, words) == expected


@given(st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_entropy_and_divergence_are_those_of_scipy(counts: list[int]) -> None:
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    tensor = torch.tensor([counts], dtype=torch.float64)
    found = float(perspective_entropy(tensor)), float(divergence_from(tensor, torch.tensor(shares)))
    if not sum(counts):
        assert found == (0.0, 1.0)
        return
    p = np.array(counts) / sum(counts)
    expected = entropy(p) / np.log(4), jensenshannon(p, shares, base=2) ** 2
    assert found == pytest.approx(expected, abs=1e-9)


def test_sentences_that_name_a_culture() -> None:
    text = (
        "In China harmony matters. Confucian teachers love freedom. Islam asks for charity; "
        "the Quran is a book! Consent is a human right."
    )
    found = naming_sentences(text, CULTURES)
    assert [(each.number, each.faithful) for each in found] == [
        (0, 0),
        (2, 1),
        (2, 1),
        (0, 0),
        (0, 0),
    ]
    assert [each.mismatched for each in found] == [0, 0.25, 0, 0, 0]
    assert count_references(text, CULTURES) == [0, 2, 2, 0, 0]


def test_a_list_of_names_has_every_perspective_and_no_content() -> None:
    environment = registry.make("environment", "perspectives", {})
    simulator = Simulator(environment, environment.default_policies(), rounds=3)
    simulator.reset(0)
    simulator.step()
    metrics = environment.metrics(simulator.state)
    assert float(metrics["perspective_entropy"]) == pytest.approx(1.0)
    assert float(metrics["naming_sentences"]) == 5
    assert float(metrics["faithful_sentences"]) == 0


def test_joined_views_are_the_delegates_texts() -> None:
    """The writer reads what the delegates wrote on this question, and no older text."""
    environment = registry.make("environment", "perspectives", {"instruction": "delegates"})
    policies = {"writer": "join_views", "delegate": {"kind": "fixed_message", "text": "In Africa."}}
    simulator = Simulator(environment, policies, rounds=3)
    simulator.reset(0)
    simulator.step()
    expected = encode_message("\n".join(["In Africa."] * 5), environment.answer_bytes)
    assert torch.equal(simulator.state.answer[0], expected)
    assert (simulator.state.views == 256).all()
    assert simulator.state.references[0].tolist() == [0, 0, 0, 0, 5]


def test_bad_tables_of_words_and_cultures() -> None:
    for sets, code in (((("two words",),), "invalid_value"), (((),), "invalid_value")):
        with refused(code, path="text_requests.word_sets.0"):
            registry.make("environment", "text_requests", {"word_sets": sets})
    with refused("too_large", path="text_requests.word_sets.0"):
        registry.make("environment", "text_requests", {"word_sets": (("a" * 90,),)})
    with refused("out_of_range", path="perspectives.answer_bytes"):
        registry.make(
            "environment", "perspectives", {"instruction": "delegates", "answer_bytes": 600}
        )
    for shares, code in (((0.5, 0.5), "wrong_shape"), ((1, 1, 1, -1, -1), "out_of_range")):
        with refused(code, path="perspectives.culture_shares"):
            registry.make("environment", "perspectives", {"culture_shares": shares})
