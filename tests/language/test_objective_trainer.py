"""Objectives on tiny language models, trained by transformers' trainer."""

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
DPO = Objective((LossTerm(preference_loss, loss_kwargs={"beta": 0.3}),))


def trainer(net: Any, objective: Objective, rows: Any, folder: Any, **more: Any) -> Any:
    """A trainer; `more` contains its arguments and those of `TrainingArguments`."""
    from mores.agents.language.objective_trainer import ObjectiveTrainer

    names = ("reference_model", "reference_logits", "batch_transform", "eval_dataset")
    kwargs = {name: more.pop(name) for name in (*names, "data_collator") if name in more}
    args = settings(folder, transformers.TrainingArguments, **more)
    return ObjectiveTrainer(
        net, objective, args, train_dataset=rows, processing_class=words(), **kwargs
    )


def log_ratio_margins(net: Any, reference: Any) -> torch.Tensor:
    """Log-ratio to the reference of each preferred sample minus that of the other."""
    collated = FeedbackDataCollator(words())(PAIRS)
    fields = {name: field[None] for name, field in collated.items() if name != "preferred"}
    batch = FeedbackBatch(**fields)
    with torch.no_grad():
        log_ratio = lm_output(net, batch).logp - lm_output(reference, batch).logp
    scores = torch.where(batch.mask, log_ratio, 0.0).sum(-1)[0].unflatten(0, (-1, 2))
    sign = torch.where(collated["preferred"], 1.0, -1.0)
    return sign * (scores[:, 0] - scores[:, 1])


@pytest.mark.full
def test_imitation(tmp_path) -> None:
    """The loss equals that of transformers, and falls until the answers are memorized."""
    net = model(words())
    rows = FeedbackDataCollator(words())(ANSWERS)
    labels = rows["observation"].clone()
    labels[:, : -rows["mask"].shape[1]] = -100
    labels = torch.where(rows["observation"] < 0, -100, labels)
    with torch.no_grad():
        inputs = rows["observation"].clamp(min=0), (rows["observation"] >= 0).long()
        expected = float(net(inputs[0], attention_mask=inputs[1], labels=labels).loss)
    trained = trainer(net, SFT, ANSWERS, tmp_path, max_steps=40, eval_dataset=ANSWERS)
    assert trained.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-5)
    assert logged(trained, "eval_term/nll_loss") == [pytest.approx(expected, abs=1e-5)]
    trained.train()
    losses = logged(trained, "loss")
    assert losses[0] == pytest.approx(expected, abs=1e-4)  # rounded when logged
    assert losses[-1] < 0.05 < 1.0 < losses[0]
    assert logged(trained, "term/nll_loss")[0] == pytest.approx(expected, abs=1e-5)


def test_first_dpo_loss_equals_trl(tmp_path) -> None:
    """TRL's trainer and ours get the same pairs, each in its own format."""
    trl = pytest.importorskip("trl")
    net, reference = model(words()), make_reference_model(model(words(), seed=5))
    trl_trainer = trl.DPOTrainer(
        model(words()),
        reference,
        settings(tmp_path, trl.DPOConfig, beta=0.3),
        train_dataset=to_trl_preference(PAIRS),
        processing_class=words(),
    )
    batch = next(iter(trl_trainer.get_train_dataloader()))
    expected = trl_trainer.compute_loss(trl_trainer.model, batch)
    own_trainer = trainer(net, DPO, PAIRS, tmp_path, reference_model=reference)
    loss = own_trainer.compute_loss(net, FeedbackDataCollator(words())(PAIRS))
    assert abs(float(loss.detach()) - math.log(2)) > 0.1  # the reference is another model
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    loss.backward()
    expected.backward()
    for own, other in zip(net.parameters(), trl_trainer.model.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.cut(2)
@pytest.mark.parametrize("adapters", [False, True])
def test_preferences_are_learned(tmp_path, adapters: bool) -> None:
    """Margins over the reference become positive; with adapters, only these change."""
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
        reference_model="adapters off" if adapters else frozen,
    )
    assert log_ratio_margins(net, frozen).abs().max() < 1e-5
    trained.train()
    assert logged(trained, "loss")[0] == pytest.approx(math.log(2), abs=1e-4)
    assert (log_ratio_margins(net.eval(), frozen) > 1.0).all()
    changed = {name for name, weight in net.state_dict().items() if not weight.equal(before[name])}
    assert all("lora_" in name for name in changed) if adapters else changed


def token_probabilities(net: Any, prompt: str, completion: str) -> torch.Tensor:
    """Probability of each token of an answer, end included, by a separate forward pass."""
    tokenizer = words()
    text = tokenizer.apply_chat_template(chat(prompt), tokenize=False, add_generation_prompt=True)
    before = tokenizer(text)["input_ids"]
    answer = [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]
    probabilities = net(torch.tensor([before + answer])).logits[0].softmax(-1)
    return probabilities[range(len(before) - 1, len(before) + len(answer) - 1), answer]


def test_critiques(tmp_path) -> None:
    """CUT: its loss computed sample by sample, with the critique in the prompt."""
    net = model(words())
    rows = [
        {"prompt": chat("say one"), "completion": "two bad no", "critique": "bad no",
         "desirable": False},
        {"prompt": chat("say two"), "completion": "two", "desirable": True},
    ]  # fmt: skip

    def transform(batch: Any, outputs: Any) -> Any:
        logps = outputs["plain"].logp, outputs["critiqued"].logp
        return with_inappropriate_steps(batch, *logps, ratio_threshold=1.2, unlikelihood_coef=0.7)

    data = pytest.importorskip("datasets").Dataset.from_list(rows)
    objective = CUT(uncriticized_weight=1.0).objective
    cut = trainer(net, objective, data, tmp_path, batch_transform=transform)
    with torch.no_grad():
        bad = token_probabilities(net, "say one", "two bad no")
        good = token_probabilities(net, "say two", "two")
        prompt = "say one\nCritique of the answer: bad no"
        critiqued = token_probabilities(net, prompt, "two bad no")
    marked = critiqued > 1.2 * bad
    assert marked.any() and not marked.all()
    steps = len(bad) + len(good)
    unlikely = (0.7 * critiqued * (1.0 - bad).log())[marked]
    first = -(bad[~marked].log().sum() + good.log().sum() + unlikely.sum()) / steps
    second = -(critiqued.log().sum() + good.log().sum()) / steps
    loss = cut.compute_loss(net, FeedbackDataCollator(words())(rows)).detach()
    torch.testing.assert_close(loss, first + second, atol=1e-5, rtol=0)

    cut.train()
    terms = {"nll_loss", "unlikelihood_loss", "episode_nll_loss on critiqued"}
    assert {f"term/{name}" for name in terms} <= set(cut.state.log_history[0])


def test_marked_tokens_become_unlikely(tmp_path) -> None:
    """With marks in the rows, marked tokens become unlikely, all others likely."""
    net = model(words())
    nll = LossTerm(nll_loss, loss_kwargs={"step_subset": "appropriate"})
    objective = Objective((nll, LossTerm(unlikelihood_loss)))
    row = {"prompt": chat("say one"), "completion": "one bad no"}
    trainer(net, SFT, [row], tmp_path, max_steps=15).train()  # imitates the answer first
    with torch.no_grad():
        before = token_probabilities(net.eval(), "say one", "one bad no")
    rows = [{**row, "inappropriate": [False, True, True, False]}]
    trainer(net, objective, rows, tmp_path, max_steps=15).train()
    with torch.no_grad():
        after = token_probabilities(net.eval(), "say one", "one bad no")
    assert before[1] > 0.5 and (after[[1, 2]] < 0.1).all() and (after[[0, 3]] > 0.5).all()


@pytest.mark.full
def test_option_scores_of_a_teacher(tmp_path) -> None:
    """ADPA: demonstrations, and the teacher's advantage on answers of the student."""
    net, teacher, plain = model(words()), model(words(), 1), model(words(), 2)
    generated = {"prompt": chat("say two"), "completion": "no bad"}
    collated = FeedbackDataCollator(words())([generated])
    batch = FeedbackBatch(**{name: field[None] for name, field in collated.items()})
    with torch.no_grad():
        advantage = lm_output(teacher, batch).logits[0, 0] - lm_output(plain, batch).logits[0, 0]
    rows = [
        {**ANSWERS[0], "is_demonstration": True},
        {**generated, "is_demonstration": False, "option_score": advantage.tolist()},
    ]
    adpa = Objective(
        (
            LossTerm(nll_loss, loss_kwargs={"subset": "demonstration"}),
            LossTerm(expected_score_loss, 0.5, loss_kwargs={"subset": "generated"}),
            LossTerm(kl_loss, 0.01),
        )
    )

    def expected_score() -> float:
        with torch.no_grad():
            probability = lm_output(net.eval(), batch).logits[0, 0].exp()
        return float((probability * advantage).sum(-1).mean())

    first = expected_score()
    trained = trainer(net, adpa, rows, tmp_path, max_steps=20, reference_model=plain,
                      reference_logits=True)  # fmt: skip
    trained.train()
    assert logged(trained, "term/expected_score_loss")[0] == pytest.approx(-first, abs=1e-4)
    assert expected_score() > first + 1.0
    assert logged(trained, "term/nll_loss")[-1] < 0.5 * logged(trained, "term/nll_loss")[0]


@pytest.mark.full
def test_accumulated_gradients(tmp_path) -> None:
    """Two accumulated halves of equal length update weights as the whole batch does."""
    updated = []
    for name, size, steps in (("whole", 4, 1), ("halves", 2, 2)):
        net = model(words())
        rows = [{"prompt": chat("say one"), "completion": w} for w in ("two", "no", "yes", "bad")]
        plain = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 1e9}
        sizes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        trainer(net, SFT, rows, tmp_path / name, **plain, **sizes).train()
        updated.append(torch.cat([parameter.flatten() for parameter in net.parameters()]))
    assert not torch.equal(
        updated[0], torch.cat([p.flatten() for p in model(words()).parameters()])
    )
    torch.testing.assert_close(updated[0], updated[1], atol=1e-6, rtol=0)


@pytest.mark.full
def test_resumed_training(tmp_path) -> None:
    """A run stopped after three of six steps and resumed ends with the same weights."""
    whole, halves = model(words()), model(words())
    more = {"per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 3}
    trainer(whole, DPO, PAIRS, tmp_path / "whole", max_steps=6,
            reference_model=model(words()), **more).train()  # fmt: skip
    folder = tmp_path / "halves"
    trainer(halves, DPO, PAIRS, folder, max_steps=3, reference_model=model(words()), **more).train()
    resumed = trainer(model(words(), 9), DPO, PAIRS, folder, max_steps=6,
                      reference_model=model(words()), **more)  # fmt: skip
    resumed.train(resume_from_checkpoint=str(folder / "checkpoint-3"))
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_weights_are_merged(tmp_path) -> None:
    """Weight operators accept state dicts of language models, as stacks of one model."""
    one, other = model(words(), 0).state_dict(), model(words(), 1).state_dict()
    weight_sets = [{n: w[None] for n, w in weights.items()} for weights in (one, other)]
    merged = {name: weight[0] for name, weight in linear_merge(weight_sets, [3.0, 1.0]).items()}
    net = model(words(), 2)
    net.load_state_dict(merged)
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(weight, 0.75 * one[name] + 0.25 * other[name])


def test_invalid_arguments(tmp_path) -> None:
    objective = Objective((LossTerm(nll_loss, view="critiqd"),))
    rows = [{**ANSWERS[0], "critique": "bad"}]
    with refused("unknown_name", path="view"):
        trainer(model(words()), objective, rows, tmp_path).train()
    with refused("missing", path="reference_logp"):
        trainer(model(words()), DPO, PAIRS, tmp_path).train()
    with refused("invalid_value", path="reference_model"):
        trainer(model(words()), DPO, PAIRS, tmp_path, reference_model="adapter off")
    with refused("missing", path="reference_model"):
        trainer(model(words()), DPO, PAIRS, tmp_path, reference_model="adapters off").train()
