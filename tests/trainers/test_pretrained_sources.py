"""Checkpoints of nnU-Net as a start: classes and channels are compared, an encoder leaves the rest fresh."""

import json
import logging
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers.model import fingerprint
from tests.helpers.nnunet import DATASET_JSON, checkpoint, configuration, plans, weights
from tests.helpers.tiny import LABELS, workspace_of_balls
from tests.networks.test_nnunet_encoder import PLAN as ADAPTATION
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.labels import LabelScheme
from unetrpp.networks.build import build_network
from unetrpp.networks.nnunet import network_of, read_checkpoint
from unetrpp.planners.pipeline import plan_and_preprocess
from unetrpp.plans.plans import Plans
from unetrpp.trainers.network_spec import NetworkSpec
from unetrpp.trainers.pretrained_sources import read_source
from unetrpp.trainers.pretrained_weights import FILE, Transfer, start_from
from unetrpp.trainers.train import main

OTHER = LabelScheme(names=("background", "liver", "tumour"), values=(0, 1, 2))


def whole(path: Path, kind: str = "ResidualEncoderUNet", **labels: int) -> Path:
    plan = plans(full=configuration(kind))
    named = {"background": 0, **(labels or {"ball": 1})}
    state = weights(plan["configurations"]["full"]["architecture"], 1, len(named))
    content = checkpoint(state, plan, "full")
    content["init_args"]["dataset_json"] = DATASET_JSON | {"labels": named}
    torch.save(content, path)
    return path


def encoder(path: Path, kind: str = "ResidualEncoderUNet") -> Path:
    state = weights(configuration(kind)["architecture"], 1, 2)
    torch.save({"network_weights": state, "nnssl_adaptation_plan": ADAPTATION}, path)
    return path


def spec_of(path: Path, **changed) -> NetworkSpec:
    """The network that a checkpoint belongs to, as it would be planned."""
    return NetworkSpec(msgspec.structs.replace(network_of(read_checkpoint(path))[0], **changed), LABELS)


def started(path: Path, spec: NetworkSpec, folder: Path) -> tuple[torch.nn.Module, Transfer]:
    torch.manual_seed(3)
    network = build_network(spec.architecture)
    return network, start_from(path, network, spec, folder)


def test_the_same_classes_give_the_same_network(tmp_path):
    path = whole(tmp_path / "a.pth")
    network, transfer = started(path, spec_of(path), tmp_path)
    assert (transfer.changes, transfer.share) == ((), 1.0)
    assert all(
        torch.equal(network.state_dict()[name], value) for name, value in network_of(read_checkpoint(path))[1].items()
    )


def test_other_classes_and_channels_are_adapted(tmp_path):
    path = whole(tmp_path / "a.pth", liver=1, spleen=2)
    spec = NetworkSpec(spec_of(path, in_channels=3, out_channels=3).architecture, OTHER)
    _, transfer = started(path, spec, tmp_path)
    changes = {change.tensor: change.what for change in transfer.changes}
    assert changes.pop("stem.conv.weight").startswith("input channels averaged and spread")
    assert changes.keys() == {f"heads.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}
    assert set(changes.values()) == {"newly initialised: a head for other classes (background, liver, spleen)"}


def test_an_encoder_leaves_the_rest_fresh(tmp_path):
    path = encoder(tmp_path / "a.pth")
    spec = spec_of(whole(tmp_path / "b.pth"), in_channels=2)
    network, transfer = started(path, spec, tmp_path)
    torch.manual_seed(3)
    fresh = build_network(spec.architecture).state_dict()
    changes = {change.tensor: change.what for change in transfer.changes}
    assert changes.pop("stem.conv.weight").startswith("input channels averaged and spread")
    assert changes.keys() == {name for name in fresh if name.startswith(("decoder.", "heads."))}
    assert set(changes.values()) == {"newly initialised: not in the checkpoint"}
    for name, value in network.state_dict().items():
        assert torch.equal(value, fresh[name]) == (name in changes), name


@pytest.mark.parametrize("make", [whole, encoder])
def test_another_kind_of_network_is_refused(tmp_path, make):
    spec = spec_of(whole(tmp_path / "plain.pth", "PlainConvUNet"))
    with pytest.raises(UserError, match=r"a\.pth .*resunet.*plan with"):
        read_source(make(tmp_path / "a.pth"), spec)


def test_the_command_starts_a_fold_from_it(tmp_path, caplog):
    workspace = workspace_of_balls(tmp_path)
    write_json(workspace.preprocessed("balls") / "fingerprint.json", fingerprint())
    path = encoder(tmp_path / "pretrained.pth", "PlainConvUNet")
    plans_file = workspace.plans("balls", "unet")
    planned = read_json(plans_file, Plans)
    network = msgspec.structs.replace(
        network_of(read_checkpoint(whole(tmp_path / "whole.pth", "PlainConvUNet")))[0], patch=(8, 16, 16)
    )
    changed = msgspec.structs.replace(planned.configurations["3d_fullres"], architecture=network)
    write_json(plans_file, msgspec.structs.replace(planned, configurations={"3d_fullres": changed}))
    line = ["balls", "3d_fullres", "0", "-p", "unet", "--device", "cpu", "--epochs", "1", "--iterations", "2"]
    line += ["--no-mirroring", "--workspace", str(workspace.root), "--pretrained", str(path)]
    with caplog.at_level(logging.WARNING):
        assert main(line) == 0
    fold = workspace.model("balls", "unet", "3d_fullres") / "fold_0"
    assert "does not say which images it was trained on" in caplog.text
    assert read_json(fold / FILE, Transfer).checkpoint == str(path)
    shutil.rmtree(fold)
    path.unlink()
    assert main(line) == 2


def test_a_checkpoint_of_nothing_known(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "step": np.float64(3)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="is not a checkpoint of nnU-Net v2"):
        read_source(tmp_path / "a.pth", spec_of(whole(tmp_path / "b.pth")))


def few_cases(decathlon: Path, raw: Path, count: int) -> Path:
    """A raw dataset of the first cases of a decathlon's task."""
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
        for file in sorted((decathlon / part).glob("[!.]*.nii.gz"))[:count]:
            name = file.name if part == "labelsTr" else file.name.replace(".nii.gz", "_0000.nii.gz")
            shutil.copyfile(file, raw / part / name)
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    content = DATASET_JSON | {"labels": labels, "numTraining": count}
    (raw / "dataset.json").write_text(json.dumps(content))
    return raw


@pytest.mark.slow
def test_it_starts_better_than_from_scratch(test_data, tmp_path):
    """A few steps on real scans, from the weights of a network that nnU-Net trained on scans of the same kind."""
    trained = test_data.parent / "golden" / "nnunet" / "resenc_3d" / "model" / "fold_all" / "checkpoint_final.pth"
    raw, losses = few_cases(test_data / "Task04_Hippocampus", tmp_path / "raw" / "Hippocampus", 5), []
    plan_and_preprocess(raw, workspace=tmp_path, planner="resunet", configurations=["3d_fullres"], processes=1)
    plans_file = Workspace(tmp_path).plans("Hippocampus", "resunet")
    planned = read_json(plans_file, Plans)
    changed = msgspec.structs.replace(
        planned.configuration("3d_fullres"), architecture=network_of(read_checkpoint(trained))[0]
    )
    write_json(plans_file, msgspec.structs.replace(planned, configurations={"3d_fullres": changed}))
    line = ["Hippocampus", "3d_fullres", "0", "-p", "resunet", "--device", "cpu", "--epochs", "1", "--iterations", "5"]
    for start in ([], ["--pretrained", str(trained)]):
        assert main([*line, "--no-mirroring", "--workspace", str(tmp_path), "--overwrite", *start]) == 0
        fold = Workspace(tmp_path).model("Hippocampus", "resunet", "3d_fullres") / "fold_0"
        losses.append(json.loads((fold / "metrics.jsonl").read_text())["validation_loss"])
    scratch, pretrained = losses
    assert pretrained < 0.8 * scratch
