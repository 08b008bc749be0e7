"""Report page: self-contained, without scripts, and consistent with the results."""

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
from tests.run.small_run import (
    ARMS,
    CLAIMS,
    HOSTILE_LABEL,
    HOSTILE_TEXT,
    make_claim,
    make_results,
    make_scenario,
)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PROVENANCE = {"versions": {"mores": "0"}, "command": ["mores", "run", HOSTILE_TEXT], "seed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Report and figures of a run with hostile texts."""
    folder = tmp_path_factory.mktemp("run")
    scenario = make_scenario(about=HOSTILE_TEXT, source=HOSTILE_TEXT, claims=CLAIMS, **ARMS)
    cells, records = make_results(scenario)
    verdicts = evaluate_claims(scenario, cells, records)
    write_report(folder, scenario, cells, records, verdicts, PROVENANCE)
    return folder


@pytest.fixture(scope="module")
def text(folder) -> str:
    return (folder / "report.html").read_text()


class _Page(HTMLParser):
    """Tags and text of a page."""

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


def test_page_loads_nothing_and_runs_nothing(folder, text):
    page = _Page(text)
    assert page.open == []
    ids = page.all("id")
    assert max(Counter(ids).values()) == 1
    links = page.all("src") + page.all("href") + page.all("xlink:href")
    links = [link for link in links if not link.startswith("figures/")]  # to the files
    assert links
    assert all(link[0] == "#" and link[1:] in ids for link in links)
    assert all(link in ids for link in re.findall(r"url\(#([^)]+)\)", text))
    assert not re.search(r"url\((?!#)|@import|srcset|//\w+\.", text.replace(HOSTILE_TEXT, ""))
    active_tags = {"script", "link", "iframe", "object", "base", "form"}
    assert not {tag for tag, _ in page.tags} & active_tags
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    policy = next(a["content"] or "" for t, a in page.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert len(text) < 400_000
    files = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    kinds = ("drift", "people", "attribution", "metrics")
    assert set(files) == {f"{kind}.{suffix}" for kind in kinds for suffix in ("png", "svg")}
    for name, content in files.items():
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
        assert f'<a href="figures/{name}">' in text  # opened by a click
        assert len(content) < 300_000


def test_texts_of_a_scenario_are_escaped(text):
    assert "<script" not in text
    page = _Page(text)
    words = re.sub(r"\s+", " ", page.words)
    assert words.count(HOSTILE_TEXT) >= 5  # about, source, claim, its source, summary, command
    assert any(HOSTILE_LABEL in label for label in page.all("aria-label"))
    assert "$a b$" in "".join(re.findall(r"<text[^>]*>([^<]*)</text>", text))  # not as mathematics


@pytest.mark.full
def test_equal_results_have_equal_files(folder, tmp_path):
    """Neither times nor random ids are in the page or in a figure."""
    scenario = make_scenario(about=HOSTILE_TEXT, source=HOSTILE_TEXT, claims=CLAIMS, **ARMS)
    cells, records = make_results(scenario)
    verdicts = evaluate_claims(scenario, cells, records)
    write_report(tmp_path, scenario, cells, records, verdicts, PROVENANCE)
    for path in (folder / "report.html", *(folder / "figures").iterdir()):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_page_is_accessible(text):
    page = _Page(text)
    for tag, attrs in page.tags:
        if tag == "svg":
            assert attrs.get("aria-hidden") == "true" or attrs["aria-label"]
        if tag == "th":
            assert attrs["scope"] in ("col", "row")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for word in ("holds", "fails", "reported"):  # verdicts as words, not only as colors
        assert word in page.words


def _contrast(color_a: str, color_b: str) -> float:
    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))

    low, high = sorted((luminance(color_a), luminance(color_b)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_enough_in_both_themes(text):
    themes = [dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in text.split("@media")[:2]]
    for theme, colors in zip(themes, (LIGHT_COLORS, DARK_COLORS), strict=True):
        assert theme.items() >= colors.items()
        for name in set(theme) - {"paper", "card", "grid", "axis", "bound"}:
            assert _contrast(theme[name], theme["paper"]) >= 4.5, name
            assert _contrast(theme[name], theme["card"]) >= 4.5, name
        assert _contrast(theme["ink"], theme["bound"]) >= 4.5  # an interval on its shaded bound
        assert _contrast(theme["axis"], theme["paper"]) >= 3.0


def test_figures_use_the_colors_of_the_page(text):
    body = text.split("<body>")[1]
    assert re.findall(r"#[0-9a-fA-F]{6}\b", body) == []
    assert {f"var(--{name})" for name in ("ink", "soft", "grid", "line-0", "line-7")} <= set(
        re.findall(r"var\([^)]*\)", body)
    )


@pytest.mark.parametrize(
    ("statuses", "quoted"),
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
def test_claims_summary(statuses, quoted):
    names: Any = {"h": "holds", "f": "fails", "u": "undecided", "r": "report"}
    estimate = IntervalEstimate(0.0, 0.0, 0.0, 3, "t")
    claims = [make_claim(statement=f"c{i}.") for i in range(len(statuses))]
    pairs = zip(claims, statuses, strict=True)
    verdicts = [Verdict(claim, estimate, names[status], "") for claim, status in pairs]
    summary = claims_section.summarize_claims(verdicts)
    assert " ".join(re.findall(r"\([0-9]+\) “c[0-9]”", summary)) == quoted
    check_message(summary)


def test_claims_summary_with_uncertain_parameters():
    estimate = IntervalEstimate(0.0, 0.0, 0.0, 39, "t")
    certain, uncertain = make_claim(), make_claim(interval="parameters")
    verdicts = [
        Verdict(certain, estimate, "holds", ""),
        Verdict(uncertain, estimate, "holds", ""),
        Verdict(uncertain, estimate, "undecided", ""),
    ]
    summary = claims_section.summarize_claims(verdicts)
    assert "2 of 3" in summary and "1 of 2" in summary
    check_message(summary)


@pytest.mark.parametrize(
    "bound",
    [{"above": 0.2}, {"below": -0.1}, {"within": [-0.5, 0.4]}, {"differs_from": 0.1}],
)
def test_interval_plot_agrees_with_the_verdict(bound):
    """Inside the shaded region a claim holds, outside it fails, else it is undecided."""
    rng = np.random.default_rng(3)
    slack = 0.4 if "differs_from" in bound else 0.0
    claim = make_claim(bound=bound, smallest_effect=slack)
    counts = Counter()
    for _ in range(300):
        values = rng.normal(rng.normal(0, 0.6), 0.35, size=16)
        verdict = evaluate_claim(claim, values)
        plot = claims_section.interval_plot(claim, verdict.estimate)
        assert plot is not None
        assert 0 < plot.low <= plot.value <= plot.high < 100
        overlaps = [
            (max(plot.low, left), min(plot.high, left + width)) for left, width in plot.bound_spans
        ]
        overlap = max(high - low for low, high in overlaps)
        inside = overlap >= plot.high - plot.low - 0.02
        plotted = "holds" if inside else "fails" if overlap <= 0.02 else "undecided"
        counts[plotted] += 1
        assert plotted == verdict.status
    assert min(counts.values()) > 10
    assert len(counts) == 3


def test_plots_of_a_claim_and_its_ablation_share_the_axis():
    claim = make_claim(bound={"above": 0.5})
    a, b = IntervalEstimate(0.9, 0.8, 1.0, 9, ""), IntervalEstimate(0.1, 0.0, 0.2, 9, "")
    pairs = ((a, b), (b, a))
    first, second = (claims_section.interval_plot(claim, *estimates) for estimates in pairs)
    assert first is not None and second is not None
    assert first.bound_edges == second.bound_edges and first.labels == second.labels
    assert first.low > first.bound_edges[0] > second.high


def test_plots_of_unbounded_and_non_finite_estimates():
    plot = claims_section.interval_plot(
        make_claim(), IntervalEstimate(1.0, -np.inf, np.inf, 1, "one replicate")
    )
    assert plot is not None
    assert (plot.open_low, plot.open_high, plot.low, plot.high) == (True, True, 0.0, 100.0)
    assert (
        claims_section.interval_plot(make_claim(), IntervalEstimate(np.nan, np.nan, np.nan, 3, ""))
        is None
    )
    constant = claims_section.interval_plot(
        make_claim(bound={"within": [0, 0]}), IntervalEstimate(0.0, 0.0, 0.0, 3, "")
    )
    assert constant is not None
    assert constant.value == 50.0
    assert [text for _, text, _ in constant.labels] == ["0"]


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.023391, 0.02249, 0.02429, "0.02339 (0.02249 to 0.02429)"),
        (-1.36, -1.9, -0.8, "−1.36 (−1.90 to −0.80)"),
        (-0.0047, -0.114, 0.11, "0.00 (−0.11 to 0.11)"),
        (123.4, 100.0, 150.0, "123 (100 to 150)"),
        (2e-7, -1e-7, 5e-7, "2×10⁻⁷ (−1×10⁻⁷ to 5×10⁻⁷)"),
        (3.0, 3.0, 3.0, "3"),
        (3.0, -np.inf, np.inf, "3"),
    ],
)
def test_number_of_digits_follows_the_interval(value, low, high, expected):
    assert format_interval(IntervalEstimate(value, low, high, 9, "t")) == expected


# --- in a browser ---------------------------------------------------------------------------------


def _browser(profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
        "--allow-file-access-from-files", "--hide-scrollbars", f"--user-data-dir={profile}",
    ]  # fmt: skip
    assert CHROMIUM is not None
    command = [CHROMIUM, *options, *flags]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("dark", [False, True])
def test_browser_rendering(folder, tmp_path, dark):
    """No console message, no content wider than a phone, the background of the theme."""
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
    result = _browser(
        tmp_path / "profile", *theme, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()
    )
    title = re.search(r"<title>(.*)</title>", result.stdout)
    assert title, result.stderr
    width, paper, panels, narrowest = title[1].split("|")
    assert int(width) == 390
    assert paper == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")
    assert int(panels) == 4 + 4 + 3 + 3
    assert int(narrowest) > 100  # no column of single letters
    assert "CONSOLE" not in result.stderr
