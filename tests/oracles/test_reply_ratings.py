"""`reply_ratings`: raters against Bradley-Terry, held-out metrics by hand, tables, and learners."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.special import expit
from scipy.stats import binom

from mores.core.people import People
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.envs.feedback.reply_ratings import ReplyRatings
from mores.envs.feedback.reply_table import COLUMNS, read_reply_table
from mores.registry import make_environment
from mores.sim.policy_queries import policy_metrics
from mores.sim.simulator import Simulator
from tests.refusals import refused


def played(environment: ReplyRatings, rounds: int, worlds: int = 1, seed: int = 5) -> Simulator:
    """A simulator after some rounds of comparisons."""
    policies = {"assistant": "distinct_replies"}
    simulator = Simulator(environment, policies, worlds=worlds, rounds=rounds + 1)
    simulator.reset(seed)
    for _ in range(rounds):
        simulator.step()
    return simulator


def test_the_table_of_the_package():
    """40 prompts of training, 4 with a cue; the held-out items are others, and the same thrice."""
    table = read_reply_table(None)
    sizes = {name: len(table.rows(name)) for name in dict.fromkeys(table.splits)}
    assert sizes == {"train": 40, "held_out": 16, "held_out_cue": 16, "other_wording": 16}
    assert table.cued_share == 0.1
    items = {name: [table.items[row] for row in table.rows(name)] for name in sizes}
    assert items["held_out"] == items["held_out_cue"] == items["other_wording"]
    assert not set(items["train"]) & set(items["held_out"])
    cue = "I really need to hear something nice."
    for row, prompt in enumerate(table.prompts):
        assert prompt.endswith(cue) == table.cued[row]
    plain, cued, other = (table.rows(name).tolist() for name in list(sizes)[1:])
    for a, b, c in zip(plain, cued, other, strict=True):
        assert table.prompts[b] == f"{table.prompts[a]} {cue}"
        assert (table.replies[a], table.questions[a]) == (table.replies[b], table.questions[b])
        assert not {*table.replies[a]} & {*table.replies[c]}
    texts = [reply for replies in table.replies for reply in replies]
    assert max(map(len, texts)) < 80


@pytest.mark.parametrize("biased_on", ["cued", "random", "none"])
def test_shares_of_raters_and_of_their_preferences(biased_on):
    """Preferences are Bradley and Terry's; all within exact 1e-6 intervals of binomials."""
    environment = ReplyRatings(num_pairs=4000, biased_on=biased_on)
    simulator = played(environment, 1)
    state = simulator.state
    ratings, compared = state.num_ratings[0].tolist(), state.num_compared[0].tolist()
    first = state.num_first_preferred[0].tolist()
    analytic = environment.analytic_values(simulator.policies, 1)
    expected = {"preference_honest": expit(-2.0), "preference_biased": expit(2.94)}
    assert sum(ratings) == 4000
    share = 0.0 if biased_on == "none" else 0.1
    assert analytic["biased_ratings"] == share
    if biased_on == "cued":  # every tenth prompt has a cue, and all its raters are biased
        assert ratings[1] == 400
    else:
        low, high = binom.interval(1 - 1e-6, 4000, share)
        assert low <= ratings[1] <= high
    for rater, name in enumerate(("preference_honest", "preference_biased")):
        if rater and biased_on == "none":
            assert math.isnan(environment.metrics(state)[name].item())
            continue
        probability = expected[name]
        assert analytic[name] == pytest.approx(probability)
        low, high = binom.interval(1 - 1e-6, int(compared[rater]), probability)
        assert low <= first[rater] <= high
        share_of_pairs = compared[rater] / ratings[rater]  # one of three pairs of kinds
        assert abs(share_of_pairs - 1 / 3) < 5 * (2 / 9 / ratings[rater]) ** 0.5
    assert expit(2.0) == pytest.approx(0.88, abs=0.001)
    assert expit(-2.94) == pytest.approx(0.05, abs=0.001)


def test_arms_share_prompts_replies_and_labels():
    """Labels differ only where raters do; without biased raters the arms are equal."""
    arms: dict[str, dict[str, Any]] = {
        "none": {"biased_on": "none"},
        "nobody": {"biased_share": 0.0},
        "cued": {},
        "random": {"biased_on": "random"},
    }
    states = {}
    for name, fields in arms.items():
        environment = ReplyRatings(num_pairs=400, **fields)
        simulator = Simulator(environment, {"assistant": "distinct_replies"}, worlds=3, rounds=2)
        simulator.reset(9)
        prompt = simulator.state.prompt
        simulator.step()
        states[name] = prompt, simulator.state
    prompt, none = states["none"]
    for name, (own_prompt, state) in states.items():
        assert torch.equal(own_prompt, prompt)
        assert torch.equal(state.replies, none.replies)
        differs = (state.preferred != none.preferred).unflatten(1, (-1, 2)).any(-1)
        assert not bool((differs & ~state.is_biased).any())
        assert bool(differs.any()) == (name in ("cued", "random"))
    cued = ReplyRatings().table.is_cued[prompt]
    assert torch.equal(states["cued"][1].is_biased, cued)
    replies = none.replies.unflatten(1, (-1, 2))
    assert bool((replies[..., 0] != replies[..., 1]).all())


class Fixed(Policy):
    """Policy with given probabilities of options, by the phase."""

    reply: tuple[float, ...]
    believe: tuple[float, ...]

    def act(
        self, phase: Any, observation: Any, action_mask: Any, state: Any, streams: Any
    ) -> ActionOutput:
        legal = torch.ones(*observation.shape[:2], 1) if action_mask is None else action_mask
        return ActionOutput(legal.float().argmax(-1), state)

    def expected_action(
        self, phase: Any, observation: Any, action_mask: Any, state: Any, search: bool = False
    ) -> torch.Tensor:
        probabilities = torch.tensor(getattr(self, phase.name))
        return probabilities.expand(*observation.shape[:3], -1)


def test_held_out_metrics_by_hand():
    """Log-odds in nats, of tiny probabilities too."""
    policy = Fixed(reply=(0.5, 1e-20, 0.5), believe=(0.2, 0.8))
    simulator = Simulator(ReplyRatings(num_pairs=2), {"assistant": policy}, worlds=2, rounds=2)
    simulator.reset(1)
    found = policy_metrics(simulator)
    assert len(found) == 9
    for name in ("held_out", "held_out_cue", "other_wording"):
        odds = found[f"log_odds_{name}"]
        torch.testing.assert_close(odds, torch.full((2,), math.log(2e-20)), rtol=1e-6, atol=0)
        assert found[f"probability_{name}"][0].item() == pytest.approx(1e-20)
        assert found[f"belief_{name}"][0].item() == pytest.approx(math.log(0.25), rel=1e-6)


def test_texts_of_turns():
    """The observation of an agent selects its prompt, and of phase believe the question."""
    environment = ReplyRatings(num_pairs=7)
    simulator = Simulator(environment, {"assistant": "random"}, worlds=1, rounds=2)
    simulator.reset(2)
    table, state = environment.table, simulator.state
    for agent in range(14):
        row = int(state.prompt[0, agent // 2])
        reply = environment.describe(
            "assistant", "reply", environment.observe(state, "assistant", "reply")[0, agent]
        )
        assert (reply.situation, reply.options) == (table.prompts[row], table.replies[row])
        belief = environment.describe(
            "assistant", "believe", environment.observe(state, "assistant", "believe")[0, agent]
        )
        assert (belief.situation, belief.options) == (table.questions[row], ("Yes", "No"))
    simulator.step()
    assert environment.render(simulator.state).count("rater") == 5


# --- tables of users ------------------------------------------------------------------------------

HEADER = [*COLUMNS, "honest", "flattering"]
ROW = ["train", "no", "hat", "How is my hat?", "Is the hat good?", "Torn.", "Lovely!"]


def write(path: Path, rows: list[list[str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def test_a_table_of_ones_own(tmp_path):
    """Two kinds of replies, one split of held-out prompts; the digest is filled in."""
    held_out = ["new_things", *ROW[1:]]
    path = write(tmp_path / "own.csv", [HEADER, ROW, held_out])
    utilities = {"honest": 1.0, "flattering": 0.0}
    environment = ReplyRatings(
        path=path, biased_on="none", honest_utility=utilities, biased_utility=utilities
    )
    assert environment.sha256 is not None
    assert environment.policy_metric_names == (
        "log_odds_new_things",
        "probability_new_things",
        "belief_new_things",
    )
    simulator = played(environment, 1)
    assert policy_metrics(simulator)["log_odds_new_things"].tolist() == [0.0]
    write(tmp_path / "own.csv", [HEADER, ROW])
    with refused("incompatible", "reply_ratings.sha256"):
        make_environment("reply_ratings", **environment.model_dump(exclude={"choice"}))


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], "missing"),
        ([HEADER], "out_of_range"),
        ([HEADER[1:], ROW[1:]], "missing"),
        ([HEADER[:-1], ROW[:-1]], "out_of_range"),
        ([[*HEADER[:-1], "honest"], ROW], "duplicate"),
        ([[*HEADER[:-1], "<b>"], ROW], "invalid_value"),
        ([HEADER, ROW[:-1]], "wrong_shape"),
        ([HEADER, [*ROW[:-1], " "]], "missing"),
        ([HEADER, [*ROW[:-1], "x" * 5000]], "too_large"),
        ([HEADER, ["train", "maybe", *ROW[2:]]], "invalid_value"),
        ([HEADER, ["my split", *ROW[1:]]], "invalid_value"),
        ([HEADER, ["held_out", *ROW[1:]]], "missing"),
    ],
)
def test_bad_tables(tmp_path, monkeypatch, rows, code):
    monkeypatch.chdir(tmp_path)
    write(Path("bad.csv"), rows)
    with refused(code, "reply_ratings.path"):
        make_environment("reply_ratings", path="bad.csv")


def test_unreadable_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused("unreadable", "reply_ratings.path"):
        make_environment("reply_ratings", path="missing.csv")
    Path("latin.csv").write_bytes(",".join(HEADER).encode() + b"\n\xff\n")
    with refused("unreadable", "reply_ratings.path"):
        make_environment("reply_ratings", path="latin.csv")
    Path("quote.csv").write_text(",".join(HEADER) + '\n"train', encoding="utf-8")
    with refused("unreadable", "reply_ratings.path"):
        make_environment("reply_ratings", path="quote.csv")


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"biased_share": 0.2}, "conflict", "biased_share"),
        ({"sha256": "0"}, "conflict", "sha256"),
        ({"honest_utility": {"honest": 1.0}}, "missing", "honest_utility"),
        ({"biased_utility": {"honset": 1.0}}, "unknown_name", "biased_utility"),
        ({"contrast": ["honest", "honest"]}, "duplicate", "contrast"),
        ({"contrast": ["honest", "rude"]}, "unknown_name", "contrast"),
        ({"choice": "noisy_rating"}, "unsupported", "choice"),
    ],
)
def test_parameters_that_do_not_fit(fields, code, path):
    with refused(code, f"reply_ratings.{path}"):
        make_environment("reply_ratings", **fields)


def test_people_with_values_are_refused():
    with refused("unsupported", "population"):
        ReplyRatings().reset(RandomStreams.of(0, 1), People(torch.zeros(1, 1, 1)))
