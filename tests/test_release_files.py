"""The files of a release state the version, the dependencies and the commands that the package has."""

import re
from pathlib import Path

import yaml
from jinja2 import Environment, StrictUndefined

from tests.test_packaging import PROJECT, names
from unetrpp import __version__

ROOT = Path(__file__).parent.parent
# Names of conda-forge where they are not those of PyPI.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "blosc2": "python-blosc2"}


def recipe() -> dict:
    """recipe/meta.yaml as conda-build renders it: a template of Jinja2 that knows PYTHON."""
    text = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf8")
    return yaml.safe_load(Environment(undefined=StrictUndefined).from_string(text).render(PYTHON="python"))


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf8"))
    assert citation["version"] == __version__
    assert recipe()["package"] == {"name": "unetrpp", "version": __version__}


def test_licence_and_summary_agree():
    about, citation = recipe()["about"], yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf8"))
    assert about["license"] == citation["license"] == PROJECT["license"]
    assert about["summary"] == citation["abstract"] == PROJECT["description"]


def test_the_recipe_has_the_dependencies_and_commands():
    (python,) = [f"python {PROJECT['requires-python']}"]
    run = [python]
    for requirement in PROJECT["dependencies"]:
        (name,) = names([requirement])
        run.append(f"{CONDA.get(name, name)} >={requirement.partition('>=')[2]}")
    assert recipe()["requirements"]["run"] == run
    assert recipe()["requirements"]["host"] == [python, "pip", "setuptools >=77"]
    assert recipe()["build"]["entry_points"] == [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]


def test_the_changelog_begins_with_what_is_not_released():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]
