"""The attention report of small 3D and 2D models: the page, the printed table, and cases that cannot be shown."""

import re

import msgspec
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from tests.helpers.model import give_own_attention, make_model, make_model_2d, write_images
from tests.helpers.tiny import ball
from unetrpp.cli.attention_report import main
from unetrpp.core.files import read_json, write_json
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, write_image, write_segmentation
from unetrpp.networks.build import build_network
from unetrpp.plans.plans import Plans
from unetrpp.report.attention_report import write_attention_report

SHAPE = (8, 16, 16)  # one tile


@pytest.fixture
def model(tmp_path):
    """Fold 0 learned a gate and a squeeze-and-excitation, fold 1 has the planned network without any."""
    model = make_model(tmp_path / "results" / "balls", folds=2)
    give_own_attention(model, 0, {"gate@0": 1.5, "se@1": 0.7})
    return model


def one_tile() -> tuple[Volume, np.ndarray]:
    image, label = ball(np.random.default_rng(0))
    geometry = Geometry(shape_zyx=SHAPE, spacing_zyx_mm=(1.0, 1.0, 1.0))
    return Volume(image[:, 2:10, 4:20, 4:20], geometry), label[2:10, 4:20, 4:20]


def test_the_command_writes_one_page_about_an_image_file(model, tmp_path, capsys):
    write_images(tmp_path / "images", 1)
    assert main([str(model), str(tmp_path / "images" / "case_0_0000.nii.gz"), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    page = model / "fold_0" / "attention_case_0.html"
    assert str(page) in out
    assert "gate@0" in out
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 2  # maps and bars
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "Dice" not in text.partition("<table>")[2].partition("</table>")[0]  # no label was given
    page.unlink()
    path, modules = write_attention_report(model, tmp_path / "images" / "case_0_0000.nii.gz", device="cpu")
    assert path == page
    assert page.read_text() == text
    assert [row[0] for row in modules] == ["module", "gate@0", "se@1"]


def test_a_training_case_is_shown_with_its_label(model, tmp_path, capsys):
    raw = tmp_path / "raw" / "balls"
    image, label = one_tile()
    write_image(raw / "imagesTr" / "ball_7_0000.nii.gz", image)
    write_segmentation(raw / "labelsTr" / "ball_7.nii.gz", label, image.geometry)
    write_json(raw / "dataset.json", msgspec.json.decode((model / "dataset.json").read_bytes()))
    command = [str(model), "ball_7", "--workspace", str(tmp_path), "--device", "cpu", "-o", str(tmp_path / "p.html")]
    assert main(command) == 0
    assert "Dice ball" in capsys.readouterr().out
    assert "Dice ball" in (tmp_path / "p.html").read_text()
    assert main([*command[:1], "ball_8", *command[2:]]) == 2
    assert "neither a file nor a training case" in capsys.readouterr().err


def test_a_label_that_fix_repaired_is_taken_instead_of_the_drawn_one(model, tmp_path, capsys):
    raw, (image, label) = tmp_path / "raw" / "balls", one_tile()
    write_image(raw / "imagesTr" / "ball_7_0000.nii.gz", image)
    elsewhere = Geometry(shape_zyx=SHAPE, spacing_zyx_mm=(9.0, 9.0, 9.0))
    write_segmentation(raw / "labelsTr" / "ball_7.nii.gz", label, elsewhere)
    write_json(raw / "dataset.json", msgspec.json.decode((model / "dataset.json").read_bytes()))
    command = [str(model), "ball_7", "--workspace", str(tmp_path), "--device", "cpu", "-o", str(tmp_path / "p.html")]
    assert main(command) == 2
    assert "image and label lie on different grids" in capsys.readouterr().err
    write_segmentation(tmp_path / "preprocessed" / "balls" / "labels" / "ball_7.nii.gz", label, image.geometry)
    assert main(command) == 0


def test_a_2d_model(tmp_path, capsys):
    model = make_model_2d(tmp_path)
    plans = read_json(model / "plans.json", Plans)
    plan = plans.configurations["2d"]
    own = plan.architecture.with_focal({"gate@0": 1.0, "se@0": 1.0})  # placed by the planner: no architecture.json
    placed = {"2d": msgspec.structs.replace(plan, architecture=own)}
    write_json(model / "plans.json", msgspec.structs.replace(plans, configurations=placed))
    torch.save({"format": 1, "network": build_network(own).state_dict()}, model / "fold_0" / "checkpoint_final.pt")
    colours = np.random.default_rng(0).integers(0, 255, (30, 24, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), tmp_path / "photo.png")
    geometry = Geometry(shape_zyx=(1, 30, 24), spacing_zyx_mm=(1.0, 1.0, 1.0))
    label = np.zeros((1, 30, 24), np.uint8)
    label[0, 8:20, 5:15] = 1
    write_segmentation(tmp_path / "label.png", label, geometry)
    assert main([str(model), str(tmp_path / "photo.png"), "--label", str(tmp_path / "label.png"), "--device=cpu"]) == 0
    assert "Dice ball" in capsys.readouterr().out
    assert (model / "fold_0" / "attention_photo.html").exists()


def test_a_model_without_modules_is_refused(model, tmp_path, capsys):
    write_images(tmp_path / "images", 1)
    image = str(tmp_path / "images" / "case_0_0000.nii.gz")
    assert main([str(model), image, "--fold", "1"]) == 2
    assert "has no focal gate and no squeeze-and-excitation" in capsys.readouterr().err
    assert main([str(model), image, "--fold", "5"]) == 2


def test_a_label_on_another_grid_is_refused(model, tmp_path, capsys):
    image, label = one_tile()
    write_image(tmp_path / "a_0000.nii.gz", image)
    moved = msgspec.structs.replace(image.geometry, spacing_zyx_mm=(2.0, 1.0, 1.0))
    write_segmentation(tmp_path / "label.nii.gz", label, moved)
    command = [str(model), str(tmp_path / "a_0000.nii.gz"), "--label", str(tmp_path / "label.nii.gz"), "--device=cpu"]
    assert main(command) == 2
    assert "different grids" in capsys.readouterr().err
