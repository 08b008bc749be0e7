"""Packaging: links in git, and complete sdist and wheel that work on their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("envs", "agents", "scenarios")
DATA = (".yaml", ".json", ".j2", ".css", ".js", ".csv", ".mplstyle", ".typed")
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a client of a library that no extra has
        if getattr(error, "code", None) != "not_installed":
            raise
        continue
    assert module.__file__.startswith(sys.prefix), f"{name} is not the installed module: {module}"
"""
WHERE = "import sysconfig; print(sysconfig.get_path('purelib'))"


class Installed(NamedTuple):
    """A wheel, its files, and the `bin` folder of a virtual environment with it."""

    wheel: Path
    files: set[str]
    bin: Path


def run(*command: str | Path, cwd: Path) -> str:
    """Output of a command that must succeed, run outside the checkout and its environment."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    process = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.returncode == 0, f"{command}: exit code {process.returncode}:\n{process.stdout}"
    return process.stdout


def expected() -> set[str]:
    """Paths in a wheel of the source and data files of mores."""
    top = ROOT / "src" / "mores"
    paths = set()
    for start in [top, *(top / name for name in LINKED)]:
        for path in start.rglob("*"):
            if path.is_file() and path.suffix in (".py", *DATA):
                paths.add(f"mores/{path.relative_to(top).as_posix()}")
    return paths


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An sdist of the checkout and a wheel of that sdist, built without network access."""
    work = tmp_path_factory.mktemp("build")
    checkout = work / "checkout"
    ignored = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=ignored)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", work, checkout, cwd=work)
    (sdist,), (wheel,) = work.glob("*.tar.gz"), work.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in a new virtual environment with the libraries of this one, but without mores."""
    _, wheel = built
    home = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home.parent)
    python = home / "bin" / "python"
    purelib = Path(run(python, "-c", WHERE, cwd=home).strip())
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*pip, "--no-index", wheel, cwd=home)
    # A folder in a .pth file is searched after the environment's own; the .pth files in it, among
    # them the link to the checkout, are not read.
    (purelib / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    return Installed(wheel, files, home / "bin")


def test_git_keeps_links() -> None:
    """If git wrote text files in place of links, the package would have no environments."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-s", *(f"src/mores/{name}" for name in LINKED)]
    listed = run(*command, cwd=ROOT).splitlines()
    modes = {line.split("\t")[1]: line.split()[0] for line in listed}
    assert modes == {f"src/mores/{name}": "120000" for name in LINKED}


@pytest.mark.parametrize("name", LINKED)
def test_links_are_relative(name: str) -> None:
    link = ROOT / "src" / "mores" / name
    assert os.readlink(link) == f"../../{name}"
    assert link.is_dir()


@pytest.mark.parametrize("name", ["envs", "agents"])
def test_top_level_folder_is_not_a_package(name: str) -> None:
    """An `__init__.py` there would hide the library `agents` in the checkout."""
    assert not (ROOT / name / "__init__.py").exists()
    for folder in (ROOT / name).rglob("*"):
        if folder.is_dir() and any(folder.glob("*.py")):
            assert (folder / "__init__.py").exists(), f"{folder} needs an __init__.py"


def test_sdist_holds_real_files(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        members = archive.getmembers()
    assert not [m.name for m in members if m.issym() or m.islnk()]
    files = {str(PurePosixPath(*PurePosixPath(m.name).parts[1:])) for m in members}
    assert not {f"src/{name}" for name in expected()} - files
    assert {"LICENSE", "README.md", "pyproject.toml"} <= files


def test_wheel_holds_every_file(installed: Installed) -> None:
    assert not expected() - installed.files
    others = {name.split("/")[0] for name in installed.files} - {"mores"}
    assert all(name.endswith(".dist-info") for name in others), others
    with zipfile.ZipFile(installed.wheel) as archive:
        for entry in archive.infolist():
            assert entry.external_attr >> 28 != 0o12, f"{entry.filename} is a link"


@pytest.mark.full
def test_every_module_imports(installed: Installed, tmp_path: Path) -> None:
    names = sorted(
        ".".join(PurePosixPath(name).with_suffix("").parts).removesuffix(".__init__")
        for name in installed.files
        if name.startswith("mores/") and name.endswith(".py") and not name.endswith("__main__.py")
    )
    assert {"mores.core.environment", "mores.envs.graphs.influence_graph"} <= set(names)
    run(installed.bin / "python", "-c", IMPORT_ALL, *names, cwd=tmp_path)


def test_command_line_works(installed: Installed, tmp_path: Path) -> None:
    mores = installed.bin / "mores"
    assert "run" in run(mores, "--help", cwd=tmp_path)
    listed = run(mores, "list", cwd=tmp_path)
    for name in ("lock_in", "voters"):
        assert name in listed, listed
