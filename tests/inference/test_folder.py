"""A folder of cases: resuming, parts, failed cases, and protection of files of other origin."""

import json
import logging
import math
import os

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.dicom import frames, write_series
from tests.helpers.model import make_model, make_model_2d, write_images
from tests.helpers.nifti import change, codes_of, sform_of, shear
from tests.helpers.tiny import LABELS
from unetrpp.cli.predict import main
from unetrpp.core.errors import UserError
from unetrpp.dataset.description import DatasetDescription
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import predict_folder
from unetrpp.inference.guards import volumes_ml
from unetrpp.inference.inputs import find_cases
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import earlier_runs
from unetrpp.inference.stream import record_cases
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, read_geometry, write_image
from unetrpp.io.readers.rtstruct import draw
from unetrpp.model.folder import ModelFolder


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path)


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / "images", 3)
    return tmp_path / "images"


def predict(*arguments):
    return main([str(a) for a in arguments])


def test_results_are_on_their_inputs_grids(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict("-i", images, "-o", out, "-m", model, "--no-mirroring", "--device", "cpu") == 0
    assert "3 of 3 cases" in capsys.readouterr().out
    for i in range(3):
        result, image = (
            sitk.ReadImage(str(out / f"case_{i}.nii.gz")),
            sitk.ReadImage(str(images / f"case_{i}_0000.nii.gz")),
        )
        for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(result, name)() == getattr(image, name)()
    record = json.loads((out / "predictions.json").read_text())
    (member,) = record["settings"]["members"]
    assert member["folds"] == ["0", "1"]
    assert len(member["model_hash"]) == 16
    case = record["cases"]["case_1"]
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "case_1.nii.gz")))
    assert case["volumes_ml"]["ball"] == pytest.approx((array == 1).sum() * 1.5 * 0.9 * 0.9 / 1000, rel=1e-3)
    assert case["geometry"]["spacing_zyx_mm"] == pytest.approx([1.5, 0.9, 0.9])


def test_a_second_run_does_only_what_is_left(model, images, tmp_path):
    out = tmp_path / "out"
    predictor = Predictor(model, folds=[0], device="cpu", mirroring=False)
    cases = find_cases([images], predictor.model.description)
    predict_folder(Ensemble([predictor]), dict(list(cases.items())[:2]), OutputOptions(out))
    stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    assert len(stamps) == 2
    (out / "case_0.nii.gz").unlink()
    (out / ".123.case_2.nii.gz").write_bytes(b"half")  # what a killed run leaves
    assert predict_folder(Ensemble([predictor]), cases, OutputOptions(out)) == {}
    assert (out / "case_1.nii.gz").stat().st_mtime_ns == stamps["case_1.nii.gz"]
    assert (out / "case_0.nii.gz").exists()
    assert (out / "case_2.nii.gz").exists()
    assert set(json.loads((out / "predictions.json").read_text())["cases"]) == set(cases)


def test_one_bad_case_is_reported_and_the_others_are_done(model, images, tmp_path, capsys):
    (images / "case_1_0000.nii.gz").write_bytes(b"")
    nan = sitk.GetImageFromArray(np.full((12, 24, 24), np.nan, np.float32))
    sitk.WriteImage(nan, str(images / "case_3_0000.nii.gz"))
    out = tmp_path / "out"
    assert predict("-i", images, "-o", out, "-m", model, "--folds", "0", "--no-mirroring") == 1
    captured = capsys.readouterr()
    assert "2 of 4 cases" in captured.out
    assert "case_1" in captured.err
    assert "empty (0 bytes)" in captured.err
    assert "NaN or infinite" in captured.err
    assert sorted(p.name for p in out.glob("*.nii.gz")) == ["case_0.nii.gz", "case_2.nii.gz"]
    assert set(json.loads((out / "predictions.json").read_text())["failed"]) == {"case_1", "case_3"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_old_result_stays_of_a_case_that_fails_now(model, images, tmp_path, overwrite):
    """Neither where its image has changed, nor with --overwrite; the other cases keep theirs."""
    out = tmp_path / "out"
    predictor = Predictor(model, folds=[0], device="cpu", mirroring=False)
    cases = find_cases([images], predictor.model.description)
    assert predict_folder(Ensemble([predictor]), cases, OutputOptions(out, uncertainty=True)) == {}
    before = {path.name for path in out.iterdir()}
    (images / "case_1_0000.nii.gz").write_bytes(b"")
    again = OutputOptions(out, overwrite=overwrite)
    assert set(predict_folder(Ensemble([predictor]), cases, again)) == {"case_1"}
    maps = {name for name in before if "entropy" in name or "disagreement" in name}
    removed = {"case_1.nii.gz"} | {name for name in maps if overwrite or name.startswith("case_1")}
    assert {path.name for path in out.iterdir()} == before - removed
    record = json.loads((out / "predictions.json").read_text())
    assert (list(record["cases"]), list(record["failed"])) == (["case_0", "case_2"], ["case_1"])
    assert record["pending"] == []


def test_what_stays_right_or_is_of_others_is_kept_where_a_case_fails(model, images, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predictor = Predictor(model, folds=[0], device="cpu", mirroring=False)
    cases = find_cases([images], predictor.model.description)
    predict_folder(Ensemble([predictor]), cases, OutputOptions(out))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "case_1.nii.gz").write_bytes(b"a reference, perhaps")

    def fail(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr("unetrpp.inference.stream._predict", fail)
    assert len(predict_folder(Ensemble([predictor]), cases, OutputOptions(out, uncertainty=True))) == 3
    assert len(list(out.glob("case_*.nii.gz"))) == 3
    assert len(json.loads((out / "predictions.json").read_text())["cases"]) == 3
    assert len(predict_folder(Ensemble([predictor]), cases, OutputOptions(tmp_path / "mine", overwrite=True))) == 3
    assert (tmp_path / "mine" / "case_1.nii.gz").read_bytes() == b"a reference, perhaps"


def test_a_failure_is_forgotten_once_another_part_has_done_the_case(model, images, tmp_path):
    out, good = tmp_path / "out", (images / "case_1_0000.nii.gz").read_bytes()
    (images / "case_1_0000.nii.gz").write_bytes(b"")
    arguments = ["-i", images, "-o", out, "-m", model, "--folds", "0", "--no-mirroring"]
    assert predict(*arguments, "--part", "2/2") == 1
    (images / "case_1_0000.nii.gz").write_bytes(good)
    assert predict(*arguments) == 0
    assert [path.name for path in out.glob("predictions*.json")] == ["predictions.json"]
    assert list(json.loads((out / "predictions.json").read_text())["cases"]) == ["case_0", "case_1", "case_2"]


def test_segmentations_of_other_settings_that_stay_are_named(model, images, tmp_path, caplog):
    out = tmp_path / "out"
    arguments = ["-o", out, "-m", model, "--no-mirroring", "--device", "cpu", "-i"]
    assert predict(*arguments, images, "--folds", "0") == 0
    assert predict(*arguments, images / "case_0_0000.nii.gz", "--folds", "1", "--overwrite") == 0
    assert "still holds 2 segmentations made with other settings, such as case_1.nii.gz" in caplog.text


def test_parts_share_a_folder(model, images, tmp_path):
    out = tmp_path / "out"
    for part in ("1/2", "2/2"):
        assert predict("-i", images, "-o", out, "-m", model, "--folds", "0", "--no-mirroring", "--part", part) == 0
    records = [json.loads(path.read_text())["cases"] for path in sorted(out.glob("predictions*.json"))]
    assert [sorted(record) for record in records] == [["case_0", "case_2"], ["case_1"]]
    assert predict("-i", images, "-o", out, "-m", model, "--part", "3/2") == 2


def test_other_settings_and_foreign_files_are_refused(model, images, tmp_path):
    predictor = Predictor(model, folds=[0], device="cpu", mirroring=False)
    cases = find_cases([images], predictor.model.description)
    predict_folder(Ensemble([predictor]), cases, OutputOptions(tmp_path / "out"))
    other = Predictor(model, folds=[1], device="cpu", mirroring=False)
    with pytest.raises(UserError, match=r"other settings \(members\); .* --overwrite"):
        predict_folder(Ensemble([other]), cases, OutputOptions(tmp_path / "out"))
    assert predict_folder(Ensemble([other]), cases, OutputOptions(tmp_path / "out", overwrite=True)) == {}
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "case_1.nii.gz").write_bytes(b"a reference, perhaps")
    with pytest.raises(UserError, match=r"no predictions.json lists"):
        predict_folder(Ensemble([predictor]), cases, OutputOptions(tmp_path / "labels"))


def test_a_single_file_and_what_is_wrong_with_the_input(model, images, tmp_path, capsys):
    assert (
        predict(
            "-i", images / "case_0_0000.nii.gz", "-o", tmp_path / "one", "-m", model, "--no-mirroring", "--uncertainty"
        )
        == 0
    )
    names = {p.name for p in (tmp_path / "one").iterdir()}
    maps = {"case_0_entropy.nii.gz", "case_0_disagreement.nii.gz"}
    assert names == {"predictions.json", "volumes.csv", "case_0.nii.gz", *maps}
    capsys.readouterr()
    assert predict("-i", tmp_path / "nowhere", "-o", tmp_path / "o", "-m", model) == 2
    assert "does not exist" in capsys.readouterr().err
    assert predict("-i", tmp_path / "one", "-o", tmp_path / "o", "-m", model) == 2
    error = capsys.readouterr().err
    assert "no image named CASE_0000.nii.gz" in error
    assert "but case_0.nii.gz and 2 more; rename it to case_0_0000.nii.gz" in error
    assert (
        predict("-i", images / "case_0_0000.nii.gz", images / "case_1_0000.nii.gz", "-o", tmp_path / "o", "-m", model)
        == 2
    )
    assert "2 files for a model with 1 channel (MRI)" in capsys.readouterr().err


def test_an_unusual_input_is_warned_about(model, images, tmp_path, caplog):
    image = sitk.ReadImage(str(images / "case_0_0000.nii.gz"))
    image.SetSpacing((0.1, 0.9, 1.5))
    (tmp_path / "odd").mkdir()
    sitk.WriteImage(image, str(tmp_path / "odd" / "odd_0000.nii.gz"))
    assert predict("-i", tmp_path / "odd", "-o", tmp_path / "out", "-m", model, "--folds", "0", "--no-mirroring") == 0
    warnings = json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]["odd"]["warnings"]
    assert any("spacing along y is 0.1 mm, training cases had 1 mm" in warning for warning in warnings)


def test_photographs_and_their_maps(tmp_path, caplog):
    """A 2D network on RGB images of a size below and above the patch; maps become TIFF."""
    model = make_model_2d(tmp_path)
    shapes = {"small": (11, 40), "large": (37, 30)}
    for case, shape in shapes.items():
        pixels = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "in" / f"{case}_0000.png"))
    out = tmp_path / "out"
    assert predict("-i", tmp_path / "in", "-o", out, "-m", model, "--uncertainty") == 0
    assert "a single fold has no other to disagree with" in caplog.text
    for case, shape in shapes.items():
        result = sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"{case}.png")))
        assert result.shape == shape
        assert set(np.unique(result)) <= {0, 1}
        entropy = sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"{case}_entropy.tif")))
        assert entropy.shape == shape
        assert entropy.dtype == np.float32


def test_a_folder_of_jpegs_for_a_model_of_pngs(tmp_path):
    model = make_model_2d(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "in" / "photo_0000.jpg"))
    assert predict("-i", tmp_path / "in", "-o", tmp_path / "out", "-m", model) == 0
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "photo.png"))).shape == (30, 40)


def test_a_volume_is_refused_by_a_model_of_photographs_and_other_cases_go_on(tmp_path):
    model, files = make_model_2d(tmp_path), {}
    for case, ending, geometry in (
        ("scan", ".nii.gz", Geometry(shape_zyx=(12, 30, 40), spacing_zyx_mm=(2.0, 1.0, 1.0))),
        ("slice", ".nii.gz", Geometry(shape_zyx=(1, 30, 40), spacing_zyx_mm=(2.0, 1.0, 1.0))),
        ("photo", ".png", Geometry(shape_zyx=(1, 30, 40), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)),
    ):
        files[case] = tuple(tmp_path / "in" / f"{case}_{i:04d}{ending}" for i in range(3))
        for i, path in enumerate(files[case]):
            write_image(
                path, Volume(np.random.default_rng(i).integers(0, 255, (1, *geometry.shape_zyx), np.uint8), geometry)
            )
    failed = predict_folder(quick(model), files, OutputOptions(tmp_path / "out"))
    assert failed == {
        "scan": "the image has 12 slices, but segmentations of this model are .png files, which hold a single one; "
        "give each slice as an image of its own"
    }
    assert cases_of(tmp_path / "out") == ["photo", "slice"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["photo.png", "slice.png"]


def quick(model, fold=0):
    return Ensemble([Predictor(model, folds=[fold], device="cpu", mirroring=False)])


def cases_of(out):
    return sorted(json.loads((out / "predictions.json").read_text())["cases"])


def test_foreign_files_and_inputs_are_safe_on_every_run(model, images, tmp_path):
    out, ensemble = tmp_path / "out", quick(model)
    cases = find_cases([images], ensemble.first.model.description)
    predict_folder(ensemble, {"case_0": cases["case_0"]}, OutputOptions(out))
    (out / "case_1.nii.gz").write_bytes(b"a reference, perhaps")
    with pytest.raises(UserError, match=r"holds case_1.nii.gz, which no predictions.json lists"):
        predict_folder(ensemble, cases, OutputOptions(out))
    scan = (images / "case_0_0000.nii.gz").rename(images / "scan.nii.gz")
    content = scan.read_bytes()
    (out / "case_2_entropy.nii.gz").write_bytes(b"of another program")
    with pytest.raises(UserError, match=r"holds case_2_entropy.nii.gz, which no predictions.json lists"):
        predict_folder(ensemble, {"case_2": cases["case_2"]}, OutputOptions(out, uncertainty=True))
    with pytest.raises(UserError, match="is one of the inputs"):
        predict_folder(ensemble, {"scan": (scan,)}, OutputOptions(images, overwrite=True))
    assert scan.read_bytes() == content


def test_outputs_that_a_killed_run_had_not_recorded_are_its_own(model, images, tmp_path):
    out, ensemble = tmp_path / "out", quick(model)
    cases = find_cases([images], ensemble.first.model.description)
    predict_folder(ensemble, {"case_0": cases["case_0"]}, OutputOptions(out))
    record = json.loads((out / "predictions.json").read_text())
    assert record["pending"] == []
    (out / "predictions.json").write_text(json.dumps(record | {"cases": {}, "pending": ["case_0.nii.gz"]}))
    assert predict_folder(ensemble, cases, OutputOptions(out)) == {}
    assert cases_of(out) == sorted(cases)


def test_maps_that_a_killed_run_had_not_recorded_are_its_own(model, images, tmp_path):
    out, ensemble = tmp_path / "out", quick(model)
    cases = find_cases([images], ensemble.first.model.description)
    predict_folder(ensemble, {"case_0": cases["case_0"]}, OutputOptions(out, uncertainty=True))
    record = json.loads((out / "predictions.json").read_text())
    (out / "predictions.json").write_text(json.dumps(record | {"cases": {}, "pending": ["case_0.nii.gz"]}))
    assert predict_folder(ensemble, cases, OutputOptions(out, uncertainty=True)) == {}


def test_maps_requested_later_are_written_and_other_records_stay(model, images, tmp_path):
    out, ensemble = tmp_path / "out", quick(model)
    cases = find_cases([images], ensemble.first.model.description)
    predict_folder(ensemble, cases, OutputOptions(out))
    one = {"case_1": cases["case_1"]}
    predict_folder(ensemble, one, OutputOptions(out, uncertainty=True, probabilities=True))
    maps = {p.name for p in out.glob("case_1_*")}
    assert maps == {f"case_1_{m}.nii.gz" for m in ("entropy", "disagreement", "probability_0", "probability_1")}
    assert cases_of(out) == sorted(cases)
    stamp = (out / "case_1.nii.gz").stat().st_mtime_ns
    predict_folder(ensemble, one, OutputOptions(out, uncertainty=True))
    assert (out / "case_1.nii.gz").stat().st_mtime_ns == stamp


def test_overwriting_in_parts_can_be_resumed(model, images, tmp_path):
    out, other = tmp_path / "out", quick(model, 1)
    cases = find_cases([images], other.first.model.description)
    predict_folder(quick(model), cases, OutputOptions(out))
    first, second = dict(list(cases.items())[::2]), dict(list(cases.items())[1::2])
    predict_folder(other, first, OutputOptions(out, part="1/2", overwrite=True))
    assert cases_of(out) == ["case_1"]
    predict_folder(other, second, OutputOptions(out, part="2/2", overwrite=True))
    assert sorted(p.name for p in out.glob("*.json")) == ["predictions_1_of_2.json", "predictions_2_of_2.json"]
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    assert predict_folder(other, cases, OutputOptions(out)) == {}
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")} == stamps


def test_a_batch_of_no_tiles_is_refused(model, images, tmp_path, capsys):
    with pytest.raises(SystemExit):
        predict("-i", images, "-o", tmp_path / "out", "-m", model, "--tile-batch", "0")
    assert "must be at least 1, not 0" in capsys.readouterr().err


def test_a_changed_image_is_predicted_again_by_whichever_part_has_it(model, images, tmp_path, caplog):
    out, ensemble = tmp_path / "out", quick(model)
    cases = find_cases([images], ensemble.first.model.description)
    predict_folder(ensemble, cases, OutputOptions(out, uncertainty=True))
    before = {path.name: path.read_bytes() for path in out.glob("case_*")}
    replaced = images / "case_1_0000.nii.gz"
    replaced.write_bytes((images / "case_2_0000.nii.gz").read_bytes())
    caplog.set_level("INFO")
    predict_folder(ensemble, {"case_1": cases["case_1"]}, OutputOptions(out, part="2/2"))
    assert "1 of 1 case has other images than when predicted before" in caplog.text
    assert cases_of(out) == ["case_0", "case_2"]
    changed = {name for name, content in before.items() if not (out / name).exists() or _bytes(out, name) != content}
    assert changed == {"case_1.nii.gz", "case_1_entropy.nii.gz", "case_1_disagreement.nii.gz"}
    assert not (out / "case_1_entropy.nii.gz").exists()  # a map of the former image
    first, second = (sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"case_{i}.nii.gz"))) for i in (1, 2))
    np.testing.assert_array_equal(first, second)
    stamp = (out / "case_1.nii.gz").stat().st_mtime_ns
    predict_folder(ensemble, cases, OutputOptions(out))
    assert (out / "case_1.nii.gz").stat().st_mtime_ns == stamp


def _bytes(out, name):
    return (out / name).read_bytes()


def test_a_record_names_files_of_its_own_folder_only(model, images, tmp_path):
    out = tmp_path / "out"
    assert predict("-i", images, "-o", out, "-m", model, "--folds", "0", "--no-mirroring") == 0
    precious = tmp_path / "precious"
    precious.touch()
    record = json.loads((out / "predictions.json").read_text())
    record["cases"]["case_1"] |= {"maps": ["../precious"], "inputs": "of another image"}
    (out / "predictions.json").write_text(json.dumps(record))
    assert predict("-i", images, "-o", out, "-m", model, "--folds", "0", "--no-mirroring") == 2
    assert precious.exists()


def test_dicom_series_in_and_dicom_seg_out(model, tmp_path, capsys):
    rng = np.random.default_rng(3)
    for case in ("jane", "joe_0000"):
        write_series(tmp_path / "scans" / case, rng.normal(0, 100, (12, 24, 24)))
    out, options = tmp_path / "out", ("-m", model, "--folds", "0", "--no-mirroring")
    assert predict("-i", tmp_path / "scans", "-o", out, "--dicom-seg", *options) == 0
    assert {path.name for path in out.iterdir()} >= {"jane.nii.gz", "jane.dcm", "joe.nii.gz", "joe.dcm"}
    slices = sitk.ReadImage(str(out / "jane.nii.gz"))
    _, segments = frames(out / "jane.dcm", slices)
    np.testing.assert_array_equal(segments[1], sitk.GetArrayFromImage(slices) == 1)
    # A folder of results among the series is not taken for a series.
    within = tmp_path / "scans" / "out"
    for _ in range(2):
        assert predict("-i", tmp_path / "scans", "-o", within, "--dicom-seg", "--fix", *options) == 0
    assert sorted(path.name for path in within.glob("*.dcm")) == ["jane.dcm", "joe.dcm"]
    # A single series is a case too, with the same result.
    assert predict("-i", tmp_path / "scans" / "jane", "-o", tmp_path / "one", *options) == 0
    alone = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "one" / "jane.nii.gz")))
    np.testing.assert_array_equal(alone, sitk.GetArrayFromImage(slices))
    # A SEG that is asked for later is written then; results are never written among the slices.
    assert predict("-i", tmp_path / "scans" / "jane", "-o", tmp_path / "one", "--dicom-seg", *options) == 0
    assert (tmp_path / "one" / "jane.dcm").exists()
    capsys.readouterr()
    assert predict("-i", tmp_path / "scans" / "jane", "-o", tmp_path / "scans" / "jane", *options) == 2
    assert "is one of the DICOM series to predict" in capsys.readouterr().err


def test_dicom_series_in_and_rtstruct_out(model, tmp_path):
    series = tmp_path / "scans" / "jane"
    write_series(series, np.random.default_rng(3).normal(0, 100, (12, 24, 24)))
    out = tmp_path / "out"
    command = ["-i", series, "-o", out, "-m", model, "--folds", "0", "--no-mirroring", "--rtstruct"]
    assert predict(*command) == 0
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "jane.nii.gz")))
    (roi,) = draw(out / "jane_rtstruct.dcm", [1], read_geometry(series))
    assert 0 < array.sum() < array.size
    np.testing.assert_array_equal(roi.inside, array == 1)
    (out / "jane_rtstruct.dcm").unlink()
    assert predict(*command) == 0
    assert (out / "jane_rtstruct.dcm").exists()


def test_a_folder_of_named_images_with_a_dicom_file_is_no_series(model, images, tmp_path):
    write_series(tmp_path / "series", np.zeros((3, 4, 4)))
    (tmp_path / "series" / "0.dcm").rename(images / "0.dcm")
    assert set(find_cases([images], ModelFolder.open(model).description)) == {"case_0", "case_1", "case_2"}


def test_a_dicom_seg_needs_a_series(model, images, tmp_path, capsys):
    assert predict("-i", images, "-o", tmp_path / "out", "-m", model, "--dicom-seg") == 2
    assert (
        "--dicom-seg is for DICOM series, but case_0, case_1 and case_2 came as other files" in capsys.readouterr().err
    )


def test_series_of_several_channels_are_named_as_files_are(tmp_path):
    description = DatasetDescription(name="x", channel_names=("T1", "T2"), labels=LABELS, file_ending=".nii.gz")
    scans = tmp_path / "scans"
    for name in ("a_0000", "a_0001"):
        write_series(scans / name, np.zeros((3, 4, 4)))
    assert find_cases([scans], description) == {"a": (scans / "a_0000", scans / "a_0001")}
    (scans / "a_0000").rename(scans / "b")
    with pytest.raises(UserError, match="named CASE_0000, CASE_0001"):
        find_cases([scans], description)


def test_a_sheared_image_is_straightened_when_asked(model, images, tmp_path, capsys):
    path = images / "case_1_0000.nii.gz"
    shear(path, 0.01, codes=(0, 1))
    out, options = tmp_path / "out", ("-m", model, "--folds", "0", "--no-mirroring")
    assert predict("-i", images, "-o", out, *options) == 1
    assert "unetrpp_predict) repairs it" in capsys.readouterr().err
    before = (out / "case_0.nii.gz").stat().st_mtime_ns
    assert predict("-i", images, "-o", out, "--fix", *options) == 0
    assert (out / "case_0.nii.gz").stat().st_mtime_ns == before
    result, fixed = (sitk.ReadImage(str(p)) for p in (out / "case_1.nii.gz", out / "fixed" / path.name))
    assert result.GetSize() == fixed.GetSize()
    np.testing.assert_allclose(result.GetDirection(), fixed.GetDirection(), atol=1e-6)
    warnings = json.loads((out / "predictions.json").read_text())["cases"]["case_1"]["warnings"]
    assert any("were sheared; they were set at right angles" in warning for warning in warnings)


def test_results_carry_the_transforms_of_their_images(model, images, tmp_path, caplog):
    """Programs that take the sform and programs that take the qform see both at one place."""
    path = images / "case_1_0000.nii.gz"
    sform = sform_of(path)
    sform[0, 3] += 10
    change(path, sform, (1, 2))
    change(images / "case_2_0000.nii.gz", 2 * sform, (1, 2))
    out = tmp_path / "out"
    assert predict("-i", images, "-o", out, "-m", model, "--no-mirroring", "--device", "cpu") == 1
    assert "case_1: warning: sform and qform of the image lie 10 mm apart; the sform is used" in caplog.text
    assert codes_of(out / "case_1.nii.gz") == (1, 2)
    np.testing.assert_allclose(sform_of(out / "case_1.nii.gz"), sform)
    record = json.loads((out / "predictions.json").read_text())
    assert record["cases"]["case_1"]["geometry"]["nifti"]["sform_code"] == 2
    assert "the sform of case_2_0000.nii.gz gives voxels of" in record["failed"]["case_2"]


def test_a_name_that_is_not_utf_8_is_named_and_the_others_are_done(model, images, tmp_path, capsys):
    (images / "case_1_0000.nii.gz").rename(images / os.fsdecode(b"M\xfcller_0000.nii.gz"))
    (images / "case_2_0000.nii.gz").rename(images / "new\nline_0000.nii.gz")
    out = tmp_path / "out"
    assert predict("-i", images, "-o", out, "-m", model, "--no-mirroring", "--device", "cpu") == 1
    printed = "".join(capsys.readouterr())
    assert "M\\xfcller  the file name is not UTF-8; rename the file" in printed
    assert "2 of 3 cases are segmented" in printed
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["case_0.nii.gz", "new\nline.nii.gz"]


@pytest.mark.skipif(os.name == "nt", reason="a backslash divides folders")
def test_a_name_with_a_backslash_fails_alone_and_the_folder_stays_usable(model, images, tmp_path, capsys):
    (images / "case_1_0000.nii.gz").rename(images / "images\\case_1_0000.nii.gz")
    command = ("-i", images, "-o", tmp_path / "out", "-m", model, "--no-mirroring", "--device", "cpu")
    for _ in range(2):
        assert predict(*command) == 1
        printed = "".join(capsys.readouterr())
        assert (
            "images\\case_1  the file name holds a backslash, which divides folders on Windows; rename the file"
            in printed
        )
        assert "2 of 3 cases are segmented" in printed


def test_a_second_run_into_the_folder_is_refused_and_parts_are_not(model, images, tmp_path, monkeypatch):
    ensemble, out = quick(model), tmp_path / "out"
    cases = find_cases([images], ModelFolder.open(model).description)
    halves = dict(list(cases.items())[:1]), dict(list(cases.items())[1:])

    def meanwhile(*arguments):
        monkeypatch.undo()
        with pytest.raises(
            UserError, match=rf"predictions.json is being written by process {os.getpid()} .* --part 1/2"
        ):
            predict_folder(ensemble, cases, OutputOptions(out))
        assert predict_folder(ensemble, halves[1], OutputOptions(out, part="2/2")) == {}
        return record_cases(*arguments)

    monkeypatch.setattr("unetrpp.inference.folder.record_cases", meanwhile)
    assert predict_folder(ensemble, halves[0], OutputOptions(out)) == {}
    assert set(earlier_runs(out)["predictions.json"].cases) == {"case_0"}
    assert set(earlier_runs(out)["predictions_2_of_2.json"].cases) == {"case_1", "case_2"}
    assert not list(out.glob(".*"))


def test_a_case_whose_record_could_not_be_read_again_fails_alone(model, images, tmp_path, monkeypatch):
    ensemble, cases = quick(model), find_cases([images], ModelFolder.open(model).description)

    def volumes(voxels, geometry):
        return {"ball": math.nan} if geometry.spacing_zyx_mm[0] == 3.0 else volumes_ml(voxels, geometry)

    grid = sitk.ReadImage(str(images / "case_1_0000.nii.gz"))
    grid.SetSpacing((*grid.GetSpacing()[:2], 3.0))
    sitk.WriteImage(grid, str(images / "case_1_0000.nii.gz"))
    monkeypatch.setattr("unetrpp.inference.stream.volumes_ml", volumes)
    failed = predict_folder(ensemble, cases, OutputOptions(tmp_path / "out"))
    assert list(failed) == ["case_1"]
    assert list(earlier_runs(tmp_path / "out")["predictions.json"].cases) == ["case_0", "case_2"]


def test_volumes_keep_their_digits_at_the_scale_of_a_microscope():
    grid = Geometry(shape_zyx=(4, 5, 6), spacing_zyx_mm=(1e-3, 1e-3, 1e-3))
    assert volumes_ml({"a": 7}, grid)["a"] == pytest.approx(7e-12, rel=1e-9)


def test_a_series_given_as_the_current_folder_is_named_as_it(model, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    out, rng = tmp_path / "out", np.random.default_rng(3)
    for case, given in (("jane", "."), ("joe", "../joe/slices/..")):
        write_series(tmp_path / case, rng.normal(0, 100, (12, 24, 24)))
        (tmp_path / case / "slices").mkdir()
        monkeypatch.chdir(tmp_path / case)
        assert predict("-i", given, "-o", out, "-m", model, "--folds", "0", "--no-mirroring", "--masks") == 0
        assert (out / f"{case}.nii.gz").is_file()
        assert [path.name for path in (out / case).iterdir()] == ["ball.nii.gz"]
    assert cases_of(out) == ["jane", "joe"]
    caplog.clear()
    assert predict("-i", tmp_path / "joe", "-o", out, "-m", model, "--folds", "0", "--no-mirroring", "--masks") == 0
    assert "1 of 1 case is finished already" in caplog.text


@pytest.mark.parametrize("name", ["_0000.nii.gz", "...nii.gz"])
def test_a_name_that_is_only_an_ending_is_refused(model, images, tmp_path, name, capsys):
    (images / "case_0_0000.nii.gz").rename(images / name)
    assert predict("-i", images / name, "-o", tmp_path / "out", "-m", model, "--folds", "0") != 0
    assert "the file name is nothing but an ending; rename the file" in capsys.readouterr().err


def test_two_results_of_one_name_are_refused(model, images, tmp_path, capsys):
    (images / "case_1_0000.nii.gz").rename(images / "case_0_entropy_0000.nii.gz")
    out, command = tmp_path / "out", ["-i", images, "-m", model, "--folds", "0", "--no-mirroring"]
    assert predict(*command, "-o", out, "--uncertainty") == 2
    assert "case_0_entropy.nii.gz would be written for case_0 and for case_0_entropy" in capsys.readouterr().err
    assert not out.exists() or not list(out.glob("*.nii.gz"))
    for part in ("1/2", "2/2"):
        assert predict(*command, "-o", out, "--uncertainty", "--part", part) == 2
    # Nor does a later run replace what an earlier one has recorded.
    one = images / "case_0_entropy_0000.nii.gz"
    assert predict(*command[2:], "-i", one, "-o", out) == 0
    before = _bytes(out, "case_0_entropy.nii.gz")
    other = [*command[2:], "-i", images / "case_0_0000.nii.gz", "-o", out]
    assert predict(*other, "--uncertainty") == 2
    assert predict(*other) == 0
    assert _bytes(out, "case_0_entropy.nii.gz") == before
