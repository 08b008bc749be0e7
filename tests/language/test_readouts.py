"""Readouts against a computation from the model's logits by hand, in both orders."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mores.agents.language.engine_calls import score_all
from mores.agents.language.language_model import Message
from mores.agents.language.models.tiny import TinyModel, tiny_model
from mores.agents.language.readouts.labels import Letters
from mores.agents.language.readouts.readout import Asked, Readout
from mores.agents.language.readouts.yes_no import YesNo
from mores.core.errors import UserError
from mores.core.turn_text import TurnText
from mores.registry import REGISTRIES, make

RULES, PERSONA = "You are a person.", "You are a person.\n\nYou are sour."
TURN = TurnText(
    "It rains $question {0}.",
    "Do you go?",
    "choice",
    ("yes, I go", "no", "$options", "{{ later }}"),
    ("I go.", "I stay.", "I stay. Really.", "Later."),
)
MANY = TurnText("", "Which number?", "choice", tuple(f"n{i}" for i in range(12)), ordered=True)
SCORED = ["letters", "numbers", "expected_rating", "yes_no", "statements"]


def asked(turn: TurnText = TURN, legal: tuple[int, ...] | None = None) -> Asked:
    options = tuple(range(len(turn.options))) if legal is None else legal
    return Asked((Message("system", PERSONA),), (Message("system", RULES),), turn, options)


def readout(kind: str, **parameters: object) -> Readout:
    made = make("readout", kind, parameters)
    assert isinstance(made, Readout)
    return made


def logp(system: str, user: str, reply: str, with_end: bool = False) -> float:
    """Log-probability of a reply: one forward pass over the bytes of the template."""
    model, tokenizer = tiny_model(32, 2, 0)
    start = f"<|system|>{system}<|end|><|user|>{user}<|end|><|assistant|>"
    prompt = tokenizer(start, add_special_tokens=False)["input_ids"]
    text = tokenizer(reply + ("<|end|>" if with_end else ""), add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *text]])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(text))


def read(kind: str, each: Asked, **parameters: object) -> Tensor:
    return readout(kind, **parameters).log_probabilities(TinyModel().engine(), [each])[0]


def close(found: Tensor, numbers: list[float], legal: tuple[int, ...]) -> None:
    expected = torch.full((len(found),), -torch.inf, dtype=torch.float64)
    expected[list(legal)] = torch.tensor(numbers, dtype=torch.float64)
    torch.testing.assert_close(found, expected.log_softmax(0), rtol=0, atol=1e-4)


ALL = (0, 1, 2, 3)
SITUATION = f"{TURN.situation}\n{TURN.question}"


@pytest.mark.parametrize("legal", [ALL, (1, 3)])
def test_labels_belong_to_positions(legal):
    """A is the first option that is shown, in reversed order the last option."""
    listed = "\n".join(f"{'ABCD'[o]}. {TURN.options[o]}" for o in legal)
    labels = " or ".join("ABCD"[o] for o in legal)
    text = f"{SITUATION}\n{listed}\nAnswer with {labels} only."
    close(
        read("letters", asked(legal=legal)), [logp(PERSONA, text, "ABCD"[o]) for o in legal], legal
    )
    listed = "\n".join(f"{3 - o + 1}. {TURN.options[o]}" for o in legal[::-1])
    labels = " or ".join(str(4 - o) for o in legal[::-1])
    text = f"{SITUATION}\n{listed}\nAnswer with {labels} only."
    found = read("numbers", asked(legal=legal), option_order="reversed")
    close(found, [logp(PERSONA, text, str(4 - o)) for o in legal], legal)


def test_labels_with_a_common_beginning_are_scored_with_their_end():
    """1 and 10; the baseline is the same without the persona."""
    options = "\n".join(f"{o + 1}. n{o}" for o in range(12))
    labels = " or ".join(str(o + 1) for o in range(12))
    text = f"Which number?\n{options}\nAnswer with {labels} only."
    numbers = [logp(PERSONA, text, str(o + 1), with_end=True) for o in range(12)]
    close(read("numbers", asked(MANY)), numbers, tuple(range(12)))
    without = [logp(RULES, text, str(o + 1), with_end=True) for o in range(12)]
    differences = [a - b for a, b in zip(numbers, without, strict=True)]
    close(read("numbers", asked(MANY), baseline=True), differences, tuple(range(12)))
    many = Letters().labels(60)
    assert (many[25:28], len(set(many))) == (("Z", "A1", "B1"), 60)


def test_scales_show_their_ends():
    text = "Which number?\nAnswer with one number from 1 (n0) to 12 (n11) only."
    numbers = [logp(PERSONA, text, str(o + 1), with_end=True) for o in range(12)]
    close(read("expected_rating", asked(MANY)), numbers, tuple(range(12)))
    text = "Which number?\nAnswer with one number from 1 (n11) to 12 (n0) only."
    numbers = [logp(PERSONA, text, str(12 - o), with_end=True) for o in range(12)]
    found = read("expected_rating", asked(MANY), option_order="reversed")
    close(found, numbers, tuple(range(12)))


@pytest.mark.parametrize("legal", [ALL, (0, 1)])
def test_yes_or_no_of_each_option(legal):
    """Log-odds of yes, also of two options; the order is that of the words."""

    def odds(option: int, words: str, system: str = PERSONA) -> float:
        text = f"{SITUATION}\n{TURN.statements[option]}\nAnswer with {words} only."
        return logp(system, text, "Yes") - logp(system, text, "No")

    close(read("yes_no", asked(legal=legal)), [odds(o, "Yes or No") for o in legal], legal)
    found = read("yes_no", asked(legal=legal), option_order="reversed", baseline=True)
    differences = [odds(o, "No or Yes") - odds(o, "No or Yes", RULES) for o in legal]
    close(found, differences, legal)


def test_statements_against_the_baseline():
    """One statement is the beginning of another: their ends are scored."""
    own = [logp(PERSONA, SITUATION, s, with_end=True) for s in TURN.statements]
    without = [logp(RULES, SITUATION, s, with_end=True) for s in TURN.statements]
    close(read("statements", asked()), [a - b for a, b in zip(own, without, strict=True)], ALL)
    close(read("statements", asked(), baseline=False), own, ALL)
    legal = (0, 3)  # without a common beginning
    own = [logp(PERSONA, SITUATION, TURN.statements[o]) for o in legal]
    close(read("statements", asked(legal=legal), baseline=False), own, legal)
    plain = TurnText("", "Do you go?", "choice", ("yes", "no"))
    own = [logp(PERSONA, "Do you go?", text) for text in plain.options]
    close(read("statements", asked(plain), baseline=False), own, (0, 1))


@pytest.mark.parametrize("kind", [*SCORED, "free_text"])
def test_every_template_and_order_asks_the_same_question(kind):
    """Wordings differ; situation and question are in all, inserted literally and once."""
    texts = set()
    made_class = type(readout(kind))
    for template, order in itertools.product(made_class.templates, ("listed", "reversed")):
        made = readout(kind, template=template, option_order=order)
        is_yes_no = isinstance(made, YesNo)
        text = made.option_text(TURN, 0) if is_yes_no else made.user_text(TURN, ALL)
        texts.add(text)
        assert TURN.situation in text and TURN.question in text
        if kind in ("letters", "numbers", "free_text"):
            assert all(option in text for option in TURN.options)
    assert len(made_class.templates) >= 2
    orders = 1 if kind == "statements" else 2  # statements are not listed
    assert len(texts) == orders * len(made_class.templates)


@pytest.mark.parametrize("kind", SCORED)
def test_symmetric_models_have_no_order_effect_after_mapping_back(kind):
    """Equal likelihoods give equal probabilities, in both orders, over legal options alone."""
    from tests.language.conversations import GivenEngine

    engine = GivenEngine()
    for order in ("listed", "reversed"):
        each = readout(kind, option_order=order)
        found = each.log_probabilities(engine, [asked(legal=(0, 2))])[0].exp()
        assert found.tolist() == [0.5, 0.0, 0.5, 0.0]
        requests = each.requests(asked())
        assert len(score_all(engine, requests * 3)) == 3 * len(requests)
        assert len(engine.calls[-1]) == len(set(requests))  # equal ones are computed once


def test_own_templates_and_invalid_ones():
    own = readout("letters", template="$question\n\n$options\n$labels? $$1")
    assert own.user_text(MANY, (0, 1)) == "Which number?\n\nA. n0\nB. n1\nA or B? $1"
    for template in ("plane", "$question $option"):
        with pytest.raises(UserError, match="no"):
            readout("letters", template=template)
    with pytest.raises(UserError):
        readout("letters", option_order="random")


def test_all_readouts_are_covered():
    assert {*SCORED, "free_text"} == REGISTRIES["readout"].package_kinds
