"""Tables of requested words, and the coverage of a text: which of them it contains.

Coverage as in CommonGen (Lin et al. 2020, arXiv 1911.03705): a sentence has to use all words of a
set. A word counts as used if the text contains it or one of its regular forms (-s, -es, -ed, -d,
-ing, -ies, doubled consonants) as a whole word, in any case.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

WORD_SETS: tuple[tuple[str, ...], ...] = (
    ("dog", "park", "ball"),
    ("river", "bridge", "walk"),
    ("kitchen", "bread", "knife"),
    ("teacher", "question", "class"),
    ("train", "station", "wait"),
    ("garden", "flower", "water"),
    ("doctor", "patient", "help"),
    ("snow", "mountain", "climb"),
    ("guitar", "song", "play"),
    ("market", "apple", "buy"),
    ("boat", "lake", "fish"),
    ("library", "book", "read"),
    ("bicycle", "street", "ride"),
    ("fire", "wood", "night"),
    ("child", "window", "look"),
    ("letter", "friend", "write"),
    ("horse", "field", "run"),
    ("city", "light", "evening"),
    ("coffee", "table", "morning"),
    ("farmer", "cow", "milk"),
    ("beach", "sand", "sun"),
    ("picture", "wall", "paint"),
    ("phone", "mother", "call"),
    ("rain", "umbrella", "street"),
)
WORD_PATTERN = re.compile(r"[a-z']+")


@functools.cache
def word_forms(word: str) -> frozenset[str]:
    """The word and its regular forms, in lower case."""
    word = word.lower()
    stem = word[:-1] if word.endswith(("e", "y")) else word
    forms = {word, *(word + ending for ending in ("s", "es", "ed", "d", "ing"))}
    forms |= {stem + "ing"} if word.endswith("e") else set()
    forms |= {stem + ending for ending in ("ies", "ied")} if word.endswith("y") else set()
    if len(word) > 2 and word[-1] not in "aeiouwxy" and word[-2] in "aeiou":
        forms |= {word + word[-1] + ending for ending in ("ed", "ing")}
    return frozenset(forms)


def covered_words(text: str, words: Sequence[str]) -> tuple[bool, ...]:
    """Whether a text contains each of the words, in one of its forms."""
    found = set(WORD_PATTERN.findall(text.lower()))
    return tuple(not found.isdisjoint(word_forms(word)) for word in words)


def coverage(text: str, words: Sequence[str]) -> float:
    """Share of the words that a text contains."""
    found = covered_words(text, words)
    return sum(found) / len(found) if found else 1.0
