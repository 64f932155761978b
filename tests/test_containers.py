"""Dockerfile and unetrpp.def: what they install, as whom they run; their RUN lines are executed in a new environment."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.test_packaging import PROJECT, constant

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf8")
APPTAINER = (ROOT / "unetrpp.def").read_text(encoding="utf8")
BUILT_FROM = {"constraints.txt", "pyproject.toml", "setup.py", "README.md", "LICENSE"}


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def section(name: str) -> list[str]:
    """The lines of a section of unetrpp.def."""
    text = re.search(rf"^%{name}\n(.*?)(?=^%|\Z)", APPTAINER, re.MULTILINE | re.DOTALL)
    assert text is not None
    return [line.strip() for line in text[1].splitlines() if line.strip()]


def arguments() -> dict[str, str]:
    """The build arguments with their defaults."""
    return dict(rest.split("=", 1) for name, rest in instructions() if name == "ARG")


def runs() -> list[str]:
    return [rest for name, rest in instructions() if name == "RUN"]


def pip_lines() -> list[str]:
    return [line for line in runs() if "pip" in line]


def test_every_install_is_pinned_and_extras_exist():
    installs = [line for line in pip_lines() if " install " in line]
    assert len(installs) == 2
    assert all("-c constraints.txt" in line for line in installs)
    assert set(arguments()["EXTRAS"].split(",")) <= set(PROJECT["optional-dependencies"])
    (base,) = [rest for name, rest in instructions() if name == "FROM"]
    assert (
        f"(Python {base.removeprefix('python:').removesuffix('-slim')}, Linux)"
        in (ROOT / "constraints.txt").read_text()
    )


def test_the_image_runs_as_a_user_with_the_workspace_as_volume():
    names = [name for name, _ in instructions()]
    assert dict(instructions())["USER"] == "unetrpp"
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    assert dict(instructions())["VOLUME"] == "/workspace"
    assert ("ENV", "UNETRPP_WORKSPACE=/workspace") in instructions()


def test_both_take_all_that_the_package_is_built_from():
    folders = set(constant("PACKAGE_DIR").values())
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == BUILT_FROM | folders
    assert {line.split()[0] for line in section("files")} == BUILT_FROM | folders
    assert all(line == f"{line.split()[0]} /opt/unetrpp/{line.split()[0]}" for line in section("files"))


def test_apptainer_installs_what_docker_does():
    same = [re.sub(r"\$(\w+)", r"{{ \1 }}", line) for line in pip_lines()]
    assert [line for line in section("post") if "pip " in line] == same
    given = dict(line.split("=", 1) for line in section("arguments"))
    assert given == {key: value for key, value in arguments().items() if key != "UID"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="lines for bash")
def test_the_run_lines_install_a_working_package(tmp_path):
    """In a new environment. Its dependencies are this one's, so that nothing large is installed twice, unless
    UNETRPP_INSTALL_ALL is set; torch comes from the index that pip uses here. What makes the user is only parsed."""
    environment, checkout = tmp_path / "environment", tmp_path / "checkout"
    venv.EnvBuilder(with_pip=True).create(environment)
    python = environment / "bin" / "python"
    if not os.environ.get("UNETRPP_INSTALL_ALL"):
        site = subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        )
        (Path(site.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    parts = BUILT_FROM | set(constant("PACKAGE_DIR").values())
    for name in tracked:
        if name.partition("/")[0] in parts and not (ROOT / name).is_symlink():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            (checkout / name).write_bytes((ROOT / name).read_bytes())
    variables = {"EXTRAS": "dask", "UID": "1000"}
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    for line in runs():
        if "pip" not in line:
            assert subprocess.run(["bash", "-n", "-c", line], check=False).returncode == 0
            continue
        command = line.replace('--index-url "$TORCH_INDEX" ', "")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=checkout,
            env=clean | variables | path,
            capture_output=True,
            text=True,
            check=False,
        )
        print(f"$ {command}\n{done.stdout}")
        assert done.returncode == 0, done.stdout + done.stderr
    shown = subprocess.check_output([environment / "bin" / "unetrpp", "--version"], cwd=tmp_path, env=clean, text=True)
    assert shown.startswith("unetrpp ")
    where = "import unetrpp, sys; assert unetrpp.__file__.startswith(sys.prefix), unetrpp.__file__"
    subprocess.run([python, "-c", where], cwd=tmp_path, env=clean, check=True)
    assert shlex.split(dict(instructions())["ENTRYPOINT"]) == ["[unetrpp]"]
