"""What would stop a run after training is told by the check, with its place, before anything."""

from __future__ import annotations

import pytest

from mores.agents.learning import update
from mores.experiments.run import dry_run
from mores.experiments.run.dry_run import check_scenario
from mores.experiments.scenario.loading import load_scenario
from tests.refusals import refused

ANSWERS = """\
name: rehearsed
about: A recipe learns from a record, and plays.
env: {kind: requests}
players: {assistant: {kind: dpo, network: {kind: mlp, hidden: [4]}}}
rounds: 6
measures: [score]
stages:
  - {name: gather, episodes: 500}
  - {name: fit, loop: fit, learn: assistant}
  - {name: test}
"""
GAME = """\
name: rehearsed
about: A recipe learns as it acts, and plays.
env: {kind: matrix_game, payoffs: public_goods}
players: {player: {kind: ppo, horizon: 4, network: {kind: mlp, hidden: [4]}}}
rounds: 8
measures: [cooperation]
stages:
  - {name: train, loop: improve, learn: player, episodes: 500}
  - {name: test}
"""
RECORD = GAME.replace("loop: improve, learn: player, episodes: 500}",
                      "episodes: 9}\n  - {name: fit, loop: fit, learn: player}")  # fmt: skip
PPO, TEST = "kind: ppo, horizon: 4", "{name: test"


def test_it_ends_in_time(tmp_path, monkeypatch):
    """Lessons are gone over once, and what takes too long altogether is left to the run."""
    work = []
    teach = update.run_epochs

    def counted(*given, **named):
        work.append(given[8])  # epochs
        return teach(*given, **named)

    monkeypatch.setattr(update, "run_epochs", counted)
    long = GAME.replace("horizon: 4", "horizon: 4, epochs: 1000")
    swept = long + "sweep: {players.player.horizon: [2, 3, 4, 5]}\n"
    _checked(tmp_path, swept)
    assert set(work) == {1} and len(work) > 4
    work.clear()
    monkeypatch.setattr(dry_run, "MAX_SECONDS", 0.0)
    _checked(tmp_path, swept)
    assert not work


def _checked(tmp_path, text):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return check_scenario(load_scenario(str(file)))


@pytest.mark.parametrize(
    ("text", "old", "new", "code", "path"),
    [
        # other seats
        (GAME, TEST, f"{TEST}, env: {{env.agents: 4}}", "incompatible", "players.player"),
        (ANSWERS, "{name: gather", "{name: gather, env: {env.answers: 4}", "incompatible",
         "players.assistant"),
        # other sights, though as many numbers, and other acts
        (ANSWERS, TEST, f"{TEST}, env: {{env.features: 16, env.length: 5}}", "incompatible",
         "players.assistant"),
        (GAME.replace("public_goods", "public_goods, memory: 0"), TEST,
         f"{TEST}, env: {{env.levels: 3}}", "incompatible", "players.player"),
        (GAME.replace(", payoffs: public_goods", ""), TEST, f"{TEST}, env: {{env.levels: 3}}",
         "conflict", "stages.1.env.env.levels"),
        (GAME.replace("payoffs: public_goods", "levels: 3"), "stages:",
         "sweep: {env.continuation: [0.5, 1]}\nstages:", "conflict", "env"),
        (GAME.replace(", payoffs: public_goods", ""), TEST,
         f"{TEST}, env: {{env.levels: 3, env.continuation: 0.5}}", "conflict",
         "stages.1.env.env.levels"),
        # feedback that is not there
        *((RECORD, PPO, f"kind: {kind}", "missing", "players.player")
          for kind in ("dpo", "simpo", "sft", "dckd", "adpa", "kto", "cut")),
        *((GAME, PPO, f"kind: {kind}", "missing", "players.player")
          for kind in ("grao", "grpo, aggregate: sum")),
        (ANSWERS, "kind: dpo", "kind: dpo, share: agent", "conflict", "players.assistant"),
        (ANSWERS.replace("requests}", "requests, error_rates: [0.1, 0.1, 0.1]}"), "kind: dpo",
         "kind: dpo, robust: true, annotators: 2", "out_of_range", "players.assistant"),
        # what does not go on, or does not fit
        (ANSWERS, "kind: dpo", "kind: restoring", "wrong_order", "players.assistant"),
        (ANSWERS, TEST, f"{TEST}, players: {{players.assistant.network.hidden: [5]}}",
         "incompatible", "stages.2.players.players.assistant.network.hidden"),
        (ANSWERS, TEST, f"{TEST}, players: {{players.assistant.share: group}}", "missing",
         "stages.2.players.players.assistant.share"),
        (GAME.replace(TEST, f"{TEST}, loop: assist"), PPO, f"{PPO}, search: look_ahead",
         "unsupported", "players.player"),
        (GAME, "mlp, hidden: [4]", "transformer, hidden: 4, blocks: 1, context: 6", "too_large",
         "players.player"),
        (GAME, TEST, f"{TEST}, players: {{players.player: {{kind: cast, seats: [{{{PPO}}}, "
         "{kind: copy}]}}", "not_trained", "stages.1.players.players.player"),
        (GAME.replace("kind: ppo, horizon: 4, network: {kind: mlp, hidden: [4]}",
                      "kind: cast, seats: [{kind: ppo, horizon: 4}, {kind: copy}]"), TEST,
         f"{TEST}, players: {{players.player.seats: [{{kind: copy}}, {{{PPO}}}]}}",
         "not_trained", "stages.1.players.players.player.seats"),
        (GAME.replace("public_goods", "public_goods, memory: 0").replace("stages:", "arms: {main: "
         "{}, other: {players.player: {kind: strategy, name: grudger}}}\nstages:"),
         "name: rehearsed", "name: rehearsed", "unsupported", "arms.other.players.player"),
    ],
    ids=lambda value: "text" if "\n" in value else None,
)  # fmt: skip
def test_mistakes_that_show_when_stages_follow_each_other(here, text, old, new, code, path):
    assert old in text
    with refused(code, path):
        _checked(here, text.replace(old, new))


@pytest.mark.parametrize("text", [ANSWERS, GAME, ANSWERS.replace("rounds: 6", "rounds: 600")])
def test_what_is_fine_is_fine(tmp_path, text):
    assert len(_checked(tmp_path, text)) == 1


def test_of_an_episode_that_is_cut_off_nothing_is_concluded(tmp_path):
    """An answer of 300 words is longer than a rehearsal: that nobody judged it says nothing."""
    long = ANSWERS.replace("requests", "requests, words: 300, length: 300, answers: 2, features: 1")
    _checked(tmp_path, long.replace("rounds: 6", "rounds: 300"))
