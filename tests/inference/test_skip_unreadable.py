"""unetrpp_predict over every defect of a folder: it is named, the others are segmented, and the exit code says so."""

import shutil

import numpy as np
import pytest

from tests.helpers.dicom_files import write_series
from tests.helpers.folder_defects import DEFECTS, SLICES, add_what_does_not_count
from tests.helpers.model import make_model, write_images
from unetrpp.cli.predict import main
from unetrpp.inference.predict import predict


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"), 1)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    write_images(folder, 2)
    for i, case in enumerate("ab"):
        (folder / f"case_{i}_0000.nii.gz").rename(folder / f"{case}_0000.nii.gz")
    return folder


def run(images, out, model, *more):
    arguments = ["-i", images, "-o", out, "-m", model, "--no-mirroring", "--device", "cpu", *more]
    return main([str(argument) for argument in arguments])


def test_what_does_not_count_changes_nothing(images, tmp_path, model, capsys):
    add_what_does_not_count(images)
    assert run(images, tmp_path / "out", model) == 0
    assert capsys.readouterr().err == ""
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {"a.nii.gz", "b.nii.gz"}


@pytest.mark.parametrize("kind", DEFECTS)
def test_every_defect_is_named_and_the_others_are_segmented(images, tmp_path, model, capsys, kind):
    make, name = DEFECTS[kind]
    make(images, images / "b_0000.nii.gz")
    for more, code in (((), 1), (("--skip-unreadable",), 0)):
        assert run(images, tmp_path / "out", model, *more) == code
        printed = capsys.readouterr()
        assert any(line.startswith(name) for line in printed.err.splitlines())
        assert {"a.nii.gz", "b.nii.gz"} <= {path.name for path in (tmp_path / "out").glob("*.nii.gz")}


def test_nothing_that_can_be_used_is_no_success(images, tmp_path, model):
    for case in "ab":
        (images / f"{case}_0000.nii.gz").write_bytes(b"")
    assert run(images, tmp_path / "out", model, "--skip-unreadable") == 1


def test_a_failure_that_is_not_of_the_input_is_no_omission(images, tmp_path, model, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("unetrpp.inference.stream.volumes_ml", fail)
    result = predict(input=images, output=tmp_path / "out", model=model, device="cpu", skip_unreadable=True)
    assert result.failed.keys() == {"a", "b"}
    assert all(message.startswith("memory ran out") for message in result.failed.values())
    assert result.left_out == {}


def test_the_python_call_tells_omissions_from_failures(images, tmp_path, model):
    shutil.copyfile(images / "a_0000.nii.gz", images / "c.nii.gz")
    options = {"input": images, "output": tmp_path / "out", "model": model, "device": "cpu", "mirroring": False}
    assert predict(**options).failed.keys() == {"c.nii.gz"}
    skipped = predict(**options, skip_unreadable=True)
    assert not skipped.failed
    assert skipped.left_out.keys() == {"c.nii.gz"}
    assert skipped.segmented.keys() == {"a", "b"}


def test_of_several_parts_the_first_names_what_is_left_out(images, tmp_path, model, capsys):
    shutil.copyfile(images / "a_0000.nii.gz", images / "c.nii.gz")
    for part, code in (("1/2", 1), ("2/2", 0)):
        assert run(images, tmp_path / "out", model, "--part", part) == code
        assert ("c.nii.gz" in capsys.readouterr().err) == (code == 1)


def test_images_beside_the_slices_of_a_series_are_named_and_the_series_segmented(tmp_path, model, capsys):
    array = np.random.default_rng(0).integers(0, 100, (12, 24, 24)).astype(np.uint16)
    write_series(tmp_path / "images" / "A", array)
    write_series(tmp_path / "images" / "A" / "scout", SLICES)
    (tmp_path / "images" / "A" / "preview.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "images" / "A" / "report.txt").write_bytes(b"text")
    assert run(tmp_path / "images", tmp_path / "out", model) == 1
    error = capsys.readouterr().err
    assert "A/preview.jpg  is not a slice of the series A; move it elsewhere" in error
    assert "A/scout        lies in the folder of the series A" in error
    assert (tmp_path / "out" / "A.nii.gz").exists()
    assert run(tmp_path / "images", tmp_path / "out", model, "--skip-unreadable") == 0
