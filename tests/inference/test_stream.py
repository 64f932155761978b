"""Cases through an ensemble: beside the network or in turn, the outcome is the same."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.helpers.model import make_model, write_images
from unetrpp.inference import stream
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.executors import SynchronousExecutor, io_executor
from unetrpp.inference.folder import predict_folder
from unetrpp.inference.inputs import find_cases
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import read_image


def test_only_another_device_leaves_the_processor_free_for_threads():
    with io_executor(torch.device("cpu")) as pool:
        assert pool.submit(threading.get_ident).result() == threading.get_ident()
    with io_executor(torch.device("cuda")) as pool:
        assert pool.submit(threading.get_ident).result() != threading.get_ident()


def test_an_error_in_turn_belongs_to_its_future():
    future = SynchronousExecutor().submit(int, "no number")
    assert isinstance(future.exception(), ValueError)
    assert SynchronousExecutor().submit(int, "12", base=8).result() == 10


@pytest.mark.parametrize("count", [1, 7])
def test_threads_and_turns_predict_alike(tmp_path, monkeypatch, count):
    model, images = make_model(tmp_path), tmp_path / "images"
    write_images(images, count)
    predictor = Predictor(model, folds=[0], device="cpu", mirroring=False)
    cases = find_cases([images], predictor.model.description)
    broken = sorted(cases)[-1] if count > 1 else None
    if broken:
        cases[broken][0].write_bytes(b"no image")
    assert set(predict_folder(Ensemble([predictor]), cases, OutputOptions(tmp_path / "turns"))) == {broken} - {None}
    monkeypatch.setattr(stream, "io_executor", lambda device: ThreadPoolExecutor(1))
    assert set(predict_folder(Ensemble([predictor]), cases, OutputOptions(tmp_path / "threads"))) == {broken} - {None}
    for case in set(cases) - {broken}:
        turns, threads = (read_image(tmp_path / way / f"{case}.nii.gz").array for way in ("turns", "threads"))
        np.testing.assert_array_equal(turns, threads)


def test_in_turn_a_case_is_recorded_before_the_next_one_is_read(tmp_path, monkeypatch):
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
