"""Rollouts for TRL's GRPOTrainer: dialogues, tokens to learn from, and rewards."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mores.agents.language.causal_lm import lm_output
from mores.agents.language.lm_policy import DialogueBatch, DialoguePolicy
from mores.agents.language.prompting import Prompter
from mores.agents.language.token_layout import token_batch
from mores.agents.learning.losses import policy_gradient_loss
from mores.agents.scripted.repeated_game import Strategy
from mores.clients.trl import TRLRollouts
from mores.core.environment import with_text
from mores.core.random_streams import Worlds
from mores.core.turn_text import written_turn
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.envs.opinion.lock_in import LockIn
from mores.envs.opinion.survey import Survey
from mores.envs.strategic.matrix_game import MatrixGame
from mores.sim.simulator import Simulator
from tests.language.texts import logged, lora, settings
from tests.refusals import refused
from tests.text.turns import random_turns

pytest.importorskip("transformers")

DILEMMA = MatrixGame(continuation_probability=0.7)
DIGITS = "0 1 2 3 4 5 6 7 8 9"
TIT_FOR_TAT = {"player": Strategy(name="tit_for_tat")}
LM = DialoguePolicy()
NO_PAY = DialoguePolicy(Prompter(option_descriptions={"pay": ("no",)}))


@functools.cache
def words() -> tuple[str, ...]:
    """Words of the dilemma, and digits."""
    turns = [written_turn(turn.text) for turn in random_turns(DILEMMA, rounds=4, worlds=4)]
    return tuple(" ".join((DIGITS, DILEMMA.role_rules("player"), *turns)).split())


def tokenizer() -> Any:
    from tests.learners.tiny_language_model import tiny_tokenizer

    return tiny_tokenizer(words())


def model(seed: int = 0) -> Any:
    from tests.learners.tiny_language_model import tiny_llama

    return tiny_llama(tokenizer(), seed, max_positions=512)


def stub(net: Any, step: int = 0, temperature: float = 1.0) -> Any:
    """The attributes of a TRL trainer that rollouts read."""
    return SimpleNamespace(
        accelerator=SimpleNamespace(unwrap_model=lambda wrapped: wrapped, process_index=0),
        model_wrapped=net,
        model=net,
        processing_class=tokenizer(),
        state=SimpleNamespace(global_step=step),
        args=SimpleNamespace(temperature=temperature),
    )


def dilemma(**more: Any) -> TRLRollouts:
    """The repeated prisoner's dilemma against tit for tat, with random termination."""
    kwargs = {"agent": "player_0", "rounds": 3, "policies": TIT_FOR_TAT, **more}
    return TRLRollouts(DILEMMA, LM, **kwargs)


def never_ending(**more: Any) -> TRLRollouts:
    """The same without an end."""
    return TRLRollouts(MatrixGame(), LM, "player_0", policies=TIT_FOR_TAT, **more)


PROMPTS = [f"world {world}" for world in (3, 3, 3, 3, 5, 5, 5, 5)]
GROUPS = Worlds(torch.tensor([3] * 4 + [5] * 4), torch.zeros(8, dtype=torch.int64))


def actions_of(fields: dict[str, list[Any]], sample: int) -> list[int]:
    """Actions of a completion: the digits that the model generated, less 1."""
    generated = [
        token
        for token, mask in zip(
            fields["completion_ids"][sample], fields["env_mask"][sample], strict=True
        )
        if mask
    ]
    replies = tokenizer().convert_ids_to_tokens(generated)
    assert replies[1::2] == ["<end>"] * (len(replies) // 2)
    return [int(reply) - 1 for reply in replies[::2]]


def test_a_dialogue_is_one_prompt_and_one_completion() -> None:
    """At every turn the tokens so far are the conversation so far, in the environment's words.

    Tokens in the mask are the model's replies, as they were generated.
    """
    fields, tokens = dilemma()(PROMPTS, stub(model())), tokenizer()
    simulator = Simulator(DILEMMA, TIT_FOR_TAT, {"player": [0]}, GROUPS, 3)
    simulator.reset(0)
    messages: list[list[dict[str, str]]] = [[] for _ in PROMPTS]
    position = [0] * len(PROMPTS)
    actions = [actions_of(fields, i) for i in range(len(PROMPTS))]
    for turn in range(max(fields["num_turns"])):
        observation = simulator.observe("player")[:, 0]
        for i, own in enumerate(actions):
            if turn >= len(own):
                continue
            text = written_turn(DILEMMA.describe("player", "choose", observation[i]))
            text = text if turn else f"{DILEMMA.role_rules('player')}\n{text}"
            messages[i].append({"role": "user", "content": text})
            expected = tokens.apply_chat_template(messages[i], add_generation_prompt=True)
            reply = tokens.convert_tokens_to_ids([str(own[turn] + 1), "<end>"])
            ids, mask = fields["completion_ids"][i], fields["env_mask"][i]
            start = len(expected["input_ids"]) - len(fields["prompt_ids"][i])
            assert [*fields["prompt_ids"][i], *ids[:start]] == expected["input_ids"]
            assert ids[start : start + 2] == reply
            assert mask[position[i] : start + 2] == [0] * (start - position[i]) + [1, 1]
            position[i] = start + 2
            messages[i].append({"role": "assistant", "content": str(own[turn] + 1)})
        current = [[own[turn] if turn < len(own) else 0] for own in actions]
        simulator.step({"player": torch.tensor(current)})
    for i, end in enumerate(position):
        assert end == len(fields["completion_ids"][i]) == len(fields["env_mask"][i])
        assert end == len(fields["logprobs"][i])
        assert tokens.unk_token_id not in fields["prompt_ids"][i] + fields["completion_ids"][i]


def test_rewards_equal_those_of_the_simulator() -> None:
    """The same actions in a simulator have the same rewards and metrics."""
    fields = dilemma(metrics=["cooperation_rate"])(PROMPTS, stub(model()))
    assert len(set(fields["num_turns"])) > 1  # worlds end at different times
    simulator = Simulator(DILEMMA, TIT_FOR_TAT, {"player": [0]}, GROUPS, 3)
    simulator.reset(0)
    reward = torch.zeros(8, 2)
    for turn in range(max(fields["num_turns"])):
        actions = [actions_of(fields, i) for i in range(8)]
        current = torch.tensor([[a[turn] if turn < len(a) else 0] for a in actions])
        reward += simulator.step({"player": current}).reward["player"]
    assert simulator.all_finished
    assert fields["reward"] == reward[:, 0].tolist()
    assert fields["reward_player"] == reward.tolist()
    cooperation_rate = DILEMMA.metrics(simulator.state)["cooperation_rate"]
    assert fields["cooperation_rate"] == cooperation_rate.tolist()
    assert fields["num_invalid_actions"] == [0] * 8
    # The members of a group differ only by the actions of the model.
    for one in range(4):
        for other in range(4):
            if actions_of(fields, one) == actions_of(fields, other):
                assert fields["reward"][one] == fields["reward"][other]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probabilities_of_replies(temperature: float) -> None:
    """Those of the closed choice, from separate forward passes, one text at a time."""
    net = model()
    fields = dilemma()(PROMPTS[:3], stub(net, temperature=temperature))
    labels = [tokenizer().convert_tokens_to_ids([label, "<end>"]) for label in ("1", "2")]
    for sample in range(3):
        prompt, ids = fields["prompt_ids"][sample], fields["completion_ids"][sample]
        mask, logps = fields["env_mask"][sample], fields["logprobs"][sample]
        i = 0
        while i < len(ids):
            if not mask[i]:
                assert logps[i] == 0
                i += 1
                continue
            before = [*prompt, *ids[:i]]
            scores = []
            for label in labels:
                with torch.no_grad():
                    logits = net(torch.tensor([[*before, *label]])).logits[0, len(before) - 1 : -1]
                token_logps = (logits / temperature).log_softmax(-1)
                scores.append(float(token_logps[[0, 1], label].sum()))
            expected = torch.tensor(scores).log_softmax(0)[int(ids[i] == labels[1][0])]
            assert logps[i] == pytest.approx(float(expected), abs=1e-4)
            assert logps[i + 1] == pytest.approx(0.0, abs=1e-6)  # the end follows either way
            i += 2


def test_random_numbers() -> None:
    """A restart reproduces the replies of a step; other calls and steps have others."""
    rollouts, net = dilemma(), model()
    many = ["world 1"] * 32
    first, second = rollouts(many, stub(net)), rollouts(many, stub(net))
    assert dilemma()(many, stub(net)) == first
    assert dilemma()(many, stub(net, step=1))["completion_ids"] != first["completion_ids"]
    assert second["completion_ids"] != first["completion_ids"]
    net.train()
    assert dilemma()(many, stub(net))["completion_ids"] != first["completion_ids"]
    assert net.training
    # Each of 32 members cooperates in round 0 with probability p: a share beyond five standard
    # deviations occurs with probability 6e-7.
    label = torch.tensor(first["logprobs"][0][0]).exp()
    p = float(label if actions_of(first, 0)[0] == 0 else 1 - label)
    share = sum(actions_of(first, i)[0] == 0 for i in range(32)) / 32
    assert abs(share - p) < 5 * (p * (1 - p) / 32) ** 0.5


def test_two_agents_share_a_group() -> None:
    """Self-play: the model acts for both agents of each world, with a reward for each."""
    rollouts = dilemma(agent="player", policies=None)
    fields = rollouts(PROMPTS, stub(model()))
    for first in range(0, 8, 2):
        assert fields["reward_player"][first] == fields["reward_player"][first + 1]
        assert fields["reward"][first : first + 2] == fields["reward_player"][first]
    with refused("invalid_value", path="num_generations"):
        rollouts(["world 1"] * 3 + ["world 2"] * 3, stub(model()))


def test_rewards_by_principal() -> None:
    """Reward functions get an agent's feedback from each principal."""
    environment = TokenFeedback(
        num_principals=3,
        vocab_size=4,
        completion_length=2,
        num_prompt_features=1,
        num_completions=2,
    )
    rollouts = TRLRollouts(environment, LM, agent="assistant_1", rounds=2, metrics=["score"])
    fields = rollouts(["world 0"] * 3, stub(model()))
    assert [len(rewards) for rewards in fields["feedback_reward"]] == [3] * 3
    functions = [rollouts.reward_function("feedback_reward", index) for index in range(3)]
    rows = zip(*(function(**fields) for function in functions), strict=True)
    mean = [sum(row) / 3 for row in rows]
    assert mean == pytest.approx(fields["reward"], abs=1e-6)  # an agent earns their mean
    total = rollouts.reward_function("feedback_reward")(**fields)
    assert total == pytest.approx([3 * x for x in mean])
    assert rollouts.reward_function("feedback_reward", 2).__name__ == "feedback_reward_2"
    assert rollouts.reward_function("reward_assistant", 1)(**fields) == fields["reward"]


def test_principals_and_agents() -> None:
    """A principal acts in two phases of a round; rewards are given by role."""
    kwargs: dict[str, Any] = {"rounds": 2, "termination_probability": 0.0, "num_agents": 2}
    rollouts = TRLRollouts("moral_hazard", LM, "principal_0", **kwargs)
    fields = rollouts(["world 0"] * 4, stub(model(), temperature=5.0))
    assert fields["num_turns"] == [4] * 4 and fields["num_invalid_actions"] == [0] * 4
    assert all(len(rewards) == 2 for rewards in fields["reward_agent"])
    assert rollouts.reward_function("reward_principal", 0)(**fields) == fields["reward"]


def own_turns(ids: list[int], mask: list[bool]) -> list[tuple[int, list[int]]]:
    """End of each reply of the model, and its tokens."""
    replies, reply = [], []
    for i, (token, generated) in enumerate(zip([*ids, 0], [*mask, False], strict=True)):
        if generated:
            reply.append(token)
        elif reply:
            replies.append((i, reply))
            reply = []
    return replies


def test_free_replies() -> None:
    """Tokens are sampled from the model's distribution; invalid replies are counted."""
    net, max_new_tokens = model(), 4
    lm_policy = DialoguePolicy(closed_choice=False, max_new_tokens=max_new_tokens)
    rollouts = TRLRollouts(MatrixGame(), lm_policy, "player_0", 2, TIT_FOR_TAT)
    fields = rollouts(["world 0"] * 6, stub(net, temperature=0.8))
    end = tokenizer().eos_token_id
    for sample in range(6):
        prompt, ids = fields["prompt_ids"][sample], fields["completion_ids"][sample]
        mask = [bool(x) for x in fields["env_mask"][sample]]
        logp = lm_output(net, token_batch([prompt], [ids], [mask]), temperature=0.8).logp[0, 0]
        expected = torch.tensor(fields["logprobs"][sample])
        generated = torch.tensor(mask)
        torch.testing.assert_close(logp[generated].detach(), expected[generated], atol=1e-4, rtol=0)
        replies = own_turns(ids, mask)
        assert len(replies) == fields["num_turns"][sample] == 2
        texts = []
        for i, reply in replies:
            assert reply[-1] == end or (len(reply) == max_new_tokens and ids[i] == end)
            texts.append(tokenizer().decode(reply[: -1 if reply[-1] == end else None]))
        num_invalid = sum(text.strip() not in ("1", "2") for text in texts)
        assert fields["num_invalid_actions"][sample] == num_invalid
    assert sum(fields["num_invalid_actions"]) > 0


def test_numbers_for_a_box() -> None:
    """Replies to a box are free, even with closed_choice."""
    lm_policy = DialoguePolicy(max_new_tokens=3)
    rollouts = TRLRollouts(LockIn(num_people=2), lm_policy, "person_1", rounds=2)
    fields = rollouts(["world 0"] * 2, stub(model()))
    assert fields["num_turns"] == [2, 2]
    assert all(0 <= count <= 2 for count in fields["num_invalid_actions"])


def test_free_probabilities_are_those_of_the_turns_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question of a survey may have fewer options than its space has numbers."""
    survey = Survey.model_validate({"questions": ["anes96"], "num_people": 2})
    role, phase = with_text(survey, survey.roles[0]), survey.phases[0]
    space = role.observation_space
    questions = [min(survey.items, key=lambda each: len(each.options)), survey.items[0]]
    observation = torch.zeros(2, space.size)
    for row, question in zip(observation, questions, strict=True):
        space.read(row, "question").fill_(survey.items.index(question))
    numbers = [len(question.options) for question in questions]
    replies = [" ".join(["1", *"0" * (number - 1)]) for number in numbers]
    monkeypatch.setattr(DialogueBatch, "_free_replies", lambda self, dialogues, uniforms: replies)
    dialogues = LM.start_dialogues(model(), tokenizer(), role, 2)
    active = torch.ones(2, dtype=torch.bool)
    actions = dialogues.act(
        phase, observation, None, active, lambda _, draws: torch.zeros(2, draws)
    )
    assert min(numbers) < survey.max_options == actions.shape[1]
    assert actions[:, 0].tolist() == [1.0, 1.0] and actions.sum() == 2.0
    assert dialogues.unparsed == [0, 0]


# --- TRL's trainer ----------------------------------------------------------------------------


def grpo(net: Any, rollouts: TRLRollouts, rewards: Any, folder: Any, **more: Any) -> Any:
    trl = pytest.importorskip("trl")
    args = settings(
        folder,
        trl.GRPOConfig,
        **{
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 400,
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
def test_trl_trains_on_generated_tokens_only(tmp_path, adapters: bool) -> None:
    """TRL's gradient equals that of `policy_gradient_loss` on the same rollouts and masks."""
    net = lora(model()) if adapters else model()
    rollouts = dilemma()
    reward_calls: list[dict[str, Any]] = []

    def reward_of_agent_0(**fields: Any) -> list[float]:
        reward_calls.append(fields)
        return rollouts.reward_function("reward_player", 0)(**fields)

    rewards = [reward_of_agent_0, rollouts.reward_function("reward_player", 1)]
    trainer = grpo(net, rollouts, rewards, tmp_path, reward_weights=[1.0, 0.25])
    loss_inputs: list[dict[str, Any]] = []
    gradients: list[dict[str, torch.Tensor]] = []
    compute = trainer._compute_loss

    def recorded(wrapped: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = compute(wrapped, inputs)
        if not loss_inputs:
            loss_inputs.append(inputs)
            trained = {n: p for n, p in net.named_parameters() if p.requires_grad}
            grads = torch.autograd.grad(loss, list(trained.values()), retain_graph=True)
            gradients.append(dict(zip(trained, grads, strict=True)))
        return loss

    trainer._compute_loss = recorded
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    start = {n: p.detach().clone() for n, p in net.named_parameters()}
    trainer.train()
    assert any(not weight.equal(before[name]) for name, weight in net.state_dict().items())

    inputs = loss_inputs[0]
    generated, valid = inputs["tool_mask"].bool(), inputs["completion_mask"].bool()
    assert (~generated & valid).any()  # there are observations in between
    prompts = [row[mask.bool()].tolist() for row, mask in
               zip(inputs["prompt_ids"], inputs["prompt_mask"], strict=True)]  # fmt: skip
    completions = [row[m].tolist() for row, m in zip(inputs["completion_ids"], valid, strict=True)]
    masks = [row[m].tolist() for row, m in zip(generated, valid, strict=True)]
    batch = token_batch(prompts, completions, masks)
    digits = tokenizer().convert_tokens_to_ids(["1", "2", "<end>"])
    assert set(batch.action[batch.mask].tolist()) <= set(digits)

    reward = torch.tensor(reward_calls[0]["reward_player"])
    total = reward[:, 0] + 0.25 * reward[:, 1]
    groups = total.view(-1, 4)
    advantage = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
    # TRL shuffles samples before training.
    ours = zip(reward_calls[0]["completion_ids"], advantage.flatten().tolist(), strict=True)
    trl = zip(completions, inputs["advantages"].tolist(), strict=True)
    for (ids, expected), (trl_ids, trl_advantage) in zip(sorted(ours), sorted(trl), strict=True):
        assert ids == trl_ids and trl_advantage == pytest.approx(expected, abs=1e-4)
    by_step = inputs["advantages"][None, :, None].expand_as(batch.mask).contiguous()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(start[name])
    loss = policy_gradient_loss(
        lm_output(net, batch), batch.replace(advantage=by_step), clip_mode="none"
    )
    trained = {n: p for n, p in net.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss.sum(), list(trained.values()))
    largest = max(float(grad.abs().max()) for grad in grads)
    assert largest > 0
    for name, grad in zip(trained, grads, strict=True):
        torch.testing.assert_close(grad, gradients[0][name], atol=1e-4 * largest, rtol=0)
    assert set(trainer.state.log_history[0]) >= {
        "rewards/reward_of_agent_0/mean",
        "rewards/reward_player_1/mean",
    }


@pytest.mark.full
def test_a_model_learns_to_defect(tmp_path) -> None:
    """Against an opponent that always cooperates, defection earns 5 per round instead of 3."""
    net = model()
    opponent = {"player": Strategy(name="cooperator")}
    rollouts = TRLRollouts(MatrixGame(memory_depth=0), LM, "player_0", 2, opponent)
    trainer = grpo(net, rollouts, rollouts.reward_function("reward"), tmp_path, max_steps=25,
                   per_device_train_batch_size=16, num_generations=16)  # fmt: skip
    trainer.train()
    reward = logged(trainer, "rewards/reward/mean")
    assert reward[0] < 9.0 and reward[-1] > 9.7  # of 10


@pytest.mark.parametrize(
    ("make", "code", "path"),
    [
        (lambda: TRLRollouts("matrix_gme", LM), "unknown_name", None),
        (lambda: TRLRollouts("moral_hazard", LM, "principl_0"), "unknown_name", "agent"),
        (lambda: TRLRollouts("moral_hazard", LM, "agent_7"), "out_of_range", "agent"),
        (lambda: TRLRollouts("moral_hazard", LM, rounds=0), "out_of_range", "rounds"),
        (lambda: dilemma()(["play on"], stub(model())), "invalid_value", "prompt"),
        (lambda: TRLRollouts("moral_hazard", LM, roudns=3), "unknown_name", "moral_hazard.roudns"),
        (lambda: TRLRollouts("moral_hazard", None), "wrong_type", "lm_policy"),
        (lambda: dilemma().dataset(0), "out_of_range", "worlds"),
        (lambda: dilemma().dataset("x"), "wrong_type", "worlds"),
        (lambda: dilemma().dataset([1.5]), "wrong_type", "worlds"),
        (lambda: never_ending(rounds=20)(PROMPTS, stub(model(seed=3))), "too_large", "rounds"),
        (lambda: dilemma(metrics=["payof"]), "unknown_name", "metrics"),
        (lambda: dilemma(metrics="payoff"), "wrong_type", "metrics"),
        (lambda: dilemma().reward_function("rewrd")(reward=[1.0]), "unknown_name", "rewrd"),
        (lambda: dilemma().reward_function("reward", 1)(reward=[1.0]), "conflict", "index"),
        (lambda: dilemma().reward_function("reward", 2)(reward=[[1, 2]]), "out_of_range", "index"),
        (
            lambda: TRLRollouts("moral_hazard", NO_PAY, "principal_0"),
            "wrong_shape",
            "option_descriptions.pay",
        ),
    ],
)
def test_invalid_arguments(make: Any, code: str, path: str | None) -> None:
    with refused(code, path=path) as caught:
        make()
    assert "\n" not in str(caught.value)
