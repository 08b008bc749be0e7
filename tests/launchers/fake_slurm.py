"""Commands of Slurm for tests: `sbatch` starts the jobs of an array as processes."""

from __future__ import annotations

import sys
from pathlib import Path

SBATCH = """\
import os, re, subprocess, sys
from pathlib import Path

folder, text = Path(sys.argv[0]).parent, Path(sys.argv[-1]).read_text()
number = 1 + len(list(folder.glob("script-*")))
(folder / f"script-{number}").write_text(text)
for task in range(int(re.search(r"--array=0-([0-9]+)", text)[1]) + 1):
    ids = {"JOB_ID": 100 * number + task, "ARRAY_JOB_ID": number, "ARRAY_TASK_ID": task}
    ids |= {"LOCALID": 0, "PROCID": 0, "NODEID": 0, "NTASKS": 1, "JOB_NUM_NODES": 1}
    variables = {f"SLURM_{name}": str(value) for name, value in ids.items()}
    files = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(["bash", sys.argv[-1]], env=os.environ | variables, **files)
print(f"Submitted batch job {number}")
"""
SRUN = """\
import os, sys

words = sys.argv[1:]
while words[0].startswith("--"):
    del words[: 1 if words[0] == "--unbuffered" else 2]
os.execvp(words[0], words)
"""
SACCT = "print('JobID|State|NodeList')\n"
COMMANDS = {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": ""}


def make_slurm(folder: Path, **commands: str) -> None:
    """Write the commands into a new folder; `commands` replaces the text of some."""
    folder.mkdir()
    for name, text in (COMMANDS | commands).items():
        (folder / name).write_text(f"#!{sys.executable}\n{text}")
        (folder / name).chmod(0o755)
