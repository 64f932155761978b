"""Cases through an ensemble: the outcome is the same with threads and without."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.helpers.model import GEOMETRY, make_model, write_images
from unetrpp.core.files import read_json
from unetrpp.inference import stream
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import predict_folder
from unetrpp.inference.inputs import find_cases
from unetrpp.inference.notices import Notice
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import Predictions
from unetrpp.io.images import Volume, read_compact_image, read_image, write_image


@pytest.mark.parametrize("count", [1, 7])
def test_the_results_do_not_depend_on_threads(tmp_path, monkeypatch, count):
    model, images = make_model(tmp_path), tmp_path / "images"
    write_images(images, count)
    predictor = Predictor(model, folds=[0], device="cpu", mirroring=False)
    cases = find_cases([images], predictor.model.description)
    broken = sorted(cases)[-1] if count > 1 else None
    if broken:
        cases[broken][0].write_bytes(b"no image")
    assert set(predict_folder(Ensemble([predictor]), cases, OutputOptions(tmp_path / "synchronous"))) == {broken} - {
        None
    }
    monkeypatch.setattr(stream, "io_executor", lambda device: ThreadPoolExecutor(1))
    assert set(predict_folder(Ensemble([predictor]), cases, OutputOptions(tmp_path / "threads"))) == {broken} - {None}
    for case in set(cases) - {broken}:
        synchronous, threads = (
            read_image(tmp_path / way / f"{case}.nii.gz").array for way in ("synchronous", "threads")
        )
        np.testing.assert_array_equal(synchronous, threads)


def test_without_threads_a_case_is_recorded_before_the_next_one_is_read(tmp_path, monkeypatch):
    model, images = make_model(tmp_path), tmp_path / "images"
    write_images(images, 3)
    predictor, events = Predictor(model, folds=[0], device="cpu", mirroring=False), []

    def watch(name):
        function = getattr(stream, name)

        def watched(*given):
            events.append(name)
            return function(*given)

        monkeypatch.setattr(stream, name, watched)

    watch("_load")
    watch("_record")
    predict_folder(
        Ensemble([predictor]), find_cases([images], predictor.model.description), OutputOptions(tmp_path / "out")
    )
    assert events == ["_load", "_record"] * 3


@pytest.mark.parametrize("log_warnings", [True, False])
def test_warnings_are_always_recorded_and_logged_where_asked(tmp_path, monkeypatch, caplog, log_warnings):
    model, images = make_model(tmp_path), tmp_path / "images"
    write_images(images, 12)
    monkeypatch.setattr(stream, "check_input", lambda *given: [Notice("spacing", "odd")])
    predictor = Predictor(model, folds=[0], device="cpu", mirroring=False)
    output = OutputOptions(tmp_path / "out", log_warnings=log_warnings)
    cases = find_cases([images], predictor.model.description)
    with caplog.at_level("WARNING", "unetrpp"):
        predict_folder(Ensemble([predictor]), cases, output)
    recorded = read_json(tmp_path / "out" / "predictions.json", Predictions).cases
    assert [(case, record.warnings[0]) for case, record in recorded.items()] == [
        (case, "odd") for case in sorted(cases)
    ]
    first = [f"{case}: warning: odd" for case in list(cases)[:10]]
    summary = "12 of 12 cases have warnings: spacing (12); the first 10 are above, {} lists all"
    assert caplog.messages == ([*first, summary.format(tmp_path / "out" / "predictions.json")] if log_warnings else [])


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8])
def test_whole_numbers_in_a_file_are_predicted_as_their_floats(tmp_path, dtype):
    """They become float32 where preprocessing copies them: a CT of int16 is never held twice in 4 bytes a voxel."""
    predictor = Predictor(make_model(tmp_path), folds=[0], device="cpu", mirroring=False)
    array = np.random.default_rng(0).integers(0, 250, (1, 12, 24, 24))
    array[:, :3] = 0  # a rim that is cropped
    kinds = {"whole": array.astype(dtype), "floats": array.astype(np.float32)}
    for name, values in kinds.items():
        write_image(tmp_path / "in" / f"{name}_0000.nii.gz", Volume(values, GEOMETRY))
    cases = find_cases([tmp_path / "in"], predictor.model.description)
    assert read_compact_image(cases["whole"]).array.dtype == dtype
    output = OutputOptions(tmp_path / "out", uncertainty=True, intensities=True)
    assert predict_folder(Ensemble([predictor]), cases, output) == {}
    for end in (".nii.gz", "_entropy.nii.gz"):
        whole, floats = (read_image(tmp_path / "out" / f"{name}{end}").array for name in kinds)
        np.testing.assert_array_equal(whole, floats)
    records = read_json(tmp_path / "out" / "predictions.json", Predictions).cases
    assert records["whole"].intensities == records["floats"].intensities
    assert records["whole"].warnings == records["floats"].warnings
