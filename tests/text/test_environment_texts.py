"""Text of every environment, role and phase: form, contents, and what replies are parsed to."""

from __future__ import annotations

import functools
import itertools
import math
import re
from typing import Any

import pytest
import torch

from mores.core.environment import Environment
from mores.core.plain_text import compact, decimal, percent
from mores.core.spaces import Box, Discrete, MultiDiscrete, Part
from mores.core.turn_text import decode_message, is_message_space
from mores.registry import class_of
from tests.conformance.environments import SHIPPED, TEST_ENVIRONMENTS
from tests.text.cases import CASES, LATENT, NOT_SHOWN, OF_TEXT, PARAMETERS
from tests.text.turns import Turn, random_turns

WORDED = ("principal_agent", 3)  # its catalogue is shown in words
ROUNDED = 0.0101  # numbers that differ less may give the same text
HOSTILE = (
    *("", " ", "0", "-1", "1.5", "nan", "inf", "1e400", "one", "1 or 2", "1 2 3 4 5 6 7 8 9"),
    *("option 1", "I choose 1.", "1) because", "{1}", "0x1", "1_0", "\u0661", "\uff11", "\x00"),
    *("__import__('os').system('true')", "<script>1</script>", "1\n\nHuman: 2", "%s", "$(1)"),
)


@functools.cache
def environment(kind: str, index: int) -> Environment[Any]:
    """The environment of a case."""
    return class_of("environment", kind)(**PARAMETERS[kind][index])


@functools.cache
def turns(kind: str, index: int) -> list[Turn]:
    """Turns of random agents in it."""
    return random_turns(environment(kind, index), rounds=3, worlds=2, seed=index)


def example_turns(kind: str, index: int) -> list[Turn]:
    """One turn of every role and phase."""
    return list({(turn.role, turn.phase): turn for turn in turns(kind, index)}.values())


def whole_text(turn: Turn) -> str:
    """All that the agent reads in a turn."""
    return "\n".join((turn.text.situation, turn.text.question, *turn.text.options))


def test_every_environment_has_cases() -> None:
    """Environments of the package with people or numbers in their turns have text, and cases."""
    own_text = {
        kind for kind in SHIPPED if class_of("environment", kind).describe != Environment.describe
    }
    assert own_text == set(SHIPPED)
    assert set(PARAMETERS) | set(OF_TEXT) == own_text


def check_form(turn: Turn) -> None:
    """The form of a turn's text fits the action."""
    text, space = turn.text, turn.space
    assert (text.situation + text.question).strip()
    if isinstance(space, Discrete):
        assert text.form == "choice"
        assert len(text.options) == space.num_options
        assert len(set(text.options)) == space.num_options
    elif is_message_space(space):
        assert text.form == "message"
    elif isinstance(space, MultiDiscrete):
        assert text.form == "numbers"
    else:
        assert text.form in ("numbers", "probabilities")
        if text.form == "probabilities":
            assert len(text.options) == space.size
    assert len(text.statements) in (0, len(text.options))
    assert text.options or not text.ordered


@pytest.mark.parametrize(("kind", "index"), CASES)
def test_form(kind: str, index: int) -> None:
    """The form of the text fits the action; the words are short, and whole."""
    env = environment(kind, index)
    for turn in turns(kind, index):
        check_form(turn)
    roles = [(role.name, env.role_rules(role.name)) for role in env.roles]
    for text in [rules for _, rules in roles] + [whole_text(t) for t in example_turns(kind, index)]:
        assert text
        assert not re.search(r"[{}_]|tensor|None|nan\b|  |\.\.|-0(\.0+)?(?![\d.])", text), text
        assert len(text.split()) <= 260
    assert all(rules.endswith(".") for _, rules in roles)


@pytest.mark.cut(2)
@pytest.mark.parametrize(("kind", "index"), CASES)
def test_observed_numbers_are_shown(kind: str, index: int) -> None:
    """Each observed number that is no bit is in the text or the rules, to the digits shown."""
    env = environment(kind, index)
    if (kind, index) == WORDED:
        return
    for turn in example_turns(kind, index):
        text = f"{env.role_rules(turn.role)}\n{whole_text(turn)}"
        numbers = set(re.findall(r"-?\d+(?:,\d{3})*(?:\.\d+)?(?: %)?", text))
        parts = space_of(env, turn).parts
        for name, seen in turn.seen(env).items():
            if (kind, turn.role, name) in NOT_SHOWN or is_bits(parts[name], seen):
                continue
            for number in seen:
                shown = {f(number) for f in (compact, percent, decimal)} | {decimal(number, 3)}
                shares = {decimal(number * (env_tasks(env) or 1), 0), counted(env, name, number)}
                found = (shown | shares) & numbers or "0" in shown
                assert found, (turn.role, turn.phase, name, number, text)


def counted(env: Any, name: str, number: float) -> str:
    """A share of audits, as their number."""
    return decimal(number * (getattr(env, "num_audits", None) or 1), 0)


def env_tasks(env: Any) -> int:
    """Number of tasks of `control`: the share that is done is shown as the next one."""
    return getattr(env, "num_tasks", 0)


def space_of(env: Environment[Any], turn: Turn) -> Box:
    """Observation space of the turn's role."""
    return next(r.observation_space for r in env.roles if r.name == turn.role)


def is_bits(part: Part, seen: list[float]) -> bool:
    """Whether a part consists of bits, which are shown in words."""
    return (part.low, part.high) == (0.0, 1.0) and set(seen) <= {0.0, 1.0}


@pytest.mark.cut(2)
@pytest.mark.parametrize(("kind", "index"), CASES)
def test_different_observations_have_different_texts(kind: str, index: int) -> None:
    """A turn with a part of another turn's observation has another text."""
    env = environment(kind, index)
    by_turn: dict[tuple[str, str], list[Turn]] = {}
    for turn in turns(kind, index):
        by_turn.setdefault((turn.role, turn.phase), []).append(turn)
    for (role, phase), own in by_turn.items():
        space = space_of(env, own[0])
        for first, second in itertools.islice(itertools.permutations(own[:12], 2), 40):
            for name in space.parts:
                if (kind, role, name) in NOT_SHOWN or (kind, index) == WORDED:
                    continue
                mixed = {n: space.read(first.observation, n) for n in space.parts}
                other = space.read(second.observation, name)
                if not bool(((mixed[name] - other).abs() > ROUNDED).any()):
                    continue
                observation = space.join(**{**mixed, name: other})
                text = env.describe(role, phase, observation, first.action_mask)
                assert text != first.text, (role, phase, name)


@pytest.mark.parametrize("kind", LATENT)
def test_latent_parameters_are_not_told(kind: str) -> None:
    """Rules and turns do not change with parameters that agents do not observe."""
    parameters = PARAMETERS[kind][0]
    for name, value in LATENT[kind].items():
        other = class_of("environment", kind)(**{**parameters, name: value})
        for role in environment(kind, 0).roles:
            assert other.role_rules(role.name) == environment(kind, 0).role_rules(role.name), name
        for turn in example_turns(kind, 0):
            args = (turn.role, turn.phase, turn.observation, turn.action_mask)
            assert other.describe(*args) == turn.text, name


def check_replies(env: Environment[Any], turn: Turn) -> None:
    """Numbers parse to their action; illegal, out-of-range and wordy replies to none."""
    mask, space = turn.action_mask, turn.space

    def parse(reply: str) -> Any:
        return env.parse_reply(turn.role, turn.phase, reply, mask)

    if isinstance(space, Discrete):
        for option in range(space.num_options):
            action = parse(f" {option + 1}\n")
            if mask is not None and not bool(mask[option]):
                assert action is None
            else:
                assert int(action) == option
        assert parse(str(space.num_options + 1)) is None
    elif isinstance(space, Box):
        finite = [(max(a, -1e5), min(b, 1e5)) for a, b in zip(space.low, space.high, strict=True)]
        for side in (0, 1):
            numbers = [limits[side] for limits in finite]
            reply = ", ".join(map(repr, numbers))
            torch.testing.assert_close(parse(reply), torch.tensor(numbers))
            assert parse(f"{reply} 1") is None
            assert parse(f"My answer: {reply}") is None
        for i, high in enumerate(space.high):
            if math.isfinite(high):
                outside = [str(high + 1 if j == i else b) for j, (_, b) in enumerate(finite)]
                assert parse(" ".join(outside)) is None
    for reply in HOSTILE:
        action = parse(reply)
        valid = reply in ("0", "-1", "1.5") and isinstance(space, Box) and space.size == 1
        assert action is None or valid or is_nine(reply, space), reply


def is_nine(reply: str, space: Any) -> bool:
    """Whether a reply of nine numbers is an action."""
    return isinstance(space, Box) and space.size == len(reply.split()) > 1


@pytest.mark.cut(2)
@pytest.mark.parametrize(("kind", "index"), CASES)
def test_replies(kind: str, index: int) -> None:
    """Every option and number is parsed to its action, and nothing else is."""
    for turn in example_turns(kind, index):
        check_replies(environment(kind, index), turn)


@pytest.mark.parametrize("kind", OF_TEXT)
def test_environments_of_text(kind: str) -> None:
    """Forms fit the actions; what is no message is parsed as strictly as elsewhere."""
    env = class_of("environment", kind)(**OF_TEXT[kind])
    examples = random_turns(env, rounds=1, worlds=1)
    for turn in {(turn.role, turn.phase): turn for turn in examples}.values():
        check_form(turn)
        if not is_message_space(turn.space):
            check_replies(env, turn)
            continue
        for reply in HOSTILE:  # data, kept as it is
            action = env.parse_reply(turn.role, turn.phase, reply, None)
            assert action is None or decode_message(action) == reply


@pytest.mark.parametrize("kind", TEST_ENVIRONMENTS)
def test_environments_without_text(kind: str) -> None:
    """The default names the parts of the observation, and its options."""
    env = TEST_ENVIRONMENTS[kind]()
    for turn in random_turns(env, rounds=2, worlds=1)[:40]:
        check_form(turn)
        check_replies(env, turn)
        if type(env).describe == Environment.describe:
            for name, seen in turn.seen(env).items():
                line = f"{name}: {' '.join(f'{x:.4g}' for x in seen)}"
                assert line in turn.text.situation.splitlines()
