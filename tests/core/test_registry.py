"""Built-in, registered and unknown names."""

import pytest

from tests.helpers.packages import install
from unetrpp.core.errors import UserError
from unetrpp.core.registry import find


def test_built_in_names_come_first(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "[unetrpp.trainers]\nstandard = colorsys:nothing\n")
    assert find("trainer", "standard", {"standard": int}) is int


def test_registered_names_are_found_and_named(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "[unetrpp.planners]\nmine = colorsys:rgb_to_hsv\n")
    assert find("planner", "mine", {})(1.0, 1.0, 1.0) == (0.0, 0.0, 1.0)
    with pytest.raises(UserError, match="planner 'nine' is not one of mine, unet; install the package"):
        find("planner", "nine", {"unet": print})
    with pytest.raises(UserError, match="trainer 'mine' is not one of"):
        find("trainer", "mine", {})


@pytest.mark.parametrize("target", ["no_such_module:X", "colorsys:no_such_name"])
def test_a_broken_package_is_reported(tmp_path, monkeypatch, target):
    install(tmp_path, monkeypatch, f"[unetrpp.networks]\nmine = {target}\n")
    with pytest.raises(UserError, match=f"is registered as {target}, which cannot be imported"):
        find("network", "mine", {})


def test_import_paths_are_accepted_from_the_command_line_only():
    assert find("trainer", "colorsys:rgb_to_hsv", {}, allow_import_path=True)(1.0, 1.0, 1.0) == (0.0, 0.0, 1.0)
    with pytest.raises(
        UserError, match=r"trainer 'colorsys:rgb_to_hsv' is an import path from a file.*, or give --trainer"
    ):
        find("trainer", "colorsys:rgb_to_hsv", {})
    with pytest.raises(UserError, match=r"is an import path from a file, .* register it under unetrpp.networks$"):
        find("network", "colorsys:rgb_to_hsv", {})
    for name in ("no_such_module:X", "colorsys:no_such_name", "a b:c"):
        with pytest.raises(UserError, match=f"--planner {name} cannot be imported"):
            find("planner", name, {}, allow_import_path=True)


@pytest.mark.parametrize(
    ("kind", "name", "here"),
    [
        ("planner", "nnUNetPlannerResEncXL", "--preset resenc-xl"),
        ("trainer", "nnUNetTrainer_100epochs", "--epochs N or --recipe nnunet"),
    ],
)
def test_classes_of_nnunet_are_answered_with_what_to_type_here(kind, name, here):
    with pytest.raises(UserError, match=f"a class of nnU-Net; here: {here}"):
        find(kind, name, {})
