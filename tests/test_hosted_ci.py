"""Workflow files, nox sessions, .ci/run and pre-commit: each names only steps, sessions and versions that exist."""

import ast
import re
import runpy
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
STEPS = runpy.run_path(str(ROOT / ".ci" / "steps.py"))["STEPS"]
INSTALL = "python -m pip install nox"


def sessions() -> dict[str, str]:
    """The source of every session of noxfile.py, by its name; nox itself need not be installed."""
    source = (ROOT / "noxfile.py").read_text(encoding="utf8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    return {node.name: ast.unparse(node) for node in functions}


def jobs(workflow: Path) -> dict[str, dict]:
    return yaml.safe_load(workflow.read_text(encoding="utf8"))["jobs"]


def expanded(command: str, matrix: dict) -> list[str]:
    """The command for every value of the one variable of the matrix that it names."""
    named = re.findall(r"\$\{\{ matrix\.(\w+) \}\}", command)
    if not named:
        return [command]
    (key,) = named
    values = matrix.get(key, []) + [entry[key] for entry in matrix.get("include", []) if key in entry]
    return [command.replace(f"${{{{ matrix.{key} }}}}", value) for value in values]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_nox_sessions_only(workflow):
    found = set()
    for job in jobs(workflow).values():
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert commands[0] == INSTALL
        for command in commands[1:]:
            for line in expanded(command, job["strategy"]["matrix"]):
                program, option, *named = shlex.split(line)
                assert (program, option) == ("nox", "-s")
                found |= set(named)
    assert found
    assert found <= sessions().keys()


def test_every_session_runs_in_a_workflow():
    texts = " ".join(path.read_text(encoding="utf8") for path in WORKFLOWS)
    assert {name for name in sessions() if not re.search(rf"\b{name}\b", texts)} == set()


def test_three_systems_and_every_supported_python():
    matrix = jobs(ROOT / ".github" / "workflows" / "tests.yml")["tests"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]


def test_sessions_and_the_own_script_run_the_same_steps():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf8")
    in_script = set(re.findall(r"^step (\w+)", script, re.MULTILINE)) | set(
        re.findall(r"^eval .*readme_command (\w+)", script, re.MULTILINE)
    )
    in_sessions = {
        name for source in sessions().values() for name in re.findall(r"(?:step|run)\(session, '(\w+)'", source)
    }
    assert in_sessions == STEPS.keys()
    assert in_script == STEPS.keys() - {"coverage", "examples"}  # the tests run the examples


def test_every_file_that_a_step_runs_exists():
    for commands in STEPS.values():
        for command in commands:
            for file in re.findall(r"\S+\.py", command):
                assert (ROOT / file).is_file()


def test_hooks_use_the_versions_of_the_constraints():
    constraints = set((ROOT / "constraints.txt").read_text(encoding="utf8").splitlines())
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf8"))["repos"]
    pinned = {hook["id"]: hook["additional_dependencies"] for hook in repository["hooks"]}
    assert pinned.keys() == {"ruff", "ruff-format", "mypy"}
    for requirements in pinned.values():
        assert set(requirements) <= constraints


def test_issue_forms_ask_for_the_report_of_doctor():
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = {path.stem: yaml.safe_load(path.read_text(encoding="utf8")) for path in folder.glob("*.yml")}
    assert forms.keys() == {"bug", "idea", "config"}
    for name in ("bug", "idea"):
        ids = [field["id"] for field in forms[name]["body"] if "id" in field]
        assert len(ids) == len(set(ids))
    doctor = next(field for field in forms["bug"]["body"] if field.get("id") == "doctor")
    assert doctor["validations"] == {"required": True}
    assert "unetrpp_doctor" in doctor["attributes"]["label"]
