"""Every mistake in a scenario file is one line with its place, exit code 2, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Complaints = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        # keys and values
        ("rounds: 10", "rouns: 10", "6:1: rouns: there is no such key; did you mean 'rounds'?"),
        (
            "rounds: 10",
            "rounds: '10'",
            "6:9: rounds: must be a whole number, not the text '10': leave out the quotes",
        ),
        (
            "replicates: 5",
            "replicates: 3.0",
            "7:13: replicates: must be a whole number, not the number 3.0: write 3",
        ),
        ("replicates: 5", "replicates: true", "7:13: replicates: must be a whole number, not true"),
        ("rounds: 10", "rounds:", "6:8: rounds: must be a whole number, not nothing (null)"),
        ("rounds: 10", "rounds: 0", "6:9: rounds: must be at least 1, not 0"),
        ("rounds: 10", "rounds: 1_000", "6:9: rounds: must be a whole number, not the text '1_000'"
                                        ": write 1000"),
        (
            "about: People walk, or do not.",
            "about: 2506.06160",
            "2:8: about: must be text, not the number 2506.0616: put it in quotes, '2506.06160'",
        ),
        (
            "name: walkers",
            "name: Walkers!",
            "1:7: name: must be lower-case letters, digits and _, beginning with a letter; "
            "it is the text 'Walkers!'",
        ),
        ("rounds: 10\n", "", "1:1: rounds: is missing (rounds of an episode)"),
        (
            "env: {kind: toy_walk, pull: 0.25}",
            "env: toy_walk",
            "3:6: env: must be a mapping of `key: value` lines, not the text 'toy_walk': "
            "write {kind: toy_walk}",
        ),
        (
            "kind: statistical",
            "kind: statistic",
            "15:11: claims.0.kind: must be 'exact', 'statistical', 'learned', 'reward_implied', "
            "'by_construction' or 'report', not the text 'statistic'; did you mean 'statistical'?",
        ),
        (
            "bound: {above: 0.1}",
            "bound: {above: 0.1, below: 1}",
            "19:12: claims.0.bound: give one of above, below, within, differs_from",
        ),
        (
            "bound: {above: 0.1}",
            "bound: {within: [1]}",
            "19:13: claims.0.bound.within: the list is too short",
        ),
        (
            "bound: {above: 0.1}",
            "bound: {within: [2, 1]}",
            "19:21: claims.0.bound.within: the first number must not exceed the second",
        ),
        (
            "  still: {pl",
            "  .still: {pl",
            "9:3: arms..still: must be letters, digits, _ and -, beginning with a letter or digit; "
            "it is the text '.still'",
        ),
        ("control: still", "control: stil", "11:10: control: there is no arm 'stil'; "
                                            "did you mean 'still'?"),
        # environment, players, arms
        (
            "pull: 0.25",
            "pul: 0.25",
            "3:23: env.pul: toy_walk has no such parameter; did you mean 'pull'?",
        ),
        ("pull: 0.25", "pull: 1.25", "3:29: env.pull: must be at most 1, not 1.25"),
        ("pull: 0.25", "pull: yes", "3:29: env.pull: must be a number, not the text 'yes'"),
        ("pull: 0.25", "pull: true", "3:29: env.pull: must be a number, not true"),
        ("pull: 0.25", "quick: on", "3:30: env.quick: must be true or false, not the text 'on'"),
        (
            "pull: 0.25",
            "greeting: 3",
            "3:33: env.greeting: must be text, not the number 3: put it in quotes, '3'",
        ),
        (
            "pull: 0.25",
            "shape: {ties: 0}",
            "3:37: env.shape.ties: must be at least 1, not 0",
        ),
        (
            "pull: 0.25",
            "size: medium",
            "3:29: env.size: must be a whole number, not the text 'medium' or "
            "must be 'small' or 'large', not the text 'medium'",
        ),
        (
            "kind: toy_walk",
            "kind: toy_wark",
            "3:13: env.kind: no environment 'toy_wark'; did you mean 'toy_walk'?",
        ),
        (
            "env.pull: 0.5",
            "env.pul: 0.5",
            "10:56: arms.walking.env.pul: toy_walk has no such parameter; did you mean 'pull'?",
        ),
        (
            "env.pull: 0.5",
            "env.pull: 7",
            "10:66: arms.walking.env.pull: must be at most 1, not 7",
        ),
        (
            "by: 2",
            "bye: 2",
            "10:48: arms.walking.players.person.bye: toy_stride has no such parameter; "
            "did you mean 'by'?",
        ),
        (
            "env.pull: 0.5",
            "enw.pull: 0.5",
            "10:56: arms.walking.enw.pull: a path begins with env, people or players; "
            "did you mean 'env'?",
        ),
        (
            "env.pull: 0.5",
            "rounds: 5",
            "10:56: arms.walking.rounds: rounds cannot differ between arms, which share their "
            "draws; what can is env., people. and players.",
        ),
        (
            "env.pull: 0.5",
            "people.heads: 5",
            "10:70: arms.walking.people.heads: there is no people to change: "
            "give people a kind first",
        ),
        (
            "helper: {kind: toy_still}",
            "helpr: {kind: toy_still}",
            "5:3: players.helpr: toy_walk has no such role; did you mean 'helper'?",
        ),
        (
            "helper: {kind: toy_still}",
            "helper: {kind: toy_stride, by: 5}",
            "5:11: players.helper: a stride of 5 is out of step",
        ),
        # measures and claims
        (
            "[centre, drift]",
            "[center, drift]",
            "12:12: measures.0: toy_walk has no measure 'center'; did you mean 'centre'?",
        ),
        ("[centre, drift]", "[drift, drift]", "12:19: measures.1: 'drift' is listed twice"),
        (
            "measure: drift",
            "measure: drif",
            "16:14: claims.0.measure: 'drif' is not among the scenario's measures; "
            "did you mean 'drift'?",
        ),
        (
            "arm: walking",
            "arm: waking",
            "17:10: claims.0.arm: there is no arm 'waking'; did you mean 'walking'?",
        ),
        (
            "against: still",
            "against: walking",
            "18:14: claims.0.against: is the arm itself; compare with another",
        ),
        (
            "against: still",
            "prediction: drift",
            "18:17: claims.0.prediction: toy_walk predicts no 'drift' in walking; it makes none",
        ),
        (
            "against: still",
            "at: 11",
            "18:9: claims.0.at: must be at most 10, the number of rounds, not 11",
        ),
        (
            "against: still",
            "interval: people",
            "18:15: claims.0.interval: people needs people.resample to be true, "
            "and in walking it is not",
        ),
        # what makes a file more than data, or no YAML
        ("rounds: 10", "rounds: 10\nrounds: 10",
         "7:1: the key 'rounds' is given twice; it is in line 6 already"),
        (
            "rounds: 10",
            "rounds: &ten 10",
            "6:9: anchors (&name) are not used here: write the value where it is due, "
            "or put a text that begins with & in quotes",
        ),
        (
            "rounds: 10",
            "rounds: *ten",
            "6:9: aliases (*name) are not used here: write the value out, "
            "or put a text that begins with * in quotes",
        ),
        ("rounds: 10", "<<: {rounds: 10}",
         "6:1: merge keys (<<) are not used here: write the keys out"),
        (
            "rounds: 10",
            "rounds: !!python/object/apply:os.system ['touch here']",
            "6:9: tags (!!python/object/apply:os.system) are not used here: "
            "a scenario is plain data; put a text that begins with ! in quotes",
        ),
        (
            "rounds: 10",
            "rounds: !own 10",
            "6:9: tags (!own) are not used here: a scenario is plain data; "
            "put a text that begins with ! in quotes",
        ),
        ("rounds: 10", "rounds: 10\n---\na: b",
         "7:1: a second document begins here; one file holds one"),
        ("rounds: 10", "rounds: " + "[" * 3000, "6:38: is nested deeper than 30 levels"),
        ("rounds: 10", "rounds: 1e-4",
         "6:9: rounds: must be a whole number, not the number 0.0001"),
        ("rounds: 10", "rounds: 12:30",
         "6:9: rounds: must be a whole number, not the text '12:30'"),
        (
            "rounds: 10",
            "rounds: 010",
            "6:9: 010: a number does not begin with 0: write 10 "
            "(or 0o... if it is octal, quotes if it is a text)",
        ),
        ("rounds: 10", "rounds: 2024-01-01",
         "6:9: rounds: must be a whole number, not the text '2024-01-01'"),
        ("rounds: 10", "rounds: " + "9" * 5000,
         f"6:9: the number {'9' * 37}... is too large: at most 2^63 - 1"),
        ("pull: 0.25", "pull: .inf", "3:29: .inf is not a finite number"),
        ("pull: 0.25", "pull: .nan", "3:29: .nan is not a finite number"),
        ("pull: 0.25", "pull: 1e999", "3:29: 1e999 is not a finite number"),
        ("rounds: 10", "10: rounds", "6:1: a key must be a name, not 10"),
        ("rounds: 10", "true: 10", "6:1: a key must be a name, not true"),
        ("rounds: 10", "no: 10", "6:1: no: there is no such key; known: "
                                 "calibration, construct, every, people, rounds, sample, seed, "
                                 "source, stages, sweep, uncertain, worlds"),
        ("rounds: 10", "\trounds: 10", "6:1: a tab cannot stand here: indent with spaces"),
        ("about: People", "about: Some: People",
         "2:12: this ': ' cannot stand here: put a text that has one in quotes, "
         "or mend the indent"),
        ("about: People", "about: @People", "2:8: a text cannot begin with '@': put it in quotes"),
        ("about: People", "about: 'People", "2:8: a quote is opened here and never closed"),
        ("about: People", "about: \x07People",
         "2:8: the control character U+0007 does not belong in a text file"),
        ("about: People walk, or do not.", 'about: "\\e[2J"',
         "2:8: the control character U+001B does not belong in a text file"),
        ("about: People walk, or do not.", 'about: "\\U00110000"',
         "2:11: this escape or directive makes no sense"),
    ],
)  # fmt: skip
def test_one_line_with_its_place(
    old: str, new: str, line: str, good: str, complaints: Complaints
) -> None:
    assert old in good
    said = complaints(good.replace(old, new, 1))
    assert f"s.yaml:{line}" in said
    may_follow = {"rouns: 10": 1, "no: 10": 1}
    assert len(said) == 1 + may_follow.get(new, 0)  # what is misspelt is missing, too


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", "is empty"),
        (b"# nothing but a comment\n", "is empty"),
        (b"---\n", "2:1: a scenario is a mapping of `key: value` lines, not nothing (null)"),
        (b"- name: a\n", "1:1: a scenario is a mapping of `key: value` lines, not a list"),
        (b"a scenario\n",
         "1:1: a scenario is a mapping of `key: value` lines, not the text 'a scenario'"),
        (b"name: a\nabout: \xff\n", "2:8: the byte 0xff is not UTF-8: is it a text file?"),
        (b"name: a\0b\n", "1:8: the control character U+0000 does not belong in a text file"),
        (b"\xef\xbb\xbfname: a\n",
         "1:1: begins with a byte order mark: save the file as UTF-8 without one"),
        ("name: a\n".encode("utf-16"),
         "1:1: begins with a byte order mark: save the file as UTF-8 without one"),
        (b"[" * 3000, "1:31: is nested deeper than 30 levels"),
        (b"- " * 3000, "1:61: is nested deeper than 30 levels"),
        (b"a" * 1_100_000, "is larger than 256,000 bytes: is it a scenario file?"),
        (b"%YAML " + b"1" * 5000 + b".1\n---\na: b\n",
         "1:7: this escape or directive makes no sense"),
    ],
)  # fmt: skip
def test_whole_files(text: bytes, line: str, complaints: Complaints) -> None:
    (said,) = complaints(text)
    assert said in (f"s.yaml:{line}", f"s.yaml: {line}")


def test_a_file_that_is_none(complaints: Complaints, write: Callable[..., str]) -> None:
    write(name="walkers.yaml")
    (said,) = complaints(None, "walker.yaml")
    assert said == "walker.yaml: no such scenario file; did you mean 'walkers.yaml'?"
    (said,) = complaints(None, "lockin")
    assert said == "lockin: no such scenario file; did you mean 'lock_in'?"
    (said,) = complaints(None, "nowhere/walkers.yaml")
    assert said.startswith("nowhere/walkers.yaml: no such file: there is no directory nowhere")
    (said,) = complaints(None, ".")
    assert said == ".: is a directory; name a scenario file (in it: walkers.yaml)"
    (said,) = complaints(None, "a\0b")
    assert said.startswith("a\\x00b: no such scenario file")
    (said,) = complaints(None, "a" * 5000)
    assert "File name too long" in said


def test_several_problems_have_a_line_each_in_order(good: str, complaints: Complaints) -> None:
    text = good.replace("rounds: 10", "rounds: ten").replace("seed", "sed")
    text = text.replace("control: still", "contrl: still").replace("above", "abve")
    assert [line.split(": ")[0] for line in complaints(text)] == [
        "s.yaml:6:9",
        "s.yaml:11:1",
        "s.yaml:19:13",
    ]


def test_at_most_ten_lines(good: str, complaints: Complaints) -> None:
    said = complaints(good + "".join(f"extra{i}: {i}\n" for i in range(25)))
    assert len(said) == 11
    assert said[-1] == "and 15 more problems"


def test_a_seat_that_nobody_takes(good: str, complaints: Complaints) -> None:
    text = good.replace("toy_walk", "toy_bare").replace("helper: {kind: toy_still}", "{}")
    assert complaints(text) == ["s.yaml:4:1: players: nobody plays 'helper': name a player for it"]


def test_the_same_mistake_in_every_arm_is_told_once(good: str, complaints: Complaints) -> None:
    assert len(complaints(good.replace("kind: toy_walk", "kind: toy_walk, hurry: 1"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"rounds: " + b"[" * 3000, "s.yaml:1:38: is nested deeper than 30 levels"),
        (bytes(range(256)), "s.yaml:2:118: the byte 0x80 is not UTF-8: is it a text file?"),
        (None, "s.yaml: is a directory; name a scenario file (no *.yaml file is in it)"),
    ],
)
def test_in_a_process_of_its_own(data: bytes | None, expected: str, tmp_path: Path) -> None:
    if data is None:
        (tmp_path / "s.yaml").mkdir()
    else:
        (tmp_path / "s.yaml").write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-m", "mores.cli", "run", "s.yaml"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", expected + "\n")
    assert sorted(tmp_path.rglob("*")) == before
