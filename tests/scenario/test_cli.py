"""Output and exit codes of the commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import webbrowser
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from mores.cli.commands import main
from tests.refusals import check_message

Write = Callable[..., str]
TOYS = Path(__file__).parent / "toys.py"
FALSE_CLAIM = """\
  - statement: People who walk [do not] move
    kind: exact
    metric: drift
    arm: walking
    bound: {within: [0, 0.001]}
"""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print tables as on a wide terminal, without line breaks."""
    monkeypatch.setenv("COLUMNS", "250")


def mores(*arguments: str, cwd: Path, **rest: object) -> subprocess.Popen[str]:
    """The command line in another process."""
    return subprocess.Popen(
        [sys.executable, "-m", "mores.cli.commands", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **rest,  # type: ignore[call-overload]
    )


def test_check(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(), "replicates=1200", "sweep.env.num_values=[1, 2, 3]"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("s.yaml: ") and output.count("\n") == 1
    assert re.findall(r"[\d,]*\d", output) == ["2", "3", "1,200", "10", "1"]
    check_message(output)


def test_version_and_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for option in ("--version", "-V"):
        assert main([option]) == 0
        assert capsys.readouterr().out == f"mores {metadata.version('mores')}\n"
    assert main([]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("run", "check", "list", "claims"))
    assert main(["run", "--help"]) == 0
    output = capsys.readouterr().out
    assert "--only" in output
    assert main(["run", "-h"]) == 0
    assert capsys.readouterr().out == output
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    assert main(["--show-completion"]) == 0
    assert "_MORES_COMPLETE" in capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    for text in ("environments", "toy_walk", "People who walk towards their actions."):
        assert text in output
    for text in ("toy_stride", "populations", "People with all values at zero.", "karate"):
        assert text in output


@pytest.mark.cut(4)
@pytest.mark.parametrize(
    ("where", "present", "absent"),
    [
        (["stochastic"], ["toy_walk"], ["toy_still", "toy_stride"]),
        (["paper=toy"], ["toy_walk"], ["coevolution", "karate"]),
        (["stochastic=false"], ["toy_still"], ["toy_walk"]),
        (["stochastic", "env=lock_in"], [], ["toy_walk"]),
        (["env=lock_in"], ["lock_in"], ["karate"]),
        (["trains=True"], ["toy_learner"], ["mirror", "survey_respondent"]),
        (["loop=train"], ["toy_learner"], ["mirror", "toy_walk"]),
    ],
)
def test_list_where(
    where: list[str], present: list[str], absent: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", *(text for condition in where for text in ("--where", condition))]) == 0
    output = capsys.readouterr().out
    assert all(text in output for text in present)
    assert not any(f" {text} " in output for text in absent)
    if not present:
        check_message(output)


def test_run(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", write(), "--out", "folder"]) == 0
    output = capsys.readouterr().out
    assert "People who walk move away" in output and "holds" in output
    assert "folder/report.html" in output
    assert (tmp_path / "folder" / "report.html").exists()
    assert (tmp_path / "folder" / "scenario.yaml").read_text() == (tmp_path / "s.yaml").read_text()


@pytest.mark.full
def test_quiet(write: Write, good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", write(good + FALSE_CLAIM), "--quiet", "--only", "0"]) == 1
    assert capsys.readouterr() == ("", "")


def test_verbose_open_and_quiet(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or len(opened) == 1)
    assert main(["run", write(), "--only", "0", "--out", "r", "--verbose", "--open"]) == 0
    assert opened == [Path("r/report.html").resolve().as_uri()]
    log = [line.split(" ", 1)[1] for line in Path("r/log.txt").read_text().splitlines()]
    printed = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert [line for line in printed if line in log] == log
    assert main(["resume", "r", "--open"]) == 0  # the second time there is no browser
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "browser" in each]
    check_message(line)
    assert main(["resume", "r", "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_an_exception_of_a_class_of_its_own(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(BaseException):
        """Of a user's class."""

    def stop(*arguments: object) -> None:
        raise Stop("enough")

    monkeypatch.setattr("mores.experiments.run.dry_run.check_scenario", stop)
    assert main(["check", write()]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_traceback_of_a_defect(
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("mores.experiments.run.dry_run.check_scenario", broken)
    assert main(["check", write()]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["check", write(), "-v"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("Traceback") and error.count("mores: RuntimeError: broken") == 1


def test_a_claim_that_fails(write: Write, good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", write(good + FALSE_CLAIM)]) == 1
    output = capsys.readouterr().out
    assert "[do not] move" in output and "fails" in output


@pytest.mark.full
def test_one_replicate_has_no_interval(
    write: Write, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", write(good.replace("kind: exact", "kind: statistical")), "--only", "0"])
    output = capsys.readouterr().out.partition("report: ")[0]
    assert "undecided" in output and "inf" not in output
    check_message(" ".join(output.replace("─", " ").split()))


@pytest.mark.full
def test_some_replicates_only(write: Write, tmp_path: Path) -> None:
    import pyarrow.parquet

    assert main(["run", write(), "--out", "some", "--only", "3,0-1"]) == 0
    (table, *_) = (tmp_path / "some").rglob("metrics.parquet")
    replicates = pyarrow.parquet.read_table(table)["replicate"].to_pylist()
    assert set(replicates) == {0, 1, 3}


def test_a_scenario_without_claims(
    write: Write, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", write(good.partition("claims:")[0])]) == 0
    check_message(capsys.readouterr().out.partition("report: ")[0])


@pytest.mark.full
def test_claims_of_several_files(
    write: Write, good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(), write(good + FALSE_CLAIM, "t.yaml")
    assert main(["claims", first, "--run"]) == 0
    assert capsys.readouterr().out.count("People who walk move away") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.yaml", "t.yaml"]
    assert main(["claims", first, second, "--run", "--out", "claims"]) == 1
    output = capsys.readouterr().out
    assert output.count("People who walk move away") == 2
    assert output.count("fails") == 1
    assert len(list((tmp_path / "claims").glob("*/report.html"))) == 2


def test_all_files_are_checked_before_the_first_run(
    write: Write, good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = write(good.replace("drift]", "drft]"), "wrong.yaml")
    assert main(["claims", write(), wrong, "--run", "--out", "claims"]) == 2
    assert not (tmp_path / "claims").exists()
    error = capsys.readouterr().err
    assert error.startswith("wrong.yaml:12:23: metrics.1: ")
    check_message(error)


def test_a_folder_that_cannot_be_written(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", write(), "--out", "s.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "s.yaml" in line


@pytest.mark.full
def test_plugin(write: Write, tmp_path: Path) -> None:
    file = write()
    ran = mores("check", file, "--load", str(TOYS), cwd=tmp_path)
    out, err = ran.communicate()
    assert (ran.returncode, err) == (0, "")
    check_message(out)
    ran = mores("check", file, cwd=tmp_path)  # toy_walk is not registered
    out, err = ran.communicate()
    assert (ran.returncode, out) == (2, "")
    assert err.startswith("s.yaml:3:13: env.kind: ") and "'toy_walk'" in err


def test_interrupted(tmp_path: Path) -> None:
    # the plugin replaces the keyboard: it sends the signal at a known moment
    (tmp_path / "stop.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ran = mores("run", "karate", "--load", "stop.py", cwd=tmp_path)
    out, err = ran.communicate()
    assert (ran.returncode, out) == (130, "")
    assert err.startswith("mores: ")
    check_message(err)


@pytest.mark.cut(3)
@pytest.mark.parametrize("arguments", [["list"], ["check", "karate"], ["resume", "--help"]])
def test_closed_output(arguments: list[str], tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "mores.cli.commands", *arguments]
    ran = subprocess.run(command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.parametrize("command", ["--help", "list"])
def test_command_imports_no_heavy_module(command: str) -> None:
    code = (
        f"import sys; from mores.cli.commands import main; main([{command!r}]); "
        "print([m for m in ('torch', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


def test_describe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "coevolution"]) == 0
    output = capsys.readouterr().out
    assert "peers.graph" in output
    assert "whole number, at least 0 and at most 10,000" in output
    assert "Reward:" in output
    for text in ("Rules of assistant", "A turn of person, phase answer", "What are your values?"):
        assert text in output
    assert main(["describe", "toy_learner"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for text in (
        "Trains online and from recorded episodes.",
        "tiny or deep",
        "{kind: deep, hidden_sizes: [8, 8]}",
        "(of deep) units of each layer",
        "list of whole number, at least 1",
        "whole number, at least 1 and at most 9",
        "(of tiny) how many",
    ):
        assert text in output, text
    assert main(["describe", "mirrror"]) == 2
    error = capsys.readouterr().err
    assert "'mirror'" in error
    check_message(error)
