"""A stand-in for SLURM: sbatch, scontrol and scancel as shell scripts on PATH, and a queue that this process works off."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

JOB = "4711"


class Slurm:
    """Runs the tasks of an array script one after the other, as SLURM starts them on a node.

    Attributes:
        environment: of the tasks.
        queue: indices of tasks that wait.
        states: by index, the exit code of each of its runs.
        log: of all tasks.
    """

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.requeued, self.log = folder / "requeued", folder / "slurm.log"
        programs = folder / "programs"
        programs.mkdir(parents=True)
        _program(programs / "scontrol", f'[ "$1" = requeue ] && echo "$2" >> "{self.requeued}"')
        # The job script that dask-jobqueue writes: it runs in the background until scancel ends it. As SLURM does, this takes a copy,
        # since dask-jobqueue deletes the script once it is submitted.
        _program(
            programs / "sbatch",
            f'job=$(mktemp "{folder}/job.XXXXXX"); cp "$1" "$job"; echo submitted >> "{self.log}"\n'
            f'setsid bash "$job" >> "{self.log}" 2>&1 & echo "Submitted batch job $!"',
        )
        _program(programs / "scancel", 'kill -TERM -- "-$1"')
        _program(programs / "unetrpp_train", f'exec "{sys.executable}" -m unetrpp train "$@"')
        self.environment = environment | {"PATH": f"{programs}{os.pathsep}{environment['PATH']}"}
        self.queue: list[int] = []
        self.states: dict[int, list[int]] = {}

    def sbatch(self, script: Path, *arguments: str) -> None:
        """Queue the tasks of the script's own --array."""
        self.script, self.arguments = script, arguments
        first, last = re.findall(r"^#SBATCH --array=(\d+)-(\d+)$", script.read_text(), re.MULTILINE)[0]
        self.queue = list(range(int(first), int(last) + 1))

    def run_next(self, until: Callable[[], bool] | None = None) -> int:
        """Run the next task to its end. ``until`` it is true, then its time is over: SIGTERM goes to the script alone, as by
        ``--signal=B:TERM``. A task that asks for it comes to the end of the queue again. Returns its exit code."""
        index = self.queue.pop(0)
        own = {"SLURM_ARRAY_JOB_ID": JOB, "SLURM_ARRAY_TASK_ID": str(index)}
        with self.log.open("ab") as log:
            command = ["bash", str(self.script), *self.arguments]
            task = subprocess.Popen(command, env=self.environment | own, stdout=log, stderr=log, start_new_session=True)
            if until is not None:
                while task.poll() is None and not until():
                    time.sleep(0.05)
                task.send_signal(signal.SIGTERM)
            code = task.wait(300)
        self.states.setdefault(index, []).append(code)
        if self.requeued.exists():
            self.queue += [int(line.removeprefix(f"{JOB}_")) for line in self.requeued.read_text().split()]
            self.requeued.unlink()
        return code


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/bash\n{line}\n")
    path.chmod(0o755)
