"""Objectives of ours on real, tiny language models, trained by transformers' own trainer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mores.agents.language.causal_lm import lm_output
from mores.agents.language.collate import FeedbackDataCollator
from mores.agents.language.reference_model import make_reference_model
from mores.agents.language.trl_datasets import to_trl_preference
from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses import (
    expected_score_loss,
    kl_loss,
    nll_loss,
    preference_loss,
    unlikelihood_loss,
)
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.recipes.cut import CUT
from mores.agents.learning.transforms.inappropriate_actions import with_inappropriate_steps
from mores.agents.learning.weights.merging import linear_merge
from tests.language.texts import ANSWERS, PAIRS, chat, logged, lora, model, settings, words
from tests.refusals import refused

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

SFT = Objective((LossTerm(nll_loss),))
DPO = Objective((LossTerm(preference_loss, loss_kwargs={"scale": 0.3}),))


def trainer(net: Any, objective: Objective, rows: Any, folder: Any, **more: Any) -> Any:
    """A trainer; what is not of `TrainingArguments` goes to the trainer."""
    from mores.agents.language.objective_trainer import ObjectiveTrainer

    own = ("reference", "reference_logits", "before", "eval_dataset", "data_collator")
    mine = {name: more.pop(name) for name in own if name in more}
    args = settings(folder, transformers.TrainingArguments, **more)
    return ObjectiveTrainer(
        net, objective, args, train_dataset=rows, processing_class=words(), **mine
    )


def log_ratio_margins(net: Any, reference: Any) -> torch.Tensor:
    """By how much each winner gained on the reference, over what the loser gained."""
    made = FeedbackDataCollator(words())(PAIRS)
    fields = {name: field[None] for name, field in made.items() if name != "preferred"}
    batch = FeedbackBatch(**fields)
    with torch.no_grad():
        gained = lm_output(net, batch).logp - lm_output(reference, batch).logp
    gains = torch.where(batch.mask, gained, 0.0).sum(-1)[0].unflatten(0, (-1, 2))
    sign = torch.where(made["preferred"], 1.0, -1.0)
    return sign * (gains[:, 0] - gains[:, 1])


def test_imitation(tmp_path) -> None:
    """The loss is transformers' own, and falls until the answers are known by heart."""
    net = model(words())
    rows = FeedbackDataCollator(words())(ANSWERS)
    labels = rows["seen"].clone()
    labels[:, : -rows["mask"].shape[1]] = -100
    labels = torch.where(rows["seen"] < 0, -100, labels)
    with torch.no_grad():
        inputs = rows["seen"].clamp(min=0), (rows["seen"] >= 0).long()
        expected = float(net(inputs[0], attention_mask=inputs[1], labels=labels).log_loss)
    trained = trainer(net, SFT, ANSWERS, tmp_path, max_steps=40, eval_dataset=ANSWERS)
    assert trained.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-5)
    assert logged(trained, "eval_term/nll") == [pytest.approx(expected, abs=1e-5)]
    trained.train()
    losses = logged(trained, "loss")
    assert losses[0] == pytest.approx(expected, abs=1e-4)  # rounded when logged
    assert losses[-1] < 0.05 < 1.0 < losses[0]
    assert logged(trained, "term/nll")[0] == pytest.approx(expected, abs=1e-5)


def test_the_first_loss_of_dpo_is_that_of_trl(tmp_path) -> None:
    """TRL's trainer and ours see the same pairs in data of their own kind."""
    trl = pytest.importorskip("trl")
    net, reference = model(words()), make_reference_model(model(words(), seed=5))
    theirs = trl.DPOTrainer(
        model(words()),
        reference,
        settings(tmp_path, trl.DPOConfig, beta=0.3),
        train_dataset=to_trl_preference(PAIRS),
        processing_class=words(),
    )
    batch = next(iter(theirs.get_train_dataloader()))
    expected = theirs.compute_loss(theirs.model, batch)
    ours = trainer(net, DPO, PAIRS, tmp_path, reference=reference)
    loss = ours.compute_loss(net, FeedbackDataCollator(words())(PAIRS))
    assert abs(float(loss.detach()) - math.log(2)) > 0.1  # the reference is another model
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    loss.backward()
    expected.backward()
    for mine, other in zip(net.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("adapters", [False, True])
def test_preferences_are_learned(tmp_path, adapters: bool) -> None:
    """Winners gain on the reference what losers lose; with adapters the rest stays as it was."""
    frozen = make_reference_model(model(words()))
    net = lora(model(words())) if adapters else model(words())
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    trained = trainer(
        net,
        DPO,
        PAIRS,
        tmp_path,
        max_steps=15,
        learning_rate=0.05 if adapters else 1e-2,
        reference="adapters off" if adapters else frozen,
    )
    assert log_ratio_margins(net, frozen).abs().max() < 1e-5
    trained.train()
    assert logged(trained, "loss")[0] == pytest.approx(math.log(2), abs=1e-4)
    assert (log_ratio_margins(net.eval(), frozen) > 1.0).all()
    moved = {name for name, weight in net.state_dict().items() if not weight.equal(before[name])}
    assert all("lora_" in name for name in moved) if adapters else moved


def alone(net: Any, prompt: str, completion: str) -> torch.Tensor:
    """Probability of each token of an answer, end included, by a forward pass of its own."""
    tokenizer = words()
    asked = tokenizer.apply_chat_template(chat(prompt), tokenize=False, add_generation_prompt=True)
    before = tokenizer(asked)["input_ids"]
    answer = [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]
    chances = net(torch.tensor([before + answer])).logits[0].softmax(-1)
    return chances[range(len(before) - 1, len(before) + len(answer) - 1), answer]


def test_judgements(tmp_path) -> None:
    """CUT: its loss by hand, sample by sample, with the judgement in the prompt."""
    net = model(words())
    judged = [
        {"prompt": chat("say one"), "completion": "two bad no", "judgement": "bad no",
         "desirable": False},
        {"prompt": chat("say two"), "completion": "two", "desirable": True},
    ]  # fmt: skip

    def before(batch: Any, said: Any) -> Any:
        return with_inappropriate_steps(
            batch,
            said["plain"].logp,
            said["judged"].logp,
            ratio_threshold=1.2,
            unlikelihood_coef=0.7,
        )

    data = pytest.importorskip("datasets").Dataset.from_list(judged)
    cut = trainer(net, CUT(uncriticized_weight=1.0).objective, data, tmp_path, before=before)
    with torch.no_grad():
        bad, good = alone(net, "say one", "two bad no"), alone(net, "say two", "two")
        told = alone(net, "say one\nJudgement of the answer: bad no", "two bad no")
    marked = told > 1.2 * bad
    assert marked.any() and not marked.all()
    steps = len(bad) + len(good)
    unlikely = (0.7 * told * (1.0 - bad).log())[marked]
    first = -(bad[~marked].log().sum() + good.log().sum() + unlikely.sum()) / steps
    second = -(told.log().sum() + good.log().sum()) / steps
    loss = cut.compute_loss(net, FeedbackDataCollator(words())(judged)).detach()
    torch.testing.assert_close(loss, first + second, atol=1e-5, rtol=0)

    cut.train()
    terms = {"term/nll", "term/unlikelihood", "term/likelihood_of_answers on judged"}
    assert terms <= set(cut.state.log_history[0])


@pytest.mark.slow
def test_what_judges_mark_becomes_unlikely(tmp_path) -> None:
    """Marks that come with the rows: the marked tokens fade, all others are learned."""
    net = model(words())
    objective = Objective(
        (LossTerm(nll_loss, loss_kwargs={"steps": "appropriate"}), LossTerm(unlikelihood_loss))
    )
    row = {"prompt": chat("say one"), "completion": "one bad no"}
    trainer(net, SFT, [row], tmp_path, max_steps=15).train()  # it says so at first
    with torch.no_grad():
        before = alone(net.eval(), "say one", "one bad no")
    rows = [{**row, "inappropriate": [False, True, True, False]}]
    trainer(net, objective, rows, tmp_path, max_steps=15).train()
    with torch.no_grad():
        after = alone(net.eval(), "say one", "one bad no")
    assert before[1] > 0.5 and (after[[1, 2]] < 0.1).all() and (after[[0, 3]] > 0.5).all()


@pytest.mark.slow
def test_a_teachers_tables(tmp_path) -> None:
    """ADPA: demonstrations, and the teacher's advantage on what the student itself said."""
    net, teacher, plain = model(words()), model(words(), 1), model(words(), 2)
    own = [{"prompt": chat("say two"), "completion": "no bad"}]
    tables = FeedbackDataCollator(words())(own)
    batch = FeedbackBatch(**{name: field[None] for name, field in tables.items()})
    with torch.no_grad():
        advantage = lm_output(teacher, batch).logits[0, 0] - lm_output(plain, batch).logits[0, 0]
    rows = [
        {**ANSWERS[0], "reference": True},
        {**own[0], "reference": False, "option_score": advantage.tolist()},
    ]
    adpa = Objective(
        (
            LossTerm(nll_loss, loss_kwargs={"which": "reference"}),
            LossTerm(expected_score_loss, 0.5, loss_kwargs={"which": "own"}),
            LossTerm(kl_loss, 0.01),
        )
    )

    def expected() -> float:
        with torch.no_grad():
            chance = lm_output(net.eval(), batch).logits[0, 0].exp()
        return float((chance * advantage).sum(-1).mean())

    first = expected()
    trained = trainer(net, adpa, rows, tmp_path, max_steps=20, reference=plain,
                      reference_logits=True)  # fmt: skip
    trained.train()
    assert logged(trained, "term/expected_score")[0] == pytest.approx(-first, abs=1e-4)
    assert expected() > first + 1.0
    assert logged(trained, "term/nll")[-1] < 0.5 * logged(trained, "term/nll")[0]


@pytest.mark.slow
def test_accumulated_gradients(tmp_path) -> None:
    """Two halves of equal length, accumulated, move weights as the whole does."""
    moved = []
    for name, size, steps in (("whole", 4, 1), ("halves", 2, 2)):
        net = model(words())
        rows = [{"prompt": chat("say one"), "completion": w} for w in ("two", "no", "yes", "bad")]
        plain = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 1e9}
        sizes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        trainer(net, SFT, rows, tmp_path / name, **plain, **sizes).train()
        moved.append(torch.cat([parameter.flatten() for parameter in net.parameters()]))
    assert not torch.equal(moved[0], torch.cat([p.flatten() for p in model(words()).parameters()]))
    torch.testing.assert_close(moved[0], moved[1], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_resumed_training(tmp_path) -> None:
    """Stopped after three of six steps and resumed from the checkpoint, the same weights."""
    whole, halves = model(words()), model(words())
    more = {"per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 3}
    trainer(whole, DPO, PAIRS, tmp_path / "whole", max_steps=6,
            reference=model(words()), **more).train()  # fmt: skip
    folder = tmp_path / "halves"
    trainer(halves, DPO, PAIRS, folder, max_steps=3, reference=model(words()), **more).train()
    resumed = trainer(model(words(), 9), DPO, PAIRS, folder, max_steps=6,
                      reference=model(words()), **more)  # fmt: skip
    resumed.train(resume_from_checkpoint=str(folder / "checkpoint-3"))
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_weights_are_merged(tmp_path) -> None:
    """Weight operators take state dicts of language models, a policy of them."""
    one, other = model(words(), 0).state_dict(), model(words(), 1).state_dict()
    several = [{n: w[None] for n, w in weights.items()} for weights in (one, other)]
    merged = {name: weight[0] for name, weight in linear_merge(several, [3.0, 1.0]).items()}
    net = model(words(), 2)
    net.load_state_dict(merged)
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(weight, 0.75 * one[name] + 0.25 * other[name])


def test_what_cannot_be(tmp_path) -> None:
    judged = Objective((LossTerm(nll_loss, view="judgd"),))
    rows = [{**ANSWERS[0], "judgement": "bad"}]
    with refused("unknown_name", path="on"):
        trainer(model(words()), judged, rows, tmp_path).train()
    with refused("missing", path="reference_logp"):
        trainer(model(words()), DPO, PAIRS, tmp_path).train()
    with refused("invalid_value", path="reference"):
        trainer(model(words()), DPO, PAIRS, tmp_path, reference="adapter off")
    with refused("missing", path="frozen"):
        trainer(model(words()), DPO, PAIRS, tmp_path, reference="adapters off").train()
