"""Prediction of one CT with one and with five folds, mirrored, and the export of its logits."""

import shutil
import time
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec
import torch

from benchmarks.gpu_parts.cells import Cell, Setting, Values
from benchmarks.gpu_parts.dataset import CONFIGURATION, place, volume
from benchmarks.training_step import clock, seconds_of
from unetrpp.core.files import write_json
from unetrpp.core.text import GIGABYTE
from unetrpp.inference.export import export
from unetrpp.inference.predictor import Predictor
from unetrpp.model import checkpoint
from unetrpp.networks.build import build_network
from unetrpp.plans.plans import read_plans

FOLDS = 5


def cells(setting: Setting) -> list[Cell]:
    return [
        Cell("one fold, mirrored", partial(predict, setting, 1)),
        Cell("export alone", partial(export_alone, setting)),
        Cell("five folds, mirrored", partial(predict, setting, FOLDS)),
    ]


def model_folder(setting: Setting) -> Path:
    """The trained fold five times; where there is none, five untrained networks, whose decisions change from voxel to voxel."""
    workspace, name = place(setting)
    trained, model = workspace.model(name, "unetrpp", CONFIGURATION), setting.folder / "model"
    if (model / f"fold_{FOLDS - 1}" / "checkpoint_final.pt").exists():
        return model
    if (trained / "fold_0" / "checkpoint_final.pt").exists():
        shutil.copytree(trained, model, dirs_exist_ok=True)
        for fold in range(1, FOLDS):
            shutil.copytree(model / "fold_0", model / f"fold_{fold}", dirs_exist_ok=True)
        return model
    preprocessed = workspace.preprocessed(name)
    plans = read_plans(preprocessed / "unetrpp.json")
    configuration = plans.configuration(CONFIGURATION)
    write_json(model / "plans.json", msgspec.structs.replace(plans, configurations={CONFIGURATION: configuration}))
    for file in ("dataset.json", "fingerprint.json"):
        shutil.copy(preprocessed / file, model / file)
    weights = build_network(configuration.architecture).state_dict()
    for fold in range(FOLDS):
        (model / f"fold_{fold}").mkdir(exist_ok=True)
        checkpoint.save(model / f"fold_{fold}" / "checkpoint_final.pt", {"network": weights, "step": 0})
    return model


def loaded(setting: Setting, folds: int) -> Predictor:
    names = [str(fold) for fold in range(folds)]
    return Predictor(model_folder(setting), folds=names, device=setting.device)


def predict(setting: Setting, folds: int) -> Values:
    """Seconds from the read volume to the segmentation on its grid, and of them those of tiles and networks."""
    predictor, image = loaded(setting, folds), volume(setting)
    start = time.perf_counter()
    prepared = predictor.prepare(image, "ct")
    preprocessing = time.perf_counter() - start
    for _ in islice(predictor.logits(prepared), 1):  # cuDNN times its kernels
        pass
    device = predictor.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    whole = seconds_of(lambda: predictor(image), device)
    values = {"whole_s": whole, "preprocessing_s": preprocessing}
    if device.type == "cuda":
        values["reserved_gb"] = torch.cuda.max_memory_reserved(device) / GIGABYTE
    return values


def export_alone(setting: Setting) -> Values:
    """Seconds from logits that are there, as the sliding window gives them, to the segmentation on the input's grid."""
    predictor = loaded(setting, 1)
    prepared = predictor.prepare(volume(setting), "ct")
    start = clock(predictor.device)
    slabs = list(predictor.logits(prepared))
    logits = clock(predictor.device) - start
    grid = predictor.grid(prepared.properties)
    averaging = predictor.model.configuration.averaging
    seconds = seconds_of(lambda: export(slabs, grid, averaging=averaging).to_input(grid), predictor.device)
    return {"logits_s": logits, "export_s": seconds}
