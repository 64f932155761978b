"""Models of nnU-Net v2 as model folders: what is written, from which folders and zips, and what is refused by its name."""

import json
import pickle
import shutil
import zipfile

import pytest
import torch

from tests.helpers.nnunet import configuration, plans, write_model
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.export.model_zip import export_model, import_model
from unetrpp.export.nnunet.models import import_nnunet
from unetrpp.inference.postprocessing import PostProcessing
from unetrpp.inference.predictor import Predictor
from unetrpp.model.folder import ModelFolder

FUNCTION = "remove_all_but_largest_component_from_segmentation"


def imported(folder, tmp_path, **options):
    return [ModelFolder.open(path) for path in import_nnunet(folder, workspace=tmp_path / "workspace", **options)]


def changed(model, file="plans.json", **changes):
    """Replace keys of a JSON file of nnU-Net's."""
    path = model / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return model


def cascade(tmp_path, folds=(0, 1)):
    both = plans(
        **{
            "3d_lowres": configuration() | {"next_stage": "3d_cascade_fullres", "spacing": [2.0, 2.0, 2.0]},
            "3d_cascade_fullres": configuration() | {"previous_stage": "3d_lowres"},
        }
    )
    first = write_model(tmp_path, both, "3d_lowres", folds=(0, 1))
    return first, write_model(tmp_path, both, "3d_cascade_fullres", folds=folds, inputs=2)


def test_the_plans_keep_what_nnunet_does(tmp_path):
    plan = plans(**{"3d_fullres": configuration(channels=2, spacing=[3.0, 1.0, 0.5])})
    plan["configurations"]["3d_fullres"] |= {
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [True, True],
    }
    plan |= {"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]}
    model = write_model(
        tmp_path, plan, dataset_json={"channel_names": {"0": "CT", "1": "PET"}}, inference_allowed_mirroring_axes=(0, 2)
    )
    (found,) = imported(model, tmp_path)
    assert (
        found.path.relative_to(tmp_path / "workspace").as_posix() == "results/Dataset007_Balls/nnUNetPlans__3d_fullres"
    )
    ours = found.configuration
    assert (ours.averaging, ours.mirror_axes, ours.patch, ours.batch_size) == ("logits", (0, 2), (16, 16, 16), 2)
    preprocessing = ours.preprocessing
    assert (preprocessing.orientation, preprocessing.rules) == ("file", "nnunet")
    assert (preprocessing.transpose, preprocessing.spacing_mm) == ((1, 0, 2), (3.0, 1.0, 0.5))
    ct, pet = preprocessing.normalization
    assert (ct.channel, ct.scheme, ct.masked, pet.scheme, pet.masked) == ("CT", "ct", False, "zscore", True)
    assert (ct.statistics.percentile_00_5, ct.statistics.mean, ct.statistics.std) == (1.0, 100.0, 40.0)
    (source,) = ours.decisions
    assert source.value == "nnU-Net's PlainConvUNet"
    assert "nnUNetTrainer of nnU-Net v2 as 3d_fullres of nnUNetPlans for Dataset007_Balls" in source.why
    assert found.description.declared_cases == 2
    assert [case.spacing_mm for case in found.fingerprint.cases] == [(1.0, 1.0, 1.0), (1.5, 0.9, 0.9)]


def test_readers_that_reorient_and_models_that_never_mirror(tmp_path):
    model = write_model(tmp_path, inference_allowed_mirroring_axes=None)
    changed(model, image_reader_writer="NibabelIOWithReorient")
    (found,) = imported(model, tmp_path)
    assert found.configuration.preprocessing.orientation == "RAS"
    assert found.configuration.mirror_axes == ()


def test_a_2d_configuration_keeps_the_distance_of_slices(tmp_path):
    (found,) = imported(write_model(tmp_path, plans(**{"2d": configuration(dimensions=2)}), "2d"), tmp_path)
    assert found.configuration.preprocessing.spacing_mm == (None, 1.0, 1.0)
    assert found.configuration.patch_3d == (1, 16, 16)


def test_early_plans_and_a_model_without_its_fingerprint(tmp_path):
    model = write_model(tmp_path)
    content = json.loads((model / "plans.json").read_text())
    content["foreground_intensity_properties_by_modality"] = content.pop("foreground_intensity_properties_per_channel")
    (model / "plans.json").write_text(json.dumps(content))
    (model / "dataset_fingerprint.json").unlink()
    (found,) = imported(model, tmp_path)
    assert found.configuration.preprocessing.normalization[0].statistics.mean == 100.0
    assert [case.shape for case in found.fingerprint.cases] == [(20, 24, 24)]


def test_an_order_of_regions_without_regions_is_left_out_as_nnunet_does(tmp_path):
    labels = {"background": 0, "ball": [1]}
    model = write_model(tmp_path)
    changed(model, "dataset.json", labels=labels, regions_class_order=[1])
    (found,) = imported(model, tmp_path)
    assert found.plans.labels.regions == ()


def test_folds_and_both_checkpoints(tmp_path):
    model = write_model(tmp_path, folds=(0, 3, "all"))
    shutil.copyfile(model / "fold_3" / "checkpoint_final.pth", model / "fold_0" / "checkpoint_best.pth")
    (found,) = imported(model, tmp_path)
    assert found.trained() == ["0", "3", "all"]
    assert found.trained("best") == ["0"]
    best, third = (found.checkpoint(*which) for which in (("0", "best"), ("3", "final")))
    assert torch.equal(torch.load(best)["network"]["heads.0.bias"], torch.load(third)["network"]["heads.0.bias"])


def test_the_same_import_leaves_the_model_and_another_needs_overwrite(tmp_path):
    model = write_model(tmp_path)
    (found,) = imported(model, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in found.path.rglob("*")}
    imported(model, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in found.path.rglob("*")} == times
    (model / "fold_0" / "checkpoint_final.pth").unlink()
    shutil.copytree(write_model(tmp_path / "other", folds=(0, 1)) / "fold_1", model / "fold_0", dirs_exist_ok=True)
    with pytest.raises(
        UserError, match=r"exists already; remove it or import with --overwrite, or under another --name"
    ):
        imported(model, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in found.path.rglob("*")} == times
    imported(model, tmp_path, overwrite=True)
    assert found.checkpoint("0").stat().st_mtime_ns != times[found.checkpoint("0")]
    assert imported(model, tmp_path, name="Mine")[0].path.parent.name == "Mine"


def zipped(folder, path, extra=()):
    """A zip as nnUNetv2_export_model_to_zip writes it, with other members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))  # folders, too, as general programs do
        for name, content in extra:
            archive.writestr(name, content)
    return path


def test_a_zip_of_several_configurations_is_the_folder(tmp_path):
    first, second = cascade(tmp_path)
    dataset = first.parent
    (second / "fold_0" / "validation").mkdir()
    (second / "fold_0" / "validation" / "summary.json").write_text("{}")
    (dataset / "inference_information.json").write_text("{}")
    from_folder = imported(dataset, tmp_path)
    from_zip = imported(zipped(dataset, tmp_path / "model.zip"), tmp_path, name="Zipped")
    assert [model.path.name for model in from_zip] == ["nnUNetPlans__3d_cascade_fullres", "nnUNetPlans__3d_lowres"]
    for one, other in zip(from_folder, from_zip, strict=True):
        files = {path.relative_to(one.path) for path in one.path.rglob("*.pt")}
        assert files == {path.relative_to(other.path) for path in other.path.rglob("*.pt")}
        assert one.configuration == other.configuration
    assert imported(tmp_path / "model.zip", tmp_path, name="Zipped")[0].path == from_zip[0].path


def test_the_zip_of_a_model_folder_alone(tmp_path):
    model = write_model(tmp_path)
    archive = shutil.make_archive(str(tmp_path / "inside"), "zip", model)
    assert imported(archive, tmp_path)[0].trained() == ["0"]


def test_a_cascade_holds_its_first_stage(tmp_path):
    first, _ = cascade(tmp_path)
    second, low = imported(first.parent, tmp_path)
    assert second.configuration.first_stage == low.configuration_name == "3d_lowres"
    assert second.first_stage is not None
    assert second.first_stage.trained() == ["0", "1"]
    assert second.configuration.architecture.in_channels == 2
    first_stage = Predictor(second.path, device="cpu", folds="1").first_stage
    assert first_stage is not None
    assert first_stage.folds == ["1"]


def test_a_cascade_without_its_first_stage_or_a_fold_of_it(tmp_path):
    first, second = cascade(tmp_path, folds=(0, 1, 2))
    with pytest.raises(UserError, match="but its first, 3d_lowres, is not beside it; export or give both together"):
        imported(second, tmp_path)
    with pytest.raises(UserError, match="but its first, 3d_lowres, has no fold 2; train and give it, too"):
        imported(first.parent, tmp_path)
    for checkpoint in first.glob("fold_*/checkpoint_final.pth"):
        checkpoint.rename(checkpoint.with_name("checkpoint_best.pth"))
    with pytest.raises(
        UserError, match="but its first, 3d_lowres, has no final checkpoint, with which it is run; export"
    ):
        imported(first.parent, tmp_path)
    assert not (tmp_path / "workspace").exists()


REFUSED = [
    ({"image_reader_writer": "MyReader"}, "the reader MyReader is not one of SimpleITKIO"),
    ({"label_manager": "MyLabels"}, "the label manager MyLabels is not nnU-Net's own"),
    ({"preprocessor_name": "MyPreprocessor"}, "the preprocessor MyPreprocessor is not nnU-Net's own"),
    ({"normalization_schemes": ["MyNorm"]}, "the normalisation MyNorm is not one of CTNorm"),
    ({"resampling_fn_data": "resample_torch_fornnunet"}, "the resampling function resample_torch_fornnunet is not"),
    ({"resampling_fn_probabilities": "no_resampling_hack"}, "the resampling function no_resampling_hack is not"),
    (
        {"resampling_fn_data_kwargs": {"order": 1, "order_z": 0, "force_separate_z": None}},
        "of data has other orders than 3",
    ),
    ({"normalization_schemes": ["NoNormalization"] * 2}, "dataset.json has 1 channels"),
    ({"spacing": [1.0, 1.0]}, "the spacing has 2 axes, the patch 3"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_cannot_be_taken_over_is_named(tmp_path, change, message):
    model = write_model(tmp_path)
    content = json.loads((model / "plans.json").read_text())
    for key, value in change.items():
        (content if key in content else content["configurations"]["3d_fullres"])[key] = value
    (model / "plans.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        imported(model, tmp_path)
    assert not (tmp_path / "workspace").exists()


def test_all_problems_of_all_models_at_once(tmp_path):
    plan = plans(**{"3d_fullres": configuration(), "2d": configuration(dimensions=2)})
    changed(write_model(tmp_path, plan), image_reader_writer="MyReader", label_manager="MyLabels")
    (write_model(tmp_path, plan, "2d") / "dataset.json").unlink()
    with pytest.raises(UserError) as refused:
        imported(tmp_path / "Dataset007_Balls", tmp_path)
    for part in ("MyReader", "MyLabels", "has no dataset.json; copy it there"):
        assert part in str(refused.value)


def test_two_trainers_of_one_name(tmp_path):
    model = write_model(tmp_path)
    shutil.copytree(model, model.with_name("nnUNetTrainer_250epochs__nnUNetPlans__3d_fullres"))
    with pytest.raises(UserError, match="would have one name; import one of them alone"):
        imported(model.parent, tmp_path)


def test_a_dataset_json_of_another_training(tmp_path):
    model = changed(write_model(tmp_path), "dataset.json", labels={"background": 0, "a": 1, "b": 2})
    with pytest.raises(UserError, match=r"takes 1 channels and gives 2, dataset\.json describes 1 and 3"):
        imported(model, tmp_path)


@pytest.mark.parametrize("name", ["../plans.json", "/etc/plans.json", "a/../../fold_0/x", "..\\plans.json"])
def test_members_that_lie_outside(tmp_path, name):
    archive = zipped(write_model(tmp_path).parent, tmp_path / "model.zip", [(name, "{}")])
    with pytest.raises(UserError, match="lies outside of it; do not use this file"):
        imported(archive, tmp_path)


def test_large_and_damaged_zips(tmp_path):
    archive = zipped(write_model(tmp_path).parent, tmp_path / "model.zip")
    with pytest.raises(UserError, match="raise --largest-gb if you trust it"):
        imported(archive, tmp_path, largest_gb=1e-6)
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        at = next(info for info in opened.infolist() if info.filename.endswith("plans.json")).header_offset
    content[at + 200 : at + 260] = bytes(60)
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.zip is damaged"):
        imported(archive, tmp_path)
    assert not (tmp_path / "workspace").exists()


class Harmful:
    def __reduce__(self):
        return print, ("code of the file ran",)


def postprocessed(model, folds="0_1", **content):
    folder = model / f"crossval_results_folds_{folds}"
    folder.mkdir()
    (folder / "postprocessing.pkl").write_bytes(pickle.dumps(Harmful()))
    if content:
        (folder / "postprocessing.json").write_text(json.dumps({"input_folder": {}} | content))
    return model


def test_postprocessing_is_read_from_its_json(tmp_path, capsys):
    kwargs = [{"labels_or_regions": [1, 2]}, {"labels_or_regions": 1}, {"labels_or_regions": [[1, 2], 3]}]
    model = write_model(tmp_path)
    postprocessed(model, "0", postprocessing_fns=[], postprocessing_kwargs=[])
    postprocessed(model, postprocessing_fns=[FUNCTION] * 3, postprocessing_kwargs=kwargs)
    (found,) = imported(model, tmp_path)
    expected = PostProcessing(largest_component=((1, 2), (1,), (1, 2, 3)))
    assert read_json(found.path / "postprocessing.json", PostProcessing) == expected
    assert imported(model, tmp_path)[0].path == found.path
    archive = export_model(found.path, tmp_path / "ours.zip")
    again = import_model(archive, workspace=tmp_path / "elsewhere")
    assert read_json(again / "postprocessing.json", PostProcessing) == expected
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "is a pickle without its JSON; its post-processing is left out"),
        ({"postprocessing_fns": ["mine"], "postprocessing_kwargs": [{}]}, "the function mine is not remove_all"),
        ({"postprocessing_fns": [FUNCTION]}, "cannot be taken over"),
    ],
)
def test_postprocessing_that_is_left_out_is_named(tmp_path, caplog, capsys, content, message):
    (found,) = imported(postprocessed(write_model(tmp_path), **content), tmp_path)
    assert message in caplog.text
    assert not (found.path / "postprocessing.json").exists()
    assert capsys.readouterr().out == ""
