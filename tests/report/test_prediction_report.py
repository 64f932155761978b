"""The page of a folder of predictions: all of its cases, also of other parts and earlier runs, and none that stops the others."""

import json

import numpy as np
import pytest

from tests.helpers.html import Page, require_self_contained
from tests.helpers.model import give_own_attention, make_model, make_model_2d, make_model_of, write_images
from tests.helpers.pictures import unpack
from unetrpp.cli.predict import main
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import Predictions
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, read_image, read_label, write_colours
from unetrpp.report.case_maps import case_maps
from unetrpp.report.prediction_report import NO_IMAGE, write_prediction_report
from unetrpp.report.viewer import page_script


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("results"))


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / "images", 3)
    return tmp_path / "images"


def predicted(model, images, out, *options: str) -> int:
    fixed = ["--no-mirroring", "--device", "cpu", "--report"]
    return main(["-i", str(images), "-o", str(out), "-m", str(model), *fixed, *options])


def settings_of(page: Page) -> dict:
    return json.loads(next(content for kind, content in page.scripts if kind == "application/json"))


def cases_of(page: Page) -> dict[str, dict]:
    return {case["name"]: case for case in settings_of(page)["cases"]}


def page_at(out) -> Page:
    return require_self_contained((out / "report.html").read_text(), page_script())


def test_the_page_lists_and_shows_every_case(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert predicted(model, images, out, "--uncertainty") == 0
    assert f"report: {out / 'report.html'}" in capsys.readouterr().out
    page, record = page_at(out), read_json(out / "predictions.json", Predictions)
    assert page.tables[0][0] == ["case", "ball (ml)", "warnings"]
    assert [row[0] for row in page.tables[0][1:]] == ["case_0", "case_1", "case_2"]
    data = [content for kind, content in page.scripts if kind == "text/plain"]
    for i, (name, case) in enumerate(cases_of(page).items()):
        arrays = unpack(case["picture"], data[i])
        assert arrays["prediction"].sum() == read_label(out / f"{name}.nii.gz").array.sum()
        assert {"entropy", "disagreement"} < arrays.keys()
        assert "reference" not in arrays
        assert case["warnings"] == list(record.cases[name].warnings)
        assert case["sizes"] == {"ball": f"{record.cases[name].volumes_ml['ball']:.4g} ml"}
    before = (out / "report.html").read_bytes()
    assert predicted(model, images, out, "--uncertainty") == 0
    assert (out / "report.html").read_bytes() == before


def test_maps_show_the_gates_of_the_first_fold(images, tmp_path):
    model, out = make_model(tmp_path / "results"), tmp_path / "out"
    give_own_attention(model, 1, {"gate@0": 1.5})
    assert predicted(model, images, out, "--maps", "--folds", "1") == 0
    page = page_at(out)
    data = [content for kind, content in page.scripts if kind == "text/plain"]
    predictor = Predictor(model, folds=[1], device="cpu", mirroring=False)
    for i, case in enumerate(cases_of(page).values()):
        shown = {each["name"]: each for each in case["picture"]["maps"]}
        assert shown.keys() == {"entropy", "gate@0"}
        truth = case_maps(predictor, read_image(images / f"{case['name']}_0000.nii.gz"), "")["gate@0"]
        assert np.ptp(unpack(case["picture"], data[i])["gate@0"]) > 0
        assert truth.min() - 1e-6 <= shown["gate@0"]["low"] < shown["gate@0"]["high"] <= truth.max() + 1e-6
    assert predicted(model, images, tmp_path / "other", "--maps", "--folds", "0", "--uncertainty") == 0
    for case in cases_of(page_at(tmp_path / "other")).values():  # fold 0 has no gate
        assert [each["name"] for each in case["picture"]["maps"]] == ["entropy", "disagreement"]


def test_the_page_of_a_part_has_the_cases_of_all_parts(model, images, tmp_path):
    out = tmp_path / "out"
    assert predicted(model, images, out, "--part", "1/2") == 0
    assert list(cases_of(page_at(out))) == ["case_0", "case_2"]
    assert predicted(model, images, out, "--part", "2/2") == 0
    cases = cases_of(page_at(out))
    assert list(cases) == ["case_0", "case_1", "case_2"]
    assert all(case["picture"] for case in cases.values())


def test_what_cannot_be_shown_keeps_its_row_and_the_others_their_picture(model, images, tmp_path):
    out = tmp_path / "out"
    assert predicted(model, images, out) == 0
    (out / "case_1.nii.gz").write_bytes(b"damaged")
    (images / "case_2_0000.nii.gz").rename(tmp_path / "case_2_0000.nii.gz")
    write_prediction_report(out, input=images, model=model)
    cases = cases_of(page_at(out))
    assert cases["case_0"]["picture"]
    assert "case_1.nii.gz" in cases["case_1"]["missing"]
    assert cases["case_2"]["missing"] == NO_IMAGE
    (out / "case_1.nii.gz").unlink()
    write_images(images, 1)
    (images / "case_0_0000.nii.gz").write_bytes((tmp_path / "case_2_0000.nii.gz").read_bytes())
    write_prediction_report(out, input=images, model=[model])
    cases = cases_of(page_at(out))
    assert list(cases) == ["case_0", "case_2"]  # a segmentation that is gone is no result
    assert cases["case_0"]["missing"] == "its image has changed since it was segmented"


def test_failed_cases_and_those_of_a_run_that_goes_on_are_named(model, images, tmp_path):
    out = tmp_path / "out"
    (images / "case_1_0000.nii.gz").write_bytes(b"")
    assert predicted(model, images, out) == 1
    page = page_at(out)
    assert list(cases_of(page)) == ["case_0", "case_2"]
    assert any(row[0] == "case_1" and "empty" in row[1] for table in page.tables for row in table)
    record = json.loads((out / "predictions.json").read_text())
    write_json(out / "predictions_2_of_2.json", record | {"cases": {}, "failed": {}, "pending": ["other.nii.gz"]})
    write_prediction_report(out, input=images, model=model)
    assert "2 cases segmented in out; 1 more not finished when this page was written." in page_at(out).text


def test_cases_come_in_the_review_order_with_their_expected_dice(model, images, tmp_path):
    out = tmp_path / "out"
    assert predicted(model, images, out) == 0
    record = json.loads((out / "predictions.json").read_text())
    for case, expected, by in (("case_0", 0.9, "one"), ("case_1", 0.7, "other"), ("case_2", 0.6, "one")):
        ball = {"expected": expected, "low": expected - 0.1, "high": expected + 0.05}
        record["cases"][case] |= {"expected_dice": {"ball": ball}, "expected_by": by}
    write_json(out / "predictions.json", record)
    write_prediction_report(out, input=images, model=model)
    assert [row[:4] for row in page_at(out).tables[0]] == [
        ["case", "review", "expected Dice", "expected Dice ball"],
        ["case_2", "1", "0.600", "0.60 (0.50 to 0.65)"],
        ["case_0", "2", "0.900", "0.90 (0.80 to 0.95)"],
        ["case_1", "-", "-", "-"],  # of another calibration, so it cannot be compared
    ]


def test_photographs_have_pixels_and_colours(tmp_path):
    model, rng = make_model_2d(tmp_path / "results"), np.random.default_rng(0)
    geometry = Geometry(shape_zyx=(1, 20, 31), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    (tmp_path / "images").mkdir()
    photo = rng.integers(0, 256, (3, 1, 20, 31)).astype(np.uint8)
    write_colours(tmp_path / "images" / "cell_0000.png", Volume(photo, geometry))
    assert predicted(model, tmp_path / "images", tmp_path / "out") == 0
    page = page_at(tmp_path / "out")
    assert page.tables[0][0] == ["case", "ball (pixels)", "warnings"]
    (case,) = cases_of(page).values()
    assert case["picture"]["flat"]
    (data,) = [content for kind, content in page.scripts if kind == "text/plain"]
    arrays = unpack(case["picture"], data)
    for k, levels in enumerate(case["picture"]["levels"]):
        np.testing.assert_array_equal(np.array(levels)[arrays[f"channel {k}"]], photo[k])


def test_another_file_of_this_name_is_not_replaced(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("my notes")
    assert predicted(model, images, out) == 2
    assert "is not an HTML page" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["report.html"]


def test_a_folder_without_predictions_is_refused(model, images, tmp_path):
    with pytest.raises(UserError, match=r"has no predictions\.json"):
        write_prediction_report(tmp_path, input=images, model=model)


def test_chosen_regions_have_their_volumes(tmp_path, images):
    regions = (Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2))
    labels = LabelScheme(names=("background", "edema", "core tissue"), values=(0, 1, 2), regions=regions)
    model = make_model_of(tmp_path / "results", labels)
    out = tmp_path / "out"
    assert predicted(model, images, out, "--classes", "core") == 0
    assert page_at(out).tables[0][0] == ["case", "core (ml)", "warnings"]
    assert all(row[1] for row in page_at(out).tables[0][1:])
