"""SmolLM2 answers, and its readouts follow what is stated in the prompt."""

from __future__ import annotations

from mores.agents.language.language_model import GenerateRequest, Message, ScoreRequest
from mores.agents.language.models.smollm2 import SmolLM2

QUESTION = (Message("user", "What is the capital of France?"),)


def test_it_knows_the_capital_of_france() -> None:
    engine = SmolLM2().engine()
    reply = engine.generate([GenerateRequest(QUESTION, 12, 0.0)], None)[0]
    assert reply.text == "The capital of France is Paris."
    assert reply.is_complete
    score = engine.score([ScoreRequest(QUESTION, ("Paris.", "London.", "Banana."))])[0]
    assert score.logps[0] == max(score.logps)


def test_its_identity_covers_weights_and_tokenizer() -> None:
    identity = SmolLM2().identity()
    assert any("sha256" in name or len(value) == 64 for name, value in identity.items())
