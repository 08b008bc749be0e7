"""The commands: what they print, and what code they end with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from mores.cli.commands import main
from tests.refusals import check_message

Write = Callable[..., str]
TOYS = Path(__file__).parent / "toys.py"
UNTRUE = """\
  - says: Who walks stays [where] they are
    kind: statistical
    measure: drift
    arm: walking
    bound: {within: [0, 0.001]}
"""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as on a wide terminal, where nothing is folded."""
    monkeypatch.setenv("COLUMNS", "250")


def mores(*arguments: str, cwd: Path, **rest: object) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mores.cli.commands", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **rest,  # type: ignore[call-overload]
    )


def test_check(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(), "replicates=1200", "sweep.env.values=[1, 2, 3]"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("s.yaml: ") and told.count("\n") == 1
    assert re.findall(r"[\d,]*\d", told) == ["2", "3", "1,200", "10", "1"]
    check_message(told)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mores {metadata.version('mores')}\n"
    assert main([]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("run", "check", "list", "claims"))
    assert main(["run", "--help"]) == 0
    assert "--only" in capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    for text in ("environments", "toy_walk", "People who walk where they say they will."):
        assert text in told
    for text in ("players", "toy_stride", "populations", "A crowd at zero.", "scenarios", "karate"):
        assert text in told


@pytest.mark.parametrize(
    ("where", "there", "gone"),
    [
        (["stochastic"], ["toy_walk"], ["toy_still", "toy_stride"]),
        (["paper=toy"], ["toy_walk"], ["coevolution", "karate"]),
        (["stochastic=false"], ["toy_still"], ["toy_walk"]),
        (["stochastic", "paper=nowhere"], [], ["toy_walk"]),
        (["env=lock_in"], ["lock_in"], ["karate"]),
        (["learns=True"], ["mirror", "toy_pupil"], ["toy_stride", "respondent"]),
        (["loop=improve"], ["toy_pupil"], ["mirror", "toy_walk"]),
        (["learns=false"], ["respondent"], ["toy_pupil", "mirror"]),
    ],
)
def test_list_where(
    where: list[str], there: list[str], gone: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", *(text for one in where for text in ("--where", one))]) == 0
    told = capsys.readouterr().out
    assert all(text in told for text in there)
    assert not any(f" {text} " in told for text in gone)
    if not there:
        check_message(told)


def test_run(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", write(), "--out", "here"]) == 0
    told = capsys.readouterr().out
    assert "Who walks gets somewhere" in told and "holds" in told
    assert "here/report.html" in told
    assert (tmp_path / "here" / "report.html").exists()
    assert (tmp_path / "here" / "scenario.yaml").read_text() == (tmp_path / "s.yaml").read_text()


def test_a_claim_that_fails(write: Write, good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", write(good + UNTRUE)]) == 1
    told = capsys.readouterr().out
    assert "stays [where] they are" in told and "fails" in told


def test_one_replicate_has_no_interval(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", write(), "--only", "0"])
    told = capsys.readouterr().out.partition("report: ")[0]
    assert "undecided" in told and "inf" not in told
    check_message(" ".join(told.replace("─", " ").split()))


def test_some_replicates_only(write: Write, tmp_path: Path) -> None:
    import pyarrow.parquet

    assert main(["run", write(), "--out", "some", "--only", "3,0-1"]) == 0
    (table, *_) = (tmp_path / "some").rglob("measures.parquet")
    replicates = pyarrow.parquet.read_table(table)["replicate"].to_pylist()
    assert set(replicates) == {0, 1, 3}


def test_a_scenario_without_claims(
    write: Write, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", write(good.partition("claims:")[0])]) == 0
    check_message(capsys.readouterr().out.partition("report: ")[0])


def test_claims_of_several_files(
    write: Write, good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(), write(good + UNTRUE, "t.yaml")
    assert main(["claims", first]) == 0
    assert capsys.readouterr().out.count("Who walks gets somewhere") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.yaml", "t.yaml"]
    assert main(["claims", first, second, "--out", "kept"]) == 1
    told = capsys.readouterr().out
    assert told.count("Who walks gets somewhere") == 2
    assert told.count("fails") == 1
    assert len(list((tmp_path / "kept").glob("*/report.html"))) == 2


def test_no_claim_is_run_before_all_files_are_fine(
    write: Write, good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = write(good.replace("drift]", "drft]"), "wrong.yaml")
    assert main(["claims", write(), wrong, "--out", "kept"]) == 2
    assert not (tmp_path / "kept").exists()
    said = capsys.readouterr().err
    assert said.startswith("wrong.yaml:12:20: measures.1: ")
    check_message(said)


def test_a_folder_that_cannot_be_written(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", write(), "--out", "s.yaml"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "s.yaml" in said[0]


@pytest.mark.slow
def test_code_of_ones_own(write: Write, tmp_path: Path) -> None:
    file = write()
    ran = mores("check", file, "--load", str(TOYS), cwd=tmp_path)
    out, err = ran.communicate()
    assert (ran.returncode, err) == (0, "")
    check_message(out)
    ran = mores("check", file, cwd=tmp_path)  # without it nobody knows toy_walk
    out, err = ran.communicate()
    assert (ran.returncode, out) == (2, "")
    assert err.startswith("s.yaml:3:13: env.kind: ") and "'toy_walk'" in err


@pytest.mark.slow
def test_interrupted(tmp_path: Path) -> None:
    # the user's file stands for the user's keyboard: a signal at a moment that is known
    (tmp_path / "stop.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ran = mores("run", "karate", "--load", "stop.py", cwd=tmp_path)
    out, err = ran.communicate()
    assert (ran.returncode, out) == (130, "")
    assert err.startswith("mores: ")
    check_message(err)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["list"], ["check", "karate"]])
def test_a_reader_that_has_gone(arguments: list[str], tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "mores.cli.commands", *arguments]
    ran = subprocess.run(command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.slow
def test_asking_for_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mores.cli.commands import main; main(['--help']); "
        "print([m for m in ('torch', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


def test_describe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "coevolution"]) == 0
    told = capsys.readouterr().out
    assert "peers.susceptibility" in told
    assert "share of the way to advice a round" in told
    assert "Reward:" in told
    assert main(["describe", "toy_pupil"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for text in (
        "Learns from reward, and from what it did.",
        "tiny or deep",
        "{kind: deep, hidden: [8, 8]}",
        "(of deep) units of each layer",
        "list of whole number, at least 1",
        "whole number, at least 1 and at most 9",
        "(of tiny) how many",
    ):
        assert text in told, text
    assert main(["describe", "mirrror"]) == 2
    said = capsys.readouterr().err
    assert "'mirror'" in said
    check_message(said)
