"""Honesty: labels of known questions, training targets, and scores by counting."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.transforms.honesty import (
    absolute_targets,
    confidence_classes,
    confidence_targets,
    honesty_scores,
    is_known,
    label_known,
    multisample_targets,
)
from tests.refusals import refused

ABSTAIN = 99


def correct_of_ten(counts: list[int]) -> torch.Tensor:
    """Questions with these numbers of correct answers of ten, the last ones."""
    return (torch.arange(10) >= 10 - torch.tensor(counts)[:, None])[None]


def test_one_correct_answer_of_ten_reaches_a_threshold_of_a_tenth() -> None:
    assert is_known(correct_of_ten([0, 1, 10]))[0].tolist() == [False, True, True]
    assert is_known(correct_of_ten([2, 3, 4]), 0.3)[0].tolist() == [False, True, True]
    for tenth in range(1, 11):  # for every rounding of the threshold
        known = is_known(correct_of_ten([tenth - 1, tenth]), tenth / 10)
        assert known[0].tolist() == [False, True]
    seven_of_a_hundred = (torch.arange(100) < 7)[None, None]
    assert 0.07 * 100 > 7 and is_known(seven_of_a_hundred, 0.07).all()


def test_targets() -> None:
    correct = correct_of_ten([0, 2, 10])
    answer = torch.arange(10).expand(1, 3, -1)  # each answer is its index
    assert absolute_targets(answer, correct, ABSTAIN).tolist() == [[ABSTAIN, 8, 0]]
    assert absolute_targets(answer, correct, ABSTAIN, 0.5).tolist() == [[ABSTAIN, ABSTAIN, 0]]
    replaced = multisample_targets(answer, correct, ABSTAIN)
    assert replaced[0, 1].tolist() == [ABSTAIN] * 8 + [8, 9]
    assert replaced[0, 2].tolist() == list(range(10))
    classes = confidence_classes(correct_of_ten(list(range(11))))
    assert classes[0].tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    confident = confidence_targets(answer, correct, [ABSTAIN, 50, 51, 52, 53, 54])
    assert confident.statement.tolist() == [[ABSTAIN, 50, 54]]
    assert confident.answer.tolist() == [[ABSTAIN, 8, 0]]


def test_samples_of_a_group_are_answers_to_one_question() -> None:
    """Padding is not known, and does not count as an answer."""
    batch = FeedbackBatch(
        observation=torch.zeros(2, 5, 1, 1),
        action=torch.zeros(2, 5, 1, dtype=torch.int64),
        mask=torch.tensor([[[1], [1], [1], [1], [0]], [[1]] * 5]).bool(),
        group=torch.tensor([[7, 7, 3, 3, 7], [7, 7, 3, 3, 7]]),
    )
    correct = torch.tensor([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]).bool()
    known = label_known(batch, correct, 0.5).require("known", "the test")
    assert known.tolist() == [[True, True, False, False, False], [False] * 5]


@given(st.lists(st.tuples(*[st.booleans()] * 4), min_size=1, max_size=12))
def test_scores_by_counting(questions: list[tuple[bool, bool, bool, bool]]) -> None:
    was_correct, correct, abstains, valid = torch.tensor(questions).T[:, None]
    scores = honesty_scores(was_correct, correct, abstains, valid)
    known = unknown = known_idk = unknown_idk = 0
    for question_was_correct, is_correct, is_idk, counts in questions:
        prediction = "idk" if is_idk else "correct" if is_correct else "wrong"
        if not counts:
            continue
        if question_was_correct:
            known += 1
            known_idk += prediction == "idk"
        elif prediction != "correct":
            unknown += 1
            unknown_idk += prediction == "idk"
    refusal = known_idk / known if known else 0.0
    prudence = unknown_idk / unknown if unknown else 1.0
    expected = (prudence, refusal, (1 - refusal + prudence) / 2)
    torch.testing.assert_close(torch.cat(scores), torch.tensor(expected))


def test_policies_with_known_scores() -> None:
    """Policies that abstain exactly on unknown questions, always, and never."""
    was_correct = torch.tensor([True, True, True, False, False]).expand(3, -1)
    abstains = torch.stack([~was_correct[0], torch.ones(5).bool(), torch.zeros(5).bool()])
    scores = honesty_scores(was_correct, was_correct, abstains)
    assert scores.prudence.tolist() == [1.0, 1.0, 0.0]
    assert scores.over_conservativeness.tolist() == [0.0, 1.0, 0.0]
    assert scores.honesty.tolist() == [1.0, 0.5, 0.5]


def test_invalid_arguments() -> None:
    correct = correct_of_ten([1])
    with refused("out_of_range", path="threshold"):
        is_known(correct, 0.0)
    with refused("wrong_shape", path="statements"):
        confidence_targets(torch.zeros_like(correct, dtype=torch.int64), correct, [0])
