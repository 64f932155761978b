"""What release 0.1.0 wrote (commit 81bbb36) still plans, resumes, predicts and evaluates, and nothing of it is stale.

``data/release_0_1_0.tar.xz`` holds a raw dataset of six tiny cases and one held-out image, fingerprint, splits, plans of
several planners, one store, a model folder of five folds, the prediction of the held-out image, and fold 4 a second time,
stopped at step 180 of 200. ``make.py`` in it wrote all of it.
"""

import json
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from unetrpp.__main__ import main as unetrpp
from unetrpp.augmentation.pipeline import make_batch
from unetrpp.core.files import read_json
from unetrpp.core.randomness import Stream, torch_seed
from unetrpp.dataset.splits import Splits
from unetrpp.losses.build import build_loss
from unetrpp.model import checkpoint
from unetrpp.model.folder import ModelFolder
from unetrpp.networks.build import build_network
from unetrpp.patches.loader import PatchLoader
from unetrpp.plans.architecture import Architecture, Level
from unetrpp.plans.fingerprint import CaseFingerprint
from unetrpp.plans.plans import Configuration, Plans, Preprocessing
from unetrpp.preprocessing.store import Store
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.optimizer import build_optimizer, set_learning_rate
from unetrpp.trainers.schedule import learning_rate

CPU = torch.device("cpu")
ARCHIVE = Path(__file__).parent / "data" / "release_0_1_0.tar.xz"
SIZE = ["--batch-size", "2", "--width", "0.125", "--patch", "8", "8", "8"]
RECIPE = ["--epochs", "2", "--iterations", "100", "--device", "cpu", "--no-mirroring"]
PLANS = {  # name -> the options it was planned with
    "unetrpp": SIZE,
    "auto": [*SIZE, "--attention", "auto"],
    "unet": ["--planner", "unet", "--plan-only"],
    "resunet": ["--planner", "resunet", "--plan-only"],
    "everything": ["--attention", "all", "--store", "float16", "--plan-only"],
    "flat": ["--planner", "unet", "-c", "2d", "--plan-only"],
    "tumor": ["--preset", "tumor", "--plan-only"],
}


@pytest.fixture
def release(tmp_path, monkeypatch) -> Path:
    """The unpacked folder, entered: summaries name files as they were given, relative to it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path / "release_0_1_0")
    return Path()


def model_folder(release: Path) -> Path:
    return release / "workspace/results/synthetic/unetrpp__3d_fullres"


def plan(release: Path, name: str, *options: str) -> None:
    where = ["--workspace", str(release / "workspace"), "--processes", "1", "--gpu-memory-gb", "8", "-p", name]
    assert unetrpp(["plan_and_preprocess", "synthetic", *where, *PLANS[name], *options]) == 0


def train(release: Path, *fold: str) -> None:
    assert unetrpp(["train", "synthetic", "3d_fullres", *fold, "--workspace", f"{release / 'workspace'}", *RECIPE]) == 0


def predict(release: Path, out: Path) -> None:
    images = release / "workspace/raw/synthetic/imagesTs"
    where = ["-i", str(images), "-o", str(out), "-m", str(model_folder(release))]
    assert unetrpp(["predict", *where, "--device", "cpu", "--no-mirroring", "--probabilities"]) == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def array(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.mark.parametrize("name", PLANS)
def test_the_same_plans_come_out_and_the_store_is_current(release, name):
    home = release / "workspace/preprocessed/synthetic"
    before = contents(home)
    times = {path: path.stat().st_mtime_ns for path in home.rglob("*.b2nd")}
    plan(release, name)
    after = contents(home)
    assert json.loads(after.pop(f"{name}.json")) == json.loads(before.pop(f"{name}.json"))
    shared = {file for file in after.keys() - before.keys() if file.startswith("auto_3d_fullres/")}
    assert {file: content for file, content in after.items() if file not in shared} == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_plans_whose_loss_came_with_attention_keep_it_and_say_so(release, caplog):
    path = release / "workspace/preprocessed/synthetic/auto.json"
    before = path.read_bytes()
    plan(release, "auto")
    assert path.read_bytes() == before
    assert "is of a release in which --attention auto also chose the loss" in caplog.text
    loss = json.loads(before)["configurations"]["3d_fullres"]["loss"]["name"]
    assert f"keeps its {loss}; --overwrite plans it again" in caplog.text


def test_measured_and_preprocessed_anew_nothing_differs(release):
    """Every measurement, every decision and the number of warnings are equal; reasons and warnings may be worded otherwise.

    They are for people: a reason (``why``) may become clearer or name further numbers without a change of what is done, and
    tests of its own hold it to the fingerprint. Five more things differ: new fields are added; statistics of intensities come from
    another sample, because that of 0.1.0 was seeded by the cases' names, on which nothing may depend; the decision about
    the first prediction now names the classes beside their shares; UNETR++ is planned with instance norms and without dropout;
    and so attention keeps less for its backward pass, and the estimated memory of a step is smaller.
    """
    home = release / "workspace/preprocessed/synthetic"
    kept = release / "kept"
    shutil.copytree(home, kept)
    plan(release, "unetrpp", "--overwrite", "--attention", "paper")  # another mode is the default now
    for file in ("fingerprint.json", "splits.json", "unetrpp.json", "dataset.json"):
        old, new = (decided(json.loads((folder / file).read_text())) for folder in (kept, home))
        assert new.pop("/options/attention", None) == ("paper" if file == "unetrpp.json" else None)
        places = [place.split("/") for place in new.keys() - old.keys()]  # /NAME, or /cases/0/NAME
        added = {
            parts[3] if parts[1] == "cases" else parts[-1 if parts[1] == "configurations" else 1] for parts in places
        }
        later = {
            "fingerprint.json": {*CaseFingerprint.later_fields, "file_ending"},
            "unetrpp.json": Plans.later_fields
            | Architecture.later_fields
            | Level.later_fields
            | Configuration.later_fields
            | Preprocessing.later_fields,
        }
        assert added == later.get(file, set())
        for place in [place for place in old if place.endswith("/training_memory_bytes")]:
            before, now = old.pop(place), new[place]
            assert isinstance(before, int)
            assert isinstance(now, int)
            assert 0.8 * before < now < before
        for name, (before, now) in {
            "norm": ("batch", "instance"),
            "attention_dropout": (0.1, 0.0),
            "dropout": (0.1, 0.0),
        }.items():
            for place in [place for place in old if place.endswith(f"/architecture/{name}")]:
                assert (old.pop(place), new[place]) == (before, now)
        assert {place: new[place] for place in old} == {place: within(place, value) for place, value in old.items()}
    old_store, new_store = Store(kept / "unetrpp_3d_fullres"), Store(home / "unetrpp_3d_fullres")
    assert old_store.cases() == new_store.cases()
    for case in old_store.cases():
        before, after = old_store.open(case), new_store.open(case)
        assert before.shape == after.shape
        (image, label), (other_image, other_label) = (c.read((0, 0, 0), c.shape) for c in (before, after))
        np.testing.assert_allclose(other_image, image, atol=1e-5)
        np.testing.assert_array_equal(other_label, label)


def decided(content: dict) -> dict[str, object]:
    """Everything but the texts of reasons and warnings, flat; of the first prediction its numbers."""
    for decision in content.get("decisions", []):
        if decision["about"] in ("first output", "initial prediction"):
            shares = re.findall(r"\d+\.\d+", decision["value"])
            decision.update(about="initial prediction", value=", ".join(shares))
    texts = re.compile(r".*/why|/warnings/\d+")
    return {place: "" if texts.fullmatch(place) else value for place, value in flat(content).items()}


def within(place: str, value: object) -> object:
    """Rounding differs between processors, and a sample of intensities by what chance makes of it."""
    if not isinstance(value, float):
        return value
    sampled = "/intensities/" in place or "/statistics/" in place
    return pytest.approx(value, rel=0.03 if sampled else 1e-6)


def flat(content: object, place: str = "") -> dict[str, object]:
    """{"a": [1]} -> {"/a/0": 1}."""
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        return {p: v for key, inner in items for p, v in flat(inner, f"{place}/{key}").items()}
    return {place: content}


def approximately(text: str) -> dict[str, object]:
    """Numbers within rounding, as other processors round otherwise."""
    return {
        place: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
        for place, value in flat(json.loads(text)).items()
    }


def test_finished_folds_are_left_alone(release):
    before = contents(model_folder(release))
    train(release)
    assert contents(model_folder(release)) == before


def continued_by_hand(interrupted: Path, model: ModelFolder, store: Store) -> dict[str, torch.Tensor]:
    """The weights after the last 20 steps, taken one by one from what release 0.1.0 stored at step 180."""
    saved = checkpoint.load(interrupted / "checkpoint_latest.pt", CPU)
    config, plan = read_json(interrupted / "training.json", TrainingConfig), model.configuration
    fold = read_json(store.folder.parent / "splits.json", Splits).folds[4]
    loader = PatchLoader([store.open(case) for case in fold.train], plan, seed=config.seed, fold=4)
    network = build_network(plan.architecture).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    network.load_state_dict(saved["network"])
    optimizer = build_optimizer(network, config)
    optimizer.load_state_dict(saved["optimizer"])
    loss = build_loss(plan.loss, model.plans.labels, plan.architecture.head_strides(), plan.patch_spacing_mm)
    for step in range(saved["step"], config.steps):
        set_learning_rate(optimizer, learning_rate(config, step))
        torch.manual_seed(torch_seed(config.seed, 4, Stream.DROPOUT, step))
        images, target = make_batch(loader.batch(step), plan.patch, plan.augmentation.in_plane_only, CPU)
        optimizer.zero_grad()
        loss(network(images.to(memory_format=torch.channels_last_3d)), target).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimizer.step()
    weights: dict[str, torch.Tensor] = network.state_dict()
    return weights


def test_an_interrupted_fold_resumes_where_it_was(release):
    """Its last 20 steps are augmented as this release does, so the weights differ from those that 0.1.0 ended with."""
    model, store = model_folder(release), Store(release / "workspace/preprocessed/synthetic/unetrpp_3d_fullres")
    expected = continued_by_hand(release / "interrupted", ModelFolder.open(model), store)
    fold = model / "fold_4"
    finished = fold.rename(release / "finished")
    shutil.copytree(release / "interrupted", fold)
    train(release, "4")
    after = checkpoint.load(fold / "checkpoint_final.pt", CPU)
    assert after["step"] == 200
    assert after["network"].keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(after["network"][name], weight, rtol=1e-5, atol=1e-6)
    old, new = ([json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (finished, fold))
    assert old[0] | {"seconds": 0} == new[0] | {"seconds": 0}
    assert new[1]["train_loss"] == pytest.approx(old[1]["train_loss"], rel=0.05)  # 80 of its 100 steps are the same
    assert (fold / "training.json").read_bytes() == (finished / "training.json").read_bytes()


def test_prediction_is_the_same(release, tmp_path):
    before = release / "predictions"
    predict(release, tmp_path / "again")
    name = "case_006.nii.gz"
    assert (array(before / name) == array(tmp_path / "again" / name)).mean() > 0.999
    for k in range(4):
        map_name = f"case_006_probability_{k}.nii.gz"
        np.testing.assert_allclose(array(before / map_name), array(tmp_path / "again" / map_name), atol=5e-3)
    old, new = (json.loads((f / "predictions.json").read_text()) for f in (before, tmp_path / "again"))
    assert new["settings"] == old["settings"]  # the model's hash included
    assert new["cases"]["case_006"]["inputs"] == old["cases"]["case_006"]["inputs"]


def test_a_finished_prediction_is_not_repeated(release):
    before = contents(release / "predictions")
    predict(release, release / "predictions")
    after = contents(release / "predictions")
    assert "volumes.csv" in after  # which is new
    assert after | {"volumes.csv": b""} == before | {"volumes.csv": b""}


def test_scores_are_the_same(release):
    raw, out, model = release / "workspace/raw/synthetic", release / "predictions", model_folder(release)
    results = [out / "summary.json", model / "crossval_summary.json"]
    before = [path.read_text() for path in results]
    for path in results:
        path.unlink()
    references = [str(raw / "labelsTs"), "--dataset-json", str(raw / "dataset.json"), "--processes", "1"]
    assert unetrpp(["evaluate", str(out), *references]) == 0
    assert unetrpp(["evaluate", "--model", str(model)]) == 0
    for path, text in zip(results, before, strict=True):
        now = flat(json.loads(path.read_text()))
        added = {place for place in now if place.endswith("/made_from")}  # which 0.1.0 did not write
        assert {place: value for place, value in now.items() if place not in added} == approximately(text)
