"""Numbers and names in pages and scenarios against what they count."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mores.experiments.scenario.loading import load_scenario
from mores.registry.entries import ENVIRONMENTS, RECIPES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
CONTENTS = (ROOT / "docs/reference/contents.md").read_text("utf-8")
WORDS = {6: "Six", 20: "Twenty"}


def test_number_of_recipes() -> None:
    assert f"{WORDS[len(RECIPES)]} recipes are built in" in README


def test_contents_list_every_environment_and_scenario() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", CONTENTS, re.MULTILINE))
    scenarios = {path.stem for path in (ROOT / "scenarios").glob("*.yaml")}
    assert named == set(ENVIRONMENTS) | scenarios


def test_links_between_pages() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(([^)#\s]+)", text):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page}: {link}"
    linked = set(re.findall(r"\]\((docs/[^)#]+)", README))
    assert linked >= {str(page.relative_to(ROOT)) for page in pages if "docs" in page.parts[-3]}


@pytest.mark.parametrize("name", ["answers", "preferences"])
def test_number_of_recipes_of_a_scenario(name: str) -> None:
    scenario = load_scenario(name, []).scenario
    assistant = scenario.policies["assistant"]
    kinds = {assistant.kind}
    for arm in scenario.arms.values():
        whole = arm.get("policies.assistant", {})
        kinds.add(arm.get("policies.assistant.kind", whole.get("kind", assistant.kind)))
    assert scenario.about.startswith(f"{WORDS[len(kinds)]} recipes")
    (row,) = re.findall(rf"^\| `{name}` \|.*$", CONTENTS, re.MULTILINE)
    words = {"expert_iteration": "expert iteration", "online_dpo": "online dpo"}
    assert all(words.get(kind, kind) in row.lower() for kind in kinds)


def test_ratio_to_stable_baselines_names_its_seeds() -> None:
    results = json.loads((ROOT / "benchmarks/results/learning_two_cores.json").read_text())
    learners = results["rows"]["own"]["learners"]
    lines = {
        "tuned": "Stable-Baselines3 on 16 Gymnasium environments",
        "batched": "Stable-Baselines3 on our batched environment",
    }
    for name, text in lines.items():
        (row,) = [line for line in README.splitlines() if text in line and "token_feedback" in line]
        _, task, against, ratio, *_ = (cell.strip() for cell in row.split("|"))
        own, other = learners["mores"]["seeds"], learners[name]["seeds"]
        assert f"{own} seeds" in task
        assert (f"seeds 0 to {other - 1} only" in against) == (other != own)
        assert float(ratio) == float(f"{learners[name]['ratio_to_mores_seconds']:.2g}")


def test_gain_of_coupled_language_models() -> None:
    results = json.loads((ROOT / "benchmarks/results/language_coupling.json").read_text())
    page = (ROOT / "docs/how-to/language_roles.md").read_text("utf-8")
    titles = {
        "gumbel": "drawn by Gumbel",
        "inverse_cdf": "inverse distribution",
        "read": "read from",
    }
    for name, title in titles.items():
        (row,) = [line for line in page.splitlines() if line.startswith("|") and title in line]
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        assert cells == [
            f"{each['ratio']:.1f} [{each['low']:.1f}, {each['high']:.1f}]"
            for each in results[name][1:]
        ]
    assert f"{results['total_variation'][3]:.2f}"[1:] in page
    assert f"{100 * results['equal_replies'][2]:.0f} % of the third" in page
    assert f"{results['cpu_seconds'] / 60:.0f} CPU minutes" in page


def test_speed_and_exactness_of_local_language_models() -> None:
    rows = json.loads((ROOT / "benchmarks/results/language.json").read_text())["rows"]
    page = (ROOT / "docs/how-to/local_models.md").read_text("utf-8")
    names = {
        "tiny": "random Llama, 256 wide, 4 layers, 32,000 tokens",
        "bytes": "the same with 261 tokens",
        "smollm2": "SmolLM2-135M",
    }
    for part, name in names.items():
        measured = rows[part]
        ratios = measured["times_one_by_one"]
        cells = [
            f"{ratios[k]} times" for k in ("together", "together_kept", "choice", "choice_kept")
        ]
        line = f"| {name} | {measured['per_cpu_second']['one_by_one']} | {' | '.join(cells)} |"
        assert line in page
    assert rows["tiny"]["times_one_by_one"]["together"] >= 6
    assert rows["tiny"]["times_one_by_one"]["choice"] >= 15
    assert f"{rows['gumbel']['milliseconds']} ms a token" in page
    null = rows["null"]
    assert null["different_without"] == 0
    assert f"{null['equal']} of {null['persona_rounds']} replies" in page
    assert f"{null['tokens_of_an_arm']} tokens" in page
    assert f"{null['near_ties_of_an_arm']} near ties" in page


def test_costs_of_launchers() -> None:
    rows = json.loads((ROOT / "benchmarks/results/launchers.json").read_text())["rows"]
    page = (ROOT / "docs/how-to/many_machines.md").read_text("utf-8")
    local, cluster, job = rows["local"], rows["ray"], rows["slurm"]
    assert f"| `--jobs 2` | {local['start']:.0f} | {local['per_cell']:.2f} |" in page
    assert f"| {cluster['long_cell']:.1f} | {cluster['length']:.1f} |" in page
    assert f"| {job['per_cell']:.1f} | {job['long_cell']:.1f} | {job['length']:.0f} |" in page
    added = cluster["per_cell_wall"] - local["per_cell_wall"]
    assert f"Ray added {added:.2f} s" in page
    assert f"add about {cluster['start'] - local['start']:.0f} s" in page


def test_costs_of_the_bridges_to_mesa() -> None:
    results = json.loads((ROOT / "benchmarks/results/mesa_bridge.json").read_text())
    rows = [
        row
        for row in (ROOT / "docs/how-to/mesa.md").read_text("utf-8").splitlines()
        if re.search(r"\| [\d.]+ \|$", row)
    ]
    cells = [float(row.split("|")[2]) for row in rows]
    assert cells == [
        *results["environment_in_mesa"].values(),
        *results["mesa_in_environment"].values(),
    ]
