"""napari.yaml: npe2 accepts it, the package names it, and what it names exists."""

import importlib
import tomllib
from pathlib import Path

import pytest
import yaml

from unetrpp.io.formats import FILE_ENDINGS

ROOT = Path(__file__).parents[2]
FILE = ROOT / "unetrpp" / "napari" / "napari.yaml"
NEEDS_NAPARI = "unetrpp.napari.panel"
pytestmark = pytest.mark.filterwarnings("default")  # of napari and what it needs, in versions that a user may have


def test_the_packages_entry_point_is_the_manifest():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    package, _, name = project["entry-points"]["napari.manifest"]["unetrpp"].partition(":")
    assert ROOT.joinpath(*package.split("."), name) == FILE
    assert yaml.safe_load(FILE.read_text(encoding="utf8"))["name"] == project["name"]


def test_what_commands_name_exists():
    content = yaml.safe_load(FILE.read_text(encoding="utf8"))["contributions"]
    named = {command["id"]: command["python_name"] for command in content["commands"]}
    for python_name in named.values():
        module, _, function = python_name.partition(":")
        if module == NEEDS_NAPARI:
            pytest.importorskip("napari", reason='napari is an extra: pip install "unetrpp[napari]"')
        assert callable(getattr(importlib.import_module(module), function))
    used = {one["command"] for kind in ("widgets", "sample_data", "readers", "writers") for one in content[kind]}
    assert used == set(named)


def test_files_of_the_manifest_are_formats_that_are_read_and_written():
    content = yaml.safe_load(FILE.read_text(encoding="utf8"))["contributions"]
    (reader,), (writer,) = content["readers"], content["writers"]
    assert {pattern.removeprefix("*") for pattern in reader["filename_patterns"]} < set(FILE_ENDINGS)
    assert set(writer["filename_extensions"]) < set(FILE_ENDINGS)


def test_npe2_accepts_it():
    npe2 = pytest.importorskip("npe2", reason='npe2 comes with napari: pip install "unetrpp[napari]"')
    manifest = npe2.PluginManifest.from_file(FILE)
    manifest.validate_imports()
