"""Released checkpoints: names, shapes and faulty files; and nothing but tensors and numbers is unpickled."""

import os
import pickle
import zipfile

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers import golden
from unetrpp.core.errors import UserError
from unetrpp.networks.build import build_network
from unetrpp.networks.presets import PRESETS
from unetrpp.networks.released import convert_state, official_name, read_official

NAMES = {"synapse": "synapse", "synapse_mini": "synapse", "acdc_mini": "acdc", "tumor_mini": "tumor"}


def architecture(name):
    patch = golden.read(name).input_shape[2:]
    return msgspec.structs.replace(PRESETS[NAMES[name]], patch=patch)


def released_state(name):
    """Under the released names, with the right shapes and one value each (so that files stay small)."""
    return {
        entry.name: torch.full((1,), float(i)).expand(entry.shape) if entry.shape else torch.tensor(i)
        for i, entry in enumerate(golden.read(name).state)
        if entry.alias_of is None
    }


@pytest.fixture(scope="module")
def state():
    return released_state("synapse_mini")


@pytest.mark.parametrize("name", NAMES)
def test_the_released_names_are_ours_one_to_one(name):
    made = architecture(name)
    ours = set(build_network(made).state_dict())
    assert {official_name(key, made.projection) for key in ours} == set(released_state(name))


def test_projection_parameters_are_transposed():
    theirs = released_state("tumor_mini")
    values = torch.arange(4096 * 64).view(4096, 64).float()
    theirs["unetr_pp_encoder.stages.0.0.epa_block.EF"] = values
    ours = convert_state(theirs, architecture("tumor_mini"))
    assert torch.equal(ours["encoder.0.blocks.0.attention.project_keys.weight"], values.T)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_a_checkpoint_as_released(tmp_path, state, zipped, module):
    """An old pickle with ``module.`` before every name, F beside E, and numpy scalars of either numpy."""
    state = {f"module.{name}": value for name, value in state.items()}
    state |= {name.replace(".E.", ".F."): value for name, value in state.items() if ".epa_block.E." in name}
    content = {
        "epoch": 1000,
        "state_dict": state,
        "optimizer_state_dict": None,
        "plot_stuff": ([0.1, np.float64(0.25)], [np.float32(0.5)], [np.int64(3)], [np.bool_(True)]),
        "best_stuff": (np.float64(0.87), None, 2),
    }
    path = tmp_path / "model_final_checkpoint.model"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    rename(path, zipped, module)
    found = convert_state(read_official(path), architecture("synapse_mini"))
    assert set(found) == set(build_network(architecture("synapse_mini")).state_dict())
    expected = state["module.decoder4.decoder_block.0.2.epa_block.out_proj2.weight"]
    assert torch.equal(found["decoder.2.blocks.2.attention.channel_out.weight"], expected)


def rename(path, zipped, module):
    """Let the pickle name numpy's scalars as numpy 1 or numpy 2 does (its protocol writes names as lines)."""
    current = np.float64(0).__reduce__()[0].__module__

    def renamed(content: bytes) -> bytes:
        assert f"c{current}\n".encode() in content
        return content.replace(f"c{current}\n".encode(), f"c{module}\n".encode())

    if not zipped:
        path.write_bytes(renamed(path.read_bytes()))
        return
    with zipfile.ZipFile(path) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members.items():
            archive.writestr(info, renamed(content) if info.filename.endswith("data.pkl") else content)


def test_a_bare_state_dict(tmp_path, state):
    torch.save(state, tmp_path / "weights.pt")
    assert set(read_official(tmp_path / "weights.pt")) == set(state)


def faulty(state, change):
    state = dict(state)
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("out2.conv.conv.bias"), "out2.conv.conv.bias is missing"),
        (
            lambda s: s.update({"out1.conv.conv.weight": torch.zeros(9, 16, 1, 1, 1)}),
            r"out1.conv.conv.weight has shape \(9, 16, 1, 1, 1\), not \(14, 16, 1, 1, 1\)",
        ),
        (lambda s: s.update({"out4.conv.conv.bias": torch.zeros(14)}), "out4.conv.conv.bias is extra"),
        (
            lambda s: s.update({"decoder5.decoder_block.0.0.epa_block.F.bias": torch.ones(64)}),
            "decoder5.decoder_block.0.0.epa_block.F.bias differs from its E",
        ),
    ],
)
def test_entries_that_do_not_fit_are_named(state, change, message):
    with pytest.raises(UserError, match=message):
        convert_state(faulty(state, change), architecture("synapse_mini"))


def test_many_faults_are_counted(state):
    with pytest.raises(UserError, match=r"and \d+ more"):
        convert_state(state, architecture("acdc_mini"))


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("pickled", ["torch", "legacy", "plain"])
def test_no_code_of_the_file_is_run(tmp_path, pickled):
    proof = tmp_path / "proof"
    content = {"state_dict": {"a": torch.zeros(1)}, "plot_stuff": Runs(proof)}
    path = tmp_path / "checkpoint.model"
    if pickled == "plain":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=pickled == "torch")
    with pytest.raises(UserError, match=str(path)):
        read_official(path)
    assert not proof.exists()


def test_object_arrays_are_refused(tmp_path):
    torch.save({"state_dict": {}, "plot_stuff": np.array([{"a": 1}], dtype=object)}, tmp_path / "x.model")
    with pytest.raises(UserError, match="more than tensors"):
        read_official(tmp_path / "x.model")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x.model").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.model"):
        read_official(tmp_path / "x.model")
    with pytest.raises(UserError, match="does not exist"):
        read_official(tmp_path / "y.model")


def test_a_file_without_weights_is_refused(tmp_path):
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "x.model")
    with pytest.raises(UserError, match="state_dict"):
        read_official(tmp_path / "x.model")
