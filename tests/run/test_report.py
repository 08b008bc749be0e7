"""The report: one file that asks for nothing, runs nothing, and says what the numbers say."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mores.analysis.intervals import IntervalEstimate
from mores.experiments.claims.claim_evaluation import evaluate_claims
from mores.experiments.claims.verdicts import Verdict, evaluate_claim
from mores.report import claims_section
from mores.report.figures.plot_data import format_interval
from mores.report.figures.theme import DARK_COLORS, LIGHT_COLORS
from mores.report.page import write_report
from tests.refusals import check_message
from tests.run.small_run import ARMS, CLAIMS, EVIL, claim_of, recorded, scenario_of

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ORIGIN = {"versions": {"mores": "0"}, "command": ["mores", "run", EVIL], "seed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run's report and its figures, with texts in it that mean harm."""
    folder = tmp_path_factory.mktemp("run")
    scenario = scenario_of(about=EVIL, source=EVIL, claims=CLAIMS, **ARMS)
    cells, records = recorded(scenario)
    judged = [found.verdict for found in evaluate_claims(scenario, cells, records)]
    write_report(folder, scenario, cells, records, judged, ORIGIN)
    return folder


@pytest.fixture(scope="module")
def text(folder) -> str:
    return (folder / "report.html").read_text()


class _Page(HTMLParser):
    """All that a browser would look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, name: str) -> list[str]:
        return [
            value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name
        ]


def test_the_page_asks_for_nothing_and_runs_nothing(folder, text):
    page = _Page(text)
    assert page.open == []
    ids = page.all("id")
    assert max(Counter(ids).values()) == 1
    links = page.all("src") + page.all("href") + page.all("xlink:href")
    assert links
    assert all(link[0] == "#" and link[1:] in ids for link in links)
    assert all(link in ids for link in re.findall(r"url\(#([^)]+)\)", text))
    assert not re.search(r"url\((?!#)|@import|srcset|//\w+\.", text.replace(EVIL, ""))
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "link",
        "iframe",
        "object",
        "base",
        "form",
    }
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    policy = next(a["content"] or "" for t, a in page.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert len(text) < 400_000
    pngs = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    assert set(pngs) == {"drift.png", "people.png", "causes.png", "measures.png"}
    assert all(png.startswith(b"\x89PNG") for png in pngs.values())


def test_texts_of_a_scenario_are_data(text):
    assert "<script" not in text
    page = _Page(text)
    words = re.sub(r"\s+", " ", page.words)
    assert words.count(EVIL) >= 5  # about, source, claim, its source, the answer, the command
    assert any(f"left {EVIL}" in label for label in page.all("aria-label"))  # names of values
    assert "$a_b$" in "".join(re.findall(r"<text[^>]*>([^<]*)</text>", text))  # not as mathematics


def test_everyone_can_read_it(text):
    page = _Page(text)
    for tag, attrs in page.tags:
        if tag == "svg":
            assert attrs.get("aria-hidden") == "true" or attrs["aria-label"]
        if tag == "th":
            assert attrs["scope"] in ("col", "row")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for word in ("holds", "fails", "reported"):  # verdicts in words, not by colour alone
        assert word in page.words


def _contrast(one: str, other: str) -> float:
    def light(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_enough_in_both_themes(text):
    themes = [dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in text.split("@media")[:2]]
    for theme, colors in zip(themes, (LIGHT_COLORS, DARK_COLORS), strict=True):
        assert theme.items() >= colors.items()
        for name in set(theme) - {"paper", "card", "grid", "axis", "keep"}:
            assert _contrast(theme[name], theme["paper"]) >= 4.5, name
            assert _contrast(theme[name], theme["card"]) >= 4.5, name
        assert _contrast(theme["ink"], theme["keep"]) >= 4.5  # an interval on its shaded bound
        assert _contrast(theme["axis"], theme["paper"]) >= 3.0


def test_pictures_take_the_colours_of_the_page(text):
    body = text.split("<body>")[1]
    assert re.findall(r"#[0-9a-fA-F]{6}\b", body) == []
    assert {f"var(--{name})" for name in ("ink", "soft", "grid", "line-0", "line-7")} <= set(
        re.findall(r"var\([^)]*\)", body)
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("h", ""),
        ("hh", ""),
        ("hhhr", ""),
        ("f", ""),
        ("hfhu", "(2) “c1” (4) “c3”"),
        ("ffff", "(1) “c0” (2) “c1” (3) “c2”"),
        ("rr", ""),
        ("", ""),
    ],
)
def test_the_answer(words, named):
    full: Any = {"h": "holds", "f": "fails", "u": "undecided", "r": "report"}
    found = IntervalEstimate(0.0, 0.0, 0.0, 3, "t")
    judged = [Verdict(claim_of(says=f"c{i}."), found, full[w], "") for i, w in enumerate(words)]
    answer = claims_section.summarize_claims(judged)
    assert " ".join(re.findall(r"\([0-9]+\) “c[0-9]”", answer)) == named
    check_message(answer)


def test_the_answer_says_what_hangs_on_the_unknown():
    found = IntervalEstimate(0.0, 0.0, 0.0, 39, "t")
    known, unknown = claim_of(), claim_of(interval="parameters")
    judged = [
        Verdict(known, found, "holds", ""),
        Verdict(unknown, found, "holds", ""),
        Verdict(unknown, found, "undecided", ""),
    ]
    told = claims_section.summarize_claims(judged)
    assert "2 of 3" in told and "1 of 2" in told
    check_message(told)


@pytest.mark.parametrize(
    "bound",
    [{"above": 0.2}, {"below": -0.1}, {"within": [-0.5, 0.4]}, {"differs_from": 0.1}],
)
def test_the_picture_of_an_interval_shows_the_verdict(bound):
    """Within what is shaded it holds, without it fails, else it is undecided."""
    chance = np.random.default_rng(3)
    slack = 0.4 if "differs_from" in bound else 0.0
    claim = claim_of(bound=bound, smallest_effect=slack)
    seen = Counter()
    for _ in range(300):
        values = chance.normal(chance.normal(0, 0.6), 0.3, size=12)
        verdict = evaluate_claim(claim, values)
        plot = claims_section.interval_plot(claim, verdict.estimate)
        assert plot is not None
        assert 0 < plot.low <= plot.value <= plot.high < 100
        covered = [
            (max(plot.low, left), min(plot.high, left + width)) for left, width in plot.bound_spans
        ]
        share = max(high - low for low, high in covered)
        inside = share >= plot.high - plot.low - 0.02
        drawn = "holds" if inside else "fails" if share <= 0.02 else "undecided"
        seen[drawn] += 1
        assert drawn == verdict.status
    assert min(seen.values()) > 10
    assert len(seen) == 3


def test_a_claim_and_its_ablation_have_one_axis():
    """So that the two plots, one above the other, can be compared at a glance."""
    claim = claim_of(bound={"above": 0.5})
    one, other = IntervalEstimate(0.9, 0.8, 1.0, 9, ""), IntervalEstimate(0.1, 0.0, 0.2, 9, "")
    above, below = (
        claims_section.interval_plot(claim, found, beside)
        for found, beside in ((one, other), (other, one))
    )
    assert above is not None and below is not None
    assert above.bound_edges == below.bound_edges and above.labels == below.labels
    assert above.low > above.bound_edges[0] > below.high


def test_intervals_without_ends_and_figures_that_are_none():
    plot = claims_section.interval_plot(
        claim_of(), IntervalEstimate(1.0, -np.inf, np.inf, 1, "one replicate")
    )
    assert plot is not None
    assert (plot.open_low, plot.open_high, plot.low, plot.high) == (True, True, 0.0, 100.0)
    assert (
        claims_section.interval_plot(claim_of(), IntervalEstimate(np.nan, np.nan, np.nan, 3, ""))
        is None
    )
    same = claims_section.interval_plot(
        claim_of(bound={"within": [0, 0]}), IntervalEstimate(0.0, 0.0, 0.0, 3, "")
    )
    assert same is not None
    assert same.value == 50.0
    assert [label.text for label in same.labels] == ["0"]


@pytest.mark.parametrize(
    ("value", "low", "high", "told"),
    [
        (0.023391, 0.02249, 0.02429, "0.02339 (0.02249 to 0.02429)"),
        (-1.36, -1.9, -0.8, "−1.36 (−1.90 to −0.80)"),
        (123.4, 100.0, 150.0, "123 (100 to 150)"),
        (2e-7, -1e-7, 5e-7, "2×10⁻⁷ (−1×10⁻⁷ to 5×10⁻⁷)"),
        (3.0, 3.0, 3.0, "3"),
        (3.0, -np.inf, np.inf, "3"),
    ],
)
def test_numbers_have_the_digits_that_they_deserve(value, low, high, told):
    assert format_interval(IntervalEstimate(value, low, high, 9, "t")) == told


# --- in a browser ---------------------------------------------------------------------------------


def _browser(profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    quiet = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
        "--allow-file-access-from-files", "--hide-scrollbars", f"--user-data-dir={profile}",
    ]  # fmt: skip
    assert CHROMIUM is not None
    return subprocess.run([CHROMIUM, *quiet, *flags], capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_without_complaint(folder, tmp_path, dark):
    """No console message, nothing wider than a telephone, the theme's own paper."""
    shutil.copy(folder / "report.html", tmp_path)
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<iframe id=f src=report.html style='width:390px;height:800px;border:0'></iframe><script>"
        "f.onload=()=>{const d=f.contentDocument,b=f.contentWindow.getComputedStyle(d.body);"
        "document.title=[d.documentElement.scrollWidth,b.backgroundColor,"
        "d.querySelectorAll('.panels svg').length,Math.min(...[...d.querySelectorAll('p,caption,td,"
        "figcaption,dd')].map(e=>e.offsetWidth||999))].join('|')}</script>"
    )
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    seen = _browser(
        tmp_path / "profile", *theme, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()
    )
    title = re.search(r"<title>(.*)</title>", seen.stdout)
    assert title, seen.stderr
    width, paper, panels, narrowest = title[1].split("|")
    assert int(width) == 390
    assert paper == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")
    assert int(panels) == 4 + 4 + 3 + 3
    assert int(narrowest) > 100  # no text in a column of single letters
    assert "CONSOLE" not in seen.stderr
