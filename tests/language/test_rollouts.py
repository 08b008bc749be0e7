"""Games played by a model that TRL's GRPOTrainer trains: what is said, learned from, and earned."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mores.agents.language.causal_lm import lm_output
from mores.agents.language.lm_policy import DialoguePolicy
from mores.agents.language.prompting import Prompter
from mores.agents.language.token_layout import token_batch
from mores.agents.learning.losses import policy_gradient_loss
from mores.agents.scripted.repeated_game import Strategy
from mores.clients.trl import TRLRollouts
from mores.core.random_streams import Worlds
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.envs.opinion.lock_in import LockIn
from mores.envs.strategic.matrix_game import MatrixGame
from mores.sim.simulator import Simulator
from tests.language.texts import logged, lora, settings
from tests.refusals import refused

pytest.importorskip("transformers")

TOLD = "You play the role of player. phase choose own: others: begun: options: 0 1 Answer with the"
SAID = "number of an option. numbers: report: 2 3 from to inf . -1e+06 1e+06 0.5"
DEFECT = {"player": Strategy(name="tit_for_tat")}


def tokenizer() -> Any:
    from tests.learners.tiny_language_model import tiny_tokenizer

    return tiny_tokenizer(f"{TOLD} {SAID}".split())


def model(seed: int = 0) -> Any:
    from tests.learners.tiny_language_model import tiny_llama

    return tiny_llama(tokenizer(), seed)


def host(net: Any, step: int = 0, temperature: float = 1.0) -> Any:
    """As much of a TRL trainer as rollouts ask for."""
    return SimpleNamespace(
        accelerator=SimpleNamespace(unwrap_model=lambda wrapped: wrapped, process_index=0),
        model_wrapped=net,
        model=net,
        processing_class=tokenizer(),
        state=SimpleNamespace(global_step=step),
        args=SimpleNamespace(temperature=temperature),
    )


def dilemma(**more: Any) -> TRLRollouts:
    """The repeated prisoner's dilemma against tit for tat, which ends by chance."""
    given = {"seat": "player_0", "rounds": 3, "players": DEFECT, **more}
    return TRLRollouts(MatrixGame(continuation_probability=0.7), DialoguePolicy(), **given)


PROMPTS = [f"world {world}" for world in (3, 3, 3, 3, 5, 5, 5, 5)]


def acts_of(found: dict[str, list[Any]], sample: int) -> list[int]:
    """What a completion did: the digits that the model itself said."""
    own = [
        token
        for token, mask in zip(
            found["completion_ids"][sample], found["env_mask"][sample], strict=True
        )
        if mask
    ]
    words = tokenizer().convert_ids_to_tokens(own)
    assert words[1::2] == ["<end>"] * (len(words) // 2)
    return [int(word) for word in words[::2]]


def test_a_dialogue_is_one_prompt_and_one_completion() -> None:
    """Put together, the tokens are the conversation; masked, they are the model's own words."""
    found = dilemma()(PROMPTS, host(model()))
    for sample in range(len(PROMPTS)):
        ids = found["completion_ids"][sample]
        assert len(ids) == len(found["env_mask"][sample]) == len(found["logprobs"][sample])
        acts = acts_of(found, sample)
        assert len(acts) == found["turns"][sample]
        text = tokenizer().decode([*found["prompt_ids"][sample], *ids])
        assert text.startswith("<user> You play the role of player. phase choose own: 0 0 others:")
        turns = [turn.split(" <end>")[0] for turn in text.split("<assistant> ")[1:]]
        assert turns == [str(act) for act in acts]
        own = [line.split("own: ")[1].split(" others:")[0] for line in text.split("<user> ")[2:]]
        assert own == [("1 0", "0 1")[act] for act in acts[:-1]]  # it is told what it did last


def test_pay_is_that_of_the_table() -> None:
    """The same acts at a table of the game's own earn the same, and measure the same."""
    found = dilemma(measures=["cooperations"])(PROMPTS, host(model()))
    assert len(set(found["turns"])) > 1  # worlds end at different times
    worlds = Worlds(torch.tensor([3] * 4 + [5] * 4), torch.zeros(8, dtype=torch.int64))
    table = Simulator(MatrixGame(continuation_probability=0.7), DEFECT, {"player": [0]}, worlds, 3)
    table.reset(0)
    pay = torch.zeros(8, 2)
    for turn in range(max(found["turns"])):
        acts = [acts_of(found, i) for i in range(8)]
        now = torch.tensor([[done[turn] if turn < len(done) else 0] for done in acts])
        pay += table.step({"player": now}).reward["player"]
    assert table.all_finished
    assert found["pay"] == pay[:, 0].tolist()
    assert found["pay_player"] == pay.tolist()
    shares = table.environment.metrics(table.state)["cooperations"]
    assert found["cooperations"] == shares.tolist()
    assert found["unread"] == [0] * 8
    # The members of a group differ by what the model did, and by nothing else.
    for one in range(4):
        for other in range(4):
            if acts_of(found, one) == acts_of(found, other):
                assert found["pay"][one] == found["pay"][other]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probabilities_of_what_was_said(temperature: float) -> None:
    """Those of the closed choice, from forward passes of our own, one text at a time."""
    net = model()
    found = dilemma()(PROMPTS[:3], host(net, temperature=temperature))
    labels = [tokenizer().convert_tokens_to_ids([label, "<end>"]) for label in ("0", "1")]
    for sample in range(3):
        prompt, ids = found["prompt_ids"][sample], found["completion_ids"][sample]
        mask, logps = found["env_mask"][sample], found["logprobs"][sample]
        at = 0
        while at < len(ids):
            if not mask[at]:
                assert logps[at] == 0
                at += 1
                continue
            before = [*prompt, *ids[:at]]
            scores = []
            for label in labels:
                with torch.no_grad():
                    logits = net(torch.tensor([[*before, *label]])).logits[0, len(before) - 1 : -1]
                chances = (logits / temperature).log_softmax(-1)
                scores.append(float(chances[[0, 1], label].sum()))
            expected = torch.tensor(scores).log_softmax(0)[int(ids[at] == labels[1][0])]
            assert logps[at] == pytest.approx(float(expected), abs=1e-4)
            assert logps[at + 1] == pytest.approx(0.0, abs=1e-6)  # the end follows either way
            at += 2


def test_chance() -> None:
    """The same step says the same again after a restart; the next call and step say otherwise."""
    rollouts, net = dilemma(), model()
    many = ["world 1"] * 32
    first, second = rollouts(many, host(net)), rollouts(many, host(net))
    assert dilemma()(many, host(net)) == first
    assert dilemma()(many, host(net, step=1))["completion_ids"] != first["completion_ids"]
    assert second["completion_ids"] != first["completion_ids"]
    net.train()
    assert dilemma()(many, host(net))["completion_ids"] != first["completion_ids"]
    assert net.training
    # 32 members, of which each cooperates at first with probability p: a share beyond five
    # standard deviations comes up with probability 6e-7.
    label = torch.tensor(first["logprobs"][0][0]).exp()
    chance = float(label if acts_of(first, 0)[0] == 0 else 1 - label)
    share = sum(acts_of(first, i)[0] == 0 for i in range(32)) / 32
    assert abs(share - chance) < 5 * (chance * (1 - chance) / 32) ** 0.5


def test_two_seats_share_a_group() -> None:
    """Self-play: the model sits at both seats of each world, and the seats' pays are theirs."""
    rollouts = dilemma(seat="player", players=None)
    found = rollouts(PROMPTS, host(model()))
    for first in range(0, 8, 2):
        assert found["pay_player"][first] == found["pay_player"][first + 1]
        assert [found["pay"][first], found["pay"][first + 1]] == found["pay_player"][first]
    with refused("invalid_value", path="num_generations"):
        rollouts(["world 1"] * 3 + ["world 2"] * 3, host(model()))


def test_rewards_by_principal() -> None:
    """What a game's feedback tells a seat of each principal reaches reward functions."""
    game = TokenFeedback(
        num_principals=3,
        vocab_size=4,
        completion_length=2,
        num_prompt_features=1,
        num_completions=2,
    )
    rollouts = TRLRollouts(game, DialoguePolicy(), agent="assistant_1", rounds=2, metrics=["score"])
    found = rollouts(["world 0"] * 3, host(model()))
    assert [len(told) for told in found["told_reward"]] == [3] * 3
    by_place = [rollouts.reward_function("told_reward", place)(**found) for place in range(3)]
    mean = [sum(row) / 3 for row in zip(*by_place, strict=True)]
    assert mean == pytest.approx(found["pay"], abs=1e-6)  # a seat earns their mean
    assert rollouts.reward_function("told_reward")(**found) == pytest.approx([3 * x for x in mean])
    assert rollouts.reward_function("told_reward", 2).__name__ == "told_reward_2"
    assert rollouts.reward_function("pay_assistant", 1)(**found) == found["pay"]


def test_principals_and_agents() -> None:
    """A principal acts in two phases of a deal; everybody's pay is told by role."""
    rollouts = TRLRollouts(
        "commission", DialoguePolicy(), "principal_0", rounds=2, quits=0.0, agents=2
    )
    found = rollouts(["world 0"] * 4, host(model(), temperature=5.0))
    assert found["turns"] == [4] * 4 and found["unread"] == [0] * 4
    assert all(len(earned) == 2 for earned in found["pay_agent"])
    assert rollouts.reward_function("pay_principal", 0)(**found) == found["pay"]


def own_turns(ids: list[int], mask: list[bool]) -> list[tuple[int, list[int]]]:
    """Where each reply of the model's ended, and its tokens."""
    replies, reply = [], []
    for at, (token, own) in enumerate(zip([*ids, 0], [*mask, False], strict=True)):
        if own:
            reply.append(token)
        elif reply:
            replies.append((at, reply))
            reply = []
    return replies


def test_free_replies() -> None:
    """Sampled token by token by the model's own distribution; what cannot be read is counted."""
    net, longest = model(), 4
    rollouts = TRLRollouts(
        MatrixGame(),
        DialoguePolicy(closed_choice=False, max_new_tokens=longest),
        "player_0",
        2,
        DEFECT,
    )
    found = rollouts(["world 0"] * 6, host(net, temperature=0.8))
    end = tokenizer().eos_token_id
    for sample in range(6):
        prompt, ids = found["prompt_ids"][sample], found["completion_ids"][sample]
        mask = [bool(own) for own in found["env_mask"][sample]]
        said = lm_output(net, token_batch([prompt], [ids], [mask]), temperature=0.8).logp[0, 0]
        expected = torch.tensor(found["logprobs"][sample])
        own = torch.tensor(mask)
        torch.testing.assert_close(said[own].detach(), expected[own], atol=1e-4, rtol=0)
        replies = own_turns(ids, mask)
        assert len(replies) == found["turns"][sample] == 2
        texts = []
        for at, reply in replies:
            assert reply[-1] == end or (len(reply) == longest and ids[at] == end)
            texts.append(tokenizer().decode(reply[: -1 if reply[-1] == end else None]))
        assert found["unread"][sample] == sum(text.strip() not in ("0", "1") for text in texts)
    assert sum(found["unread"]) > 0


def test_numbers_for_a_box() -> None:
    """A game of numbers is answered freely, even where choices are closed."""
    rollouts = TRLRollouts(
        LockIn(num_people=2), DialoguePolicy(max_new_tokens=3), "person_1", rounds=2
    )
    found = rollouts(["world 0"] * 2, host(model()))
    assert found["turns"] == [2, 2]
    assert all(0 <= unread <= 2 for unread in found["unread"])


# --- TRL's own trainer ------------------------------------------------------------------------


def grpo(net: Any, rollouts: TRLRollouts, rewards: Any, folder: Any, **more: Any) -> Any:
    trl = pytest.importorskip("trl")
    args = settings(
        folder,
        trl.GRPOConfig,
        **{
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 100,
            "beta": 0.0,
            "max_steps": 2,
            **more,
        },
    )
    return trl.GRPOTrainer(
        net,
        rewards,
        args,
        train_dataset=rollouts.dataset(6),
        processing_class=tokenizer(),
        rollout_func=rollouts,
    )


@pytest.mark.parametrize("adapters", [False, True])
def test_trl_trains_on_the_models_own_tokens_only(tmp_path, adapters: bool) -> None:
    """TRL's gradient is that of our `policy_gradient_loss` term on the same rollouts with the mask of rollouts."""
    net = lora(model()) if adapters else model()
    rollouts = dilemma()
    heard: list[dict[str, Any]] = []

    def pay_of_seat_0(**given: Any) -> list[float]:
        heard.append(given)
        return rollouts.reward_function("pay_player", 0)(**given)

    rewards = [pay_of_seat_0, rollouts.reward_function("pay_player", 1)]
    trainer = grpo(net, rollouts, rewards, tmp_path, reward_weights=[1.0, 0.25])
    seen: list[dict[str, Any]] = []
    gradients: list[dict[str, torch.Tensor]] = []
    compute = trainer._compute_loss

    def watched(of: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = compute(of, inputs)
        if not seen:
            seen.append(inputs)
            learning = {n: p for n, p in net.named_parameters() if p.requires_grad}
            found = torch.autograd.grad(loss, list(learning.values()), retain_graph=True)
            gradients.append(dict(zip(learning, found, strict=True)))
        return loss

    trainer._compute_loss = watched
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    start = {n: p.detach().clone() for n, p in net.named_parameters()}
    trainer.train()
    assert any(not weight.equal(before[name]) for name, weight in net.state_dict().items())

    inputs = seen[0]
    own, real = inputs["tool_mask"].bool(), inputs["completion_mask"].bool()
    assert (~own & real).any()  # the model was told something in between
    prompts = [row[mask.bool()].tolist() for row, mask in
               zip(inputs["prompt_ids"], inputs["prompt_mask"], strict=True)]  # fmt: skip
    completions = [row[m].tolist() for row, m in zip(inputs["completion_ids"], real, strict=True)]
    said = [row[m].tolist() for row, m in zip(own, real, strict=True)]
    batch = token_batch(prompts, completions, said)
    digits = tokenizer().convert_tokens_to_ids(["0", "1", "<end>"])
    assert set(batch.action[batch.mask].tolist()) <= set(digits)

    pay = torch.tensor(heard[0]["pay_player"])
    total = pay[:, 0] + 0.25 * pay[:, 1]
    groups = total.view(-1, 4)
    advantage = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
    # TRL shuffles samples before it learns from them.
    given = zip(heard[0]["completion_ids"], advantage.flatten().tolist(), strict=True)
    used = zip(completions, inputs["advantages"].tolist(), strict=True)
    for (ids, expected), (others, found) in zip(sorted(given), sorted(used), strict=True):
        assert ids == others and found == pytest.approx(expected, abs=1e-4)
    by_step = inputs["advantages"][None, :, None].expand_as(batch.mask).contiguous()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(start[name])
    loss = policy_gradient_loss(
        lm_output(net, batch), batch.replace(advantage=by_step), clip_mode="none"
    )
    learning = {n: p for n, p in net.named_parameters() if p.requires_grad}
    ours = torch.autograd.grad(loss.sum(), list(learning.values()))
    largest = max(float(found.abs().max()) for found in ours)
    assert largest > 0
    for name, found in zip(learning, ours, strict=True):
        torch.testing.assert_close(found, gradients[0][name], atol=1e-4 * largest, rtol=0)
    assert set(trainer.state.log_history[0]) >= {
        "rewards/pay_of_seat_0/mean",
        "rewards/pay_player_1/mean",
    }


@pytest.mark.slow
def test_a_model_learns_to_defect(tmp_path) -> None:
    """Against one who always cooperates, defecting earns 5 a round in place of 3."""
    net = model()
    rollouts = TRLRollouts(
        MatrixGame(memory_depth=0),
        DialoguePolicy(),
        "player_0",
        2,
        {"player": Strategy(name="cooperator")},
    )
    trainer = grpo(net, rollouts, rollouts.reward_function("pay"), tmp_path, max_steps=25,
                   per_device_train_batch_size=16, num_generations=16)  # fmt: skip
    trainer.train()
    earned = logged(trainer, "rewards/pay/mean")
    assert earned[0] < 9.0 and earned[-1] > 9.7  # of 10


@pytest.mark.parametrize(
    ("make", "code", "path"),
    [
        (lambda: TRLRollouts("matrix_gme", DialoguePolicy()), "unknown_name", None),
        (lambda: TRLRollouts("commission", DialoguePolicy(), "principl_0"), "unknown_name", "seat"),
        (lambda: TRLRollouts("commission", DialoguePolicy(), "agent_7"), "out_of_range", "seat"),
        (lambda: TRLRollouts("commission", DialoguePolicy(), rounds=0), "out_of_range", "rounds"),
        (lambda: dilemma()(["play on"], host(model())), "invalid_value", "prompt"),
        (lambda: dilemma().dataset(0), "out_of_range", "worlds"),
        (lambda: dilemma(rounds=9)(PROMPTS, host(model(seed=3))), "too_large", "rounds"),
        (lambda: dilemma(measures=["payof"])(PROMPTS, host(model())), "unknown_name", "measures"),
        (lambda: dilemma().reward_function("pai")(pay=[1.0]), "unknown_name", "pai"),
        (lambda: dilemma().reward_function("pay", 1)(pay=[1.0]), "conflict", "place"),
        (
            lambda: dilemma().reward_function("pay_player", 2)(pay_player=[[1.0, 2.0]]),
            "out_of_range",
            "place",
        ),
        (
            lambda: TRLRollouts(
                "commission",
                DialoguePolicy(Prompter(option_descriptions={"pay": ("no",)})),
                "principal_0",
            ),
            "wrong_shape",
            "options.pay",
        ),
    ],
)
def test_what_cannot_be(make: Any, code: str, path: str | None) -> None:
    with refused(code, path=path) as caught:
        make()
    assert "\n" not in str(caught.value)
