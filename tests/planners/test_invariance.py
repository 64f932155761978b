"""Decisions hang on nothing that does not matter: air around the body, names, orders, the rounding of headers, gain and offset.

Every test plans a dataset and a changed copy of it, attention and loss by the labels included, and compares the whole plans
but for the words of reasons and warnings.
"""

import copy
import json
import os
import re
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from unetrpp.dataset.synthetic import ORGANS, synthetic_case
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, read_image, read_label, write_image, write_segmentation
from unetrpp.networks.training_memory import TrainingMemory
from unetrpp.planners import attention_and_loss
from unetrpp.planners.pipeline import plan_and_preprocess

BEFORE: dict[object, dict] = {}
REAL = Path(os.environ.get("UNETRPP_TEST_DATA", "absent"))
NAMES = tuple(organ.name for organ in ORGANS)


@dataclass(frozen=True)
class Dataset:
    """``cases``: name -> image (Z, Y, X), label and spacing in mm. ``air`` is the value of the background."""

    channel: str
    names: tuple[str, ...]  # of the labels 1, 2, ...
    cases: dict[str, tuple[np.ndarray, np.ndarray, tuple[float, float, float]]]
    air: float = 0.0


def mr(cases: int = 5) -> Dataset:
    """Bodies in air that is exactly 0, with organs on one side, close to isotropic."""
    found = {}
    for number in range(cases):
        image, label = synthetic_case(0, number)
        found[f"case_{number}"] = (image.array[0], label.array[0], image.geometry.spacing_zyx_mm)
    return Dataset("MR", NAMES, found)


def ct(cases: int = 4) -> Dataset:
    """Isotropic, with noise in the air and organs that touch the border of the image."""
    found = {}
    for number in range(cases):
        rng = np.random.default_rng(number)
        image = rng.normal(-1000, 20, (24 + number, 40, 36)).round()
        label = np.zeros(image.shape, np.uint8)
        label[:8, 5:15, 4:12], label[10:13, 20:30, 22:36], label[20, 20, 20] = 1, 2, 3
        image[:, 4:36, 4:32] = rng.normal(40, 15, image[:, 4:36, 4:32].shape).round()
        image[label == 2] += 150
        found[f"case_{number}"] = (image.astype(np.float32), label, (1.0, 1.0, 1.0))
    return Dataset("CT", NAMES, found, air=-1024.0)


def photographs() -> Dataset:
    found = {}
    for number in range(5):
        rng = np.random.default_rng(number)
        image, label = rng.integers(1, 255, (1, 60, 70)), np.zeros((1, 60, 70), np.uint8)
        label[0, 10:30, 5:25], label[0, 40:44, 40 + number : 44 + number], label[0, 50, 60] = 1, 2, 3
        found[f"case_{number}"] = (image.astype(np.float32), label, (1.0, 1.0, 1.0))
    return Dataset("grey", NAMES, found)


def hippocampus() -> Dataset:
    folder = REAL / "Task04_Hippocampus"
    found: dict[str, tuple] = {}
    for number in range(1, 400):
        name = f"hippocampus_{number:03d}.nii.gz"
        if (folder / "imagesTr" / name).exists() and len(found) < 6:
            image, label = read_image([folder / "imagesTr" / name]), read_label(folder / "labelsTr" / name)
            found[name[:-7]] = (image.array[0], label.array[0].astype(np.uint8), image.geometry.spacing_zyx_mm)
    return Dataset("MRI", ("Anterior", "Posterior"), found)


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """The memory of a network with gates takes seconds to measure, and follows from the network, which is compared."""
    monkeypatch.setattr(attention_and_loss, "training_memory", lambda network: TrainingMemory(0.0, 1e9))


DATASETS = {"mr": mr, "ct": ct, "photographs": photographs, "hippocampus": hippocampus}


@pytest.fixture(params=DATASETS)
def dataset(request) -> Dataset:
    if request.param == "hippocampus" and not REAL.is_dir():
        pytest.skip("UNETRPP_TEST_DATA does not point to real data")
    return DATASETS[request.param]()


@pytest.fixture
def unchanged(dataset, tmp_path) -> dict:
    """A copy of the plans of the dataset as it is, which is planned once."""
    key = (dataset.channel, dataset.names)
    if key not in BEFORE:
        BEFORE[key] = planned(dataset, tmp_path / "unchanged")
    return copy.deepcopy(BEFORE[key])


def planned(dataset: Dataset, folder: Path, executor: Executor | None = None) -> dict:
    """The plans as JSON, without the words of reasons and warnings and the digest of the measured dataset."""
    raw = folder / "raw" / "Made"
    for case, (image, label, spacing) in dataset.cases.items():
        geometry = Geometry(shape_zyx=image.shape, spacing_zyx_mm=spacing)
        write_image(raw / "imagesTr" / f"{case}_0000.nii.gz", Volume(image[None], geometry))
        write_segmentation(raw / "labelsTr" / f"{case}.nii.gz", label, geometry)
    content = {
        "channel_names": {"0": dataset.channel},
        "labels": {"background": 0} | {name: i for i, name in enumerate(dataset.names, 1)},
        "numTraining": len(dataset.cases),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(content))
    with executor or ThreadPoolExecutor(1) as pool:
        done = plan_and_preprocess(
            "Made", workspace=folder, attention="focal", loss="auto", gpu_memory_gb=8, width=0.25, executor=pool
        )
    assert done.errors == ()
    plans = msgspec.to_builtins(done.plans)
    del plans["made_from"]
    plans["warnings"] = sorted(re.sub(r"\(.*?\)|case_\d+", "", warning) for warning in plans["warnings"])
    for decision in decisions_of(plans):
        del decision["why"]
    return plans


def decisions_of(plans: dict) -> list[dict]:
    return [*plans["decisions"], *(d for c in plans["configurations"].values() for d in c["decisions"])]


def without_intensities(plans: dict) -> dict:
    """Without the statistics that follow the intensities."""
    for decision in decisions_of(plans):
        if decision["about"].startswith("normalisation"):
            decision["value"] = decision["value"].partition(",")[0]
    for configuration in plans["configurations"].values():
        for channel in configuration["preprocessing"]["normalization"]:
            del channel["statistics"]
    return plans


def flat(content: object, place: str = "") -> dict[str, object]:
    if isinstance(content, dict | list | tuple):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        return {p: v for key, inner in items for p, v in flat(inner, f"{place}/{key}").items()}
    return {place: content}


def require_same(changed: dict, plans: dict, rel: float = 1e-6) -> None:
    expected = {p: pytest.approx(v, rel=rel) if isinstance(v, float) else v for p, v in flat(plans).items()}
    assert flat(changed) == expected


def with_cases(dataset: Dataset, change: Callable) -> Dataset:
    rng = np.random.default_rng(7)
    return replace(dataset, cases={name: change(rng, *case) for name, case in dataset.cases.items()})


SIDES = {"everywhere": None, "left": (2, 0), "feet": (0, 1)}


@pytest.mark.parametrize("side", SIDES)
def test_padding_with_background(dataset, unchanged, side, tmp_path):
    def padded(rng, image, label, spacing):
        amounts = rng.integers(3, 17, (3, 2))
        if SIDES[side] is not None:
            amounts = amounts * (np.indices((3, 2)).transpose(1, 2, 0) == SIDES[side]).all(axis=-1)
        if len(image) == 1:
            amounts[0] = 0  # a photograph stays flat
        return np.pad(image, amounts, constant_values=dataset.air), np.pad(label, amounts), spacing

    require_same(planned(with_cases(dataset, padded), tmp_path / "b"), unchanged)


def test_names_and_order_of_classes(dataset, unchanged, tmp_path):
    """What belongs to a class moves with it: its name, its first logit and the scale of its distance penalty."""
    count = len(dataset.names)
    order = [*range(1, count), 0]  # new label i + 1 is the old label order[i] + 1
    table = np.array([0, *(order.index(i) + 1 for i in range(count))], np.uint8)
    names = tuple(f"class {chr(120 - i)}" for i in range(count))

    def renumbered(rng, image, label, spacing):
        return image, table[label], spacing

    changed = planned(replace(with_cases(dataset, renumbered), names=names), tmp_path / "b")
    plans = unchanged
    for found, places in ((plans, order), (changed, range(count))):
        for configuration in found["configurations"].values():
            background, *logits = configuration["architecture"]["initial_logits"]
            configuration["architecture"]["initial_logits"] = [background, *(logits[i] for i in places)]
            scales = configuration["loss"]["distance_scale_mm"]
            configuration["loss"]["distance_scale_mm"] = [scales[i] for i in places] if scales else []
            del configuration["preprocessing"]["labels"]
        for decision in decisions_of(found):
            if decision["about"] == "distance penalty":
                decision["value"] = sorted(re.findall(r"[\d.]+", decision["value"]))
        found["decisions"] = [d for d in found["decisions"] if d["about"] != "initial prediction"]
        found["warnings"] = len(found["warnings"])
        del found["labels"]
    require_same(changed, plans)


def test_names_and_order_of_cases(dataset, unchanged, tmp_path):
    """Only the folds follow the names; they are drawn among the sorted names, as nnU-Net's are."""
    turned = {f"case_{99 - i}": case for i, case in enumerate(dataset.cases.values())}
    require_same(planned(replace(dataset, cases=turned), tmp_path / "b"), unchanged)


@pytest.mark.parametrize("share", [1e-7])
def test_rounded_spacings(dataset, unchanged, share, tmp_path):
    def rounded(rng, image, label, spacing):
        return image, label, tuple(mm * (1 + share * rng.uniform(-1, 1)) for mm in spacing)

    require_same(planned(with_cases(dataset, rounded), tmp_path / "b"), unchanged, rel=1e-4)


@pytest.mark.parametrize(("gain", "offset"), [(1, 10), (1, -20), (4, 128)])
def test_gain_and_offset_of_intensities(dataset, unchanged, gain, offset, tmp_path):
    """CT has a gain of its own; its statistics move with an offset."""
    if dataset.channel == "CT" and gain != 1:
        pytest.skip("Hounsfield units are not scaled")

    def changed(rng, image, label, spacing):
        return image.astype(np.float32) * gain + offset, label, spacing

    before, after = unchanged, planned(with_cases(dataset, changed), tmp_path / "b")
    old, new = (next(iter(p["configurations"].values()))["preprocessing"] for p in (before, after))
    for name in ("mean", "percentile_00_5", "percentile_99_5"):
        (was,), (now,) = ([n["statistics"][name] for n in p["normalization"]] for p in (old, new))
        assert now == pytest.approx(was * gain + offset, rel=1e-5, abs=1e-3)
    require_same(without_intensities(after), without_intensities(before))


def test_the_number_of_processes(dataset, unchanged, tmp_path):
    require_same(planned(dataset, tmp_path / "b", ProcessPoolExecutor(2)), unchanged)
