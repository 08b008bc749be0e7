"""`environment_factory` of TRL: a model plays by tool calls, and is rewarded for what it did."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="an extra: pip install mores[hf]")

import trl
from transformers.utils.chat_template_utils import get_json_schema

from mores.agents.scripted.repeated_game import Strategy
from mores.clients import resolve
from mores.clients.trl_environment import INSTRUCTION, TRLEnvironments
from mores.core.random_streams import Worlds
from mores.core.turn_text import written_turn
from mores.envs.strategic.matrix_game import MatrixGame
from mores.sim.simulator import Simulator
from tests.refusals import refused
from tests.text.turns import random_turns

ROUNDS = 3
DILEMMA = MatrixGame()
TIT_FOR_TAT = {"player": Strategy(name="tit_for_tat")}


def environments(**more: Any) -> TRLEnvironments:
    kwargs = {"agent": "player_0", "rounds": ROUNDS, "policies": TIT_FOR_TAT, "seed": 1, **more}
    return TRLEnvironments(DILEMMA, **kwargs)


def test_calls_are_actions() -> None:
    """Texts and rewards are those of a simulator with the same actions."""
    environment = environments(metrics=["cooperation_rate"])()
    simulator = Simulator(
        DILEMMA,
        TIT_FOR_TAT,
        {"player": [0]},
        Worlds(torch.tensor([4]), torch.tensor([0])),
        ROUNDS,
    )
    simulator.reset(1)

    def question() -> str:
        return written_turn(DILEMMA.describe("player", "choose", simulator.observe("player")[0, 0]))

    text = environment.reset(world=4, prompt=[])
    assert text == "\n".join((DILEMMA.role_rules("player"), INSTRUCTION, question()))
    total = 0.0
    for action in (1, 0, 1):
        with refused("invalid_value", path="action"):
            environment.act("3")
        text = environment.act(str(action + 1))
        turn = simulator.step({"player": torch.tensor([[action]])})
        total += float(turn.reward["player"][0, 0])
        assert text == ("The episode is over." if simulator.all_finished else question())
        assert environment.get_reward() == pytest.approx(total)
    assert (environment.num_turns, environment.num_invalid_actions) == (3, 3)
    names = ["cooperation_rate"]
    expected = resolve.selected_metrics(simulator, simulator.state, names)
    assert environment.metrics == {name: expected[name][0].reshape(-1).tolist() for name in names}
    with refused("wrong_order"):
        environment.act("1")


def test_wrong_arguments() -> None:
    with refused("unknown_name", path="moral_hazard.roudns"):
        TRLEnvironments("moral_hazard", roudns=3)
    for world, code in (("x", "wrong_type"), (-1, "out_of_range"), (2**32, "out_of_range")):
        with refused(code, path="world"):
            environments()().reset(world=world)


def test_tool_has_a_schema() -> None:
    """TRL describes `act` to the model by its annotations and docstring."""
    schema = get_json_schema(environments()().act)["function"]
    assert schema["name"] == "act"
    assert schema["parameters"]["required"] == ["action"]
    assert schema["parameters"]["properties"]["action"]["type"] == "string"


# A tokenizer whose generation prompt opens a call of `act`: all that the model says is its action.
CALL, TOOL = "<call>", "<tool>"
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<' + message['role'] + '> ' }}"
    "{% if message.tool_calls %}{% for call in message.tool_calls %}"
    "{{ '<call> ' + call.function.name + ' ' + call.function.arguments | tojson + ' <end> ' }}"
    "{% endfor %}{% else %}{{ message['content'] + ' <end> ' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> <call> ' }}{% endif %}"
)
RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<assistant>",
    "fields": {
        "tool_calls": {
            "open": CALL,
            "close_pattern": r"<end>\s*",
            "repeats": True,
            "content": "text",
            "transform": {
                "type": "function",
                "function": {"name": "act", "arguments": {"action": "{content}"}},
            },
        },
        "content": {"close_pattern": r"<end>\s*", "content": "text"},
    },
}


@functools.cache
def words() -> tuple[str, ...]:
    """Words of the dilemma and numbers of its options."""
    turns = [written_turn(turn.text) for turn in random_turns(DILEMMA, rounds=4, worlds=4)]
    texts = ("1 2", CALL, TOOL, INSTRUCTION, DILEMMA.role_rules("player"), *turns)
    return tuple(" ".join(texts).split())


def tokenizer() -> Any:
    from tests.learners.tiny_language_model import tiny_tokenizer

    tokens = tiny_tokenizer(words())
    tokens.chat_template, tokens.response_template = TEMPLATE, RESPONSE
    return tokens


def only_actions(net: Any, tokens: Any) -> None:
    """Let the model generate `1`, `2` and the end of a reply alone: no other parameters of it."""
    allowed = tokens.convert_tokens_to_ids(["1", "2", "<end>"])
    head = net.lm_head
    forward = head.forward

    def masked(hidden: torch.Tensor) -> torch.Tensor:
        logits = forward(hidden)
        excluded = torch.full_like(logits, -1e4)
        excluded[..., allowed] = 0.0
        return logits + excluded

    head.forward = masked


@pytest.mark.full
def test_trainer_plays_whole_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rollout has its own world; rewards reach the loss, and the weights change."""
    from tests.learners.tiny_language_model import tiny_llama

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    logging.getLogger("trl").setLevel(logging.ERROR)
    tokens, made = tokenizer(), environments()
    net = tiny_llama(tokens, 0, max_positions=1024)
    only_actions(net, tokens)
    args = trl.GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=400,
        max_steps=2,
        logging_steps=1,
        beta=0.0,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        seed=0,
    )
    played: list[tuple[int, float]] = []

    def num_turns(environments: list[Any], **_: Any) -> list[float]:
        played.extend((each.num_turns, each.get_reward()) for each in environments)
        return [0.0] * len(environments)

    trainer = trl.GRPOTrainer(
        net,
        reward_funcs=num_turns,
        args=args,
        train_dataset=made.dataset(6),
        processing_class=tokens,
        environment_factory=made,
    )
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    trainer.train()
    assert len(played) == 8
    assert max(turns for turns, _ in played) == ROUNDS
    rewards = [log["rewards/TRLEnvironment/mean"] for log in trainer.state.log_history[:2]]
    expected = [sum(reward for _, reward in played[i : i + 4]) / 4 for i in (0, 4)]
    assert rewards == pytest.approx(expected, abs=1e-5)
    assert any(not weight.equal(before[name]) for name, weight in net.state_dict().items())
