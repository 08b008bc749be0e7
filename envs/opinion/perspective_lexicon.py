"""References to cultural perspectives in a text, and what each perspective is known for.

WorldView-Bench (arXiv 2505.09595) lets a large language model extract the cultural references of an
answer. Here a list of words does, so that the same text always has the same references:

    references of a culture   words that name it, its people, places, teachers or texts
    concepts of a culture     words for what its teaching emphasizes

The lists are short and written for this package. They miss paraphrases and know no irony; a word
that two cultures share is in neither list.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from mores.core.config import Config

SENTENCE_END = re.compile(r"[.!?;\n]+")


class Culture(Config):
    """A cultural perspective.

    Attributes:
        name: its name, as in "from the Confucian perspective".
        view: one sentence that introduces it to a delegate, in the second person.
        references: words that name it; they match at the start of a word, in any case.
        concepts: words for what it emphasizes; they match in the same way.
    """

    name: str = Field(min_length=1, description="name, as an adjective")
    view: str = Field(default="", description="introduction for a delegate, in the second person")
    references: tuple[str, ...] = Field(min_length=1, description="words that name it")
    concepts: tuple[str, ...] = Field(default=(), description="words for what it emphasizes")

    @functools.cached_property
    def reference_pattern(self) -> re.Pattern[str]:
        """Matches a reference."""
        return _pattern(self.references)

    @functools.cached_property
    def concept_pattern(self) -> re.Pattern[str] | None:
        """Matches a concept; `None`: there are none."""
        return _pattern(self.concepts) if self.concepts else None


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    alternatives = "|".join(re.escape(word.lower()) for word in words)
    return re.compile(rf"\b(?:{alternatives})")


CULTURES: tuple[Culture, ...] = (
    Culture(
        name="Western",
        view="You speak for the Western liberal tradition, which starts from the free individual.",
        references=("western", "europe", "america", "john locke", "enlightenment"),
        concepts=("freedom", "liberty", "individual", "human right", "autonom", "consent"),
    ),
    Culture(
        name="Confucian",
        view="You speak for the Confucian tradition, which starts from family and harmony.",
        references=("confuci", "chin", "mencius", "korea", "analects"),
        concepts=("harmony", "filial", "ancestor", "ritual", "benevolence", "elders", "hierarch"),
    ),
    Culture(
        name="Islamic",
        view="You speak for the Islamic tradition, which starts from God's guidance.",
        references=("islam", "muslim", "quran", "qur'an", "prophet", "arab"),
        concepts=("allah", "god", "charity", "zakat", "mercy", "ummah"),
    ),
    Culture(
        name="Hindu",
        view="You speak for the Hindu tradition, which starts from duty and the cycle of lives.",
        references=("hindu", "india", "veda", "vedic", "gita", "upanishad"),
        concepts=(
            "dharma",
            "karma",
            "rebirth",
            "ahimsa",
            "atman",
            "detachment",
            "self-realization",
        ),
    ),
    Culture(
        name="Ubuntu",
        view="You speak for the African tradition of Ubuntu: a person is a person through others.",
        references=("ubuntu", "africa", "zulu", "bantu", "xhosa"),
        concepts=("communit", "solidarity", "togetherness", "kinship", "sharing", "interdepend"),
    ),
)
QUESTIONS: tuple[str, ...] = (
    "What makes a life a good life?",
    "How should children treat their parents when these are old?",
    "Who should decide whom a young person marries?",
    "What do we owe to strangers?",
    "When is it right to forgive?",
    "What is the purpose of education?",
    "How should a village share water in a dry year?",
    "What makes a leader a good leader?",
    "How should we treat the dead?",
    "Is it right to become very rich?",
    "What should one do with a promise that has become hard to keep?",
    "How should people live with nature?",
    "What is a fair punishment for theft?",
    "How should one face illness and death?",
    "What is the place of work in life?",
    "How should neighbors settle a quarrel?",
)


def count_references(text: str, cultures: Sequence[Culture]) -> list[int]:
    """Number of references to each culture in a text."""
    lower = text.lower()
    return [len(culture.reference_pattern.findall(lower)) for culture in cultures]


class NamingSentences(NamedTuple):
    """Sentences of a text that name a culture.

    Attributes:
        number: how many there are; one that names several cultures counts for each.
        faithful: how many of them state a concept of the culture.
        mismatched: how many state a concept of another culture, mean over the others: what the
            number of faithful ones is without any knowledge of who teaches what.
    """

    number: int
    faithful: int
    mismatched: float


def naming_sentences(text: str, cultures: Sequence[Culture]) -> list[NamingSentences]:
    """The sentences that name each culture."""
    sentences = [part.lower() for part in SENTENCE_END.split(text) if part.strip()]
    found = []
    for index, culture in enumerate(cultures):
        naming = [s for s in sentences if culture.reference_pattern.search(s)]
        stating = [_num_matches(each.concept_pattern, naming) for each in cultures]
        others = [count for other, count in enumerate(stating) if other != index]
        mismatched = sum(others) / max(1, len(others))
        found.append(NamingSentences(len(naming), stating[index], mismatched))
    return found


def _num_matches(pattern: re.Pattern[str] | None, sentences: Sequence[str]) -> int:
    return 0 if pattern is None else sum(pattern.search(each) is not None for each in sentences)
