"""Cases through an ensemble: the outcome is the same with threads and without."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.helpers.model import make_model, write_images
from unetrpp.inference import stream
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import predict_folder
from unetrpp.inference.inputs import find_cases
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import read_image


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
