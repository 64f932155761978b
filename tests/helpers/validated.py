"""A workspace with two models of two folds each, every fold validated as training does."""

import shutil
from pathlib import Path

import numpy as np

from tests.helpers.model import GEOMETRY, make_model
from tests.helpers.tiny import LABELS, ball
from unetrpp.dataset.cases import RawDataset, read_dataset
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.evaluation.summary import write_summary
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import predict_folder
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import Volume, write_image, write_segmentation


def validated_workspace(root: Path) -> Path:
    """``raw/balls`` of two cases, and the models unetrpp__3d_fullres and unet__3d_fullres, which differ in weights."""
    folder = root / "raw" / "balls"
    for i in range(2):
        image, label = ball(np.random.default_rng(i))
        write_image(folder / "imagesTr" / f"case_{i}_0000.nii.gz", Volume(image, GEOMETRY))
        write_segmentation(folder / "labelsTr" / f"case_{i}.nii.gz", label, GEOMETRY)
    results = root / "results" / "balls"
    first = make_model(results, folds=2)
    shutil.copy(first / "dataset.json", folder / "dataset.json")
    second = results / "unet__3d_fullres"
    shutil.copytree(first, second)
    for name, other in (("fold_0", "fold_1"), ("fold_1", "fold_0")):
        shutil.copy(first / name / "checkpoint_final.pt", second / other / "checkpoint_final.pt")
    raw = read_dataset(folder, "balls")
    for model in (first, second):
        validate(model, raw)
    return root


def validate(model: Path, raw: RawDataset) -> None:
    """What the trainer does after each fold; fold k holds out case_k."""
    for fold in range(2):
        case = next(c for c in raw.cases if c.id == f"case_{fold}")
        assert case.label is not None
        out = model / f"fold_{fold}" / "validation"
        predictor = Predictor(model, folds=[fold], device="cpu", mirroring=False)
        assert not predict_folder(Ensemble([predictor]), {case.id: case.images}, OutputOptions(out))
        summary, errors = evaluate_pairs({case.id: (out / f"{case.id}.nii.gz", case.label)}, LABELS, processes=1)
        assert not errors
        write_summary(out, summary)
