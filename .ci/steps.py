"""The steps of continuous integration, which .ci/run and noxfile.py both run: `python .ci/steps.py STEP [ARGUMENT ...]`.

A step's commands are those of the environment whose Python runs this file. Further arguments go to the last of them.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

STEPS = {
    "tests": ["pytest"],
    "coverage": ["pytest --cov --cov-report=term"],
    "checks": [
        "ruff check .",
        "ruff format --check .",
        "mypy unetrpp tests",
        "lint-imports",
        "python .ci/structure.py",
    ],
    "package": ["python .ci/package.py"],
    "napari": ["npe2 validate --imports unetrpp/napari/napari.yaml", "pytest -n 0 tests/napari"],
    "docs": ["mkdocs build --strict"],  # with --quiet, warnings would not count
    "examples": ["pytest -n 0 tests/test_examples.py"],
    "demo": ["python .ci/demo.py"],
}


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] not in STEPS:
        print(f"usage: python .ci/steps.py {'|'.join(STEPS)} [ARGUMENT ...]", file=sys.stderr)
        return 2
    commands = [shlex.split(command) for command in STEPS[arguments[0]]]
    commands[-1] += arguments[1:]
    scripts = sysconfig.get_path("scripts")
    environment = os.environ | {"PATH": os.pathsep.join((scripts, os.environ.get("PATH", "")))}
    for command in commands:
        print(f"$ {shlex.join(command)}", flush=True)
        program = [sys.executable] if command[0] == "python" else [str(Path(scripts) / command[0])]
        code = subprocess.run([*program, *command[1:]], cwd=ROOT, env=environment, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
