"""Exported networks of every kind against PyTorch's for any batch size, and what the files must not contain."""

import os
import sys

import msgspec
import numpy as np
import onnx
import pytest
import torch

from tests.export.test_deployment import make_cascade
from tests.helpers.model import PLAN, make_model, make_model_2d
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.core.leftovers import temporary_name
from unetrpp.export.deployment import Deployment
from unetrpp.export.onnx import export_onnx, run_onnx, to_onnx
from unetrpp.inference.sliding_window import predicting
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture, unetrpp_architecture, with_pooled_attention

PATCH = (8, 16, 16)
HALF, FLAT = [(2, 2, 2)], [(2, 2)]
TRANSFORMER = unetrpp_architecture(2, 3, PATCH, HALF, width=0.25, blocks=1)
NETWORKS = {
    "unetrpp": TRANSFORMER,
    "unetrpp pooled": with_pooled_attention(TRANSFORMER, 27, tokens=None),
    "unetrpp coarse": with_pooled_attention(TRANSFORMER, 27, tokens=64),
    "unetrpp released": msgspec.structs.replace(
        TRANSFORMER, spatial_layout="released", projection="separate", fusion="sum", norm="group"
    ),
    "unetrpp gated 2d": unetrpp_architecture(2, 3, (16, 24), FLAT, width=0.25, blocks=1).with_focal({"gate@0": 0.7}),
    "unet": unet_architecture(2, 3, PATCH, [(1, 2, 2), (2, 2, 2)], kernels=[(1, 3, 3), *[(3, 3, 3)] * 2], width=0.25),
    "resunet": unet_architecture(1, 2, PATCH, HALF, residual=True, width=0.25),
    "gated unet": unet_architecture(1, 2, PATCH, HALF, width=0.25).with_focal(
        {"gate@0": 1.3, "se@0": 1.0, "se@1": 2.0}
    ),
    "unet 2d": unet_architecture(3, 2, (16, 24), FLAT, width=0.25),
}


def perturbed(network, architecture):
    """Layer scales, gates and norms away from their initial values, so that every branch matters."""
    for parameter in network.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    network(torch.randn(2, architecture.in_channels, *architecture.patch))  # updates batch norms
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_pytorchs_for_any_batch(name):
    torch.manual_seed(0)
    architecture = NETWORKS[name]
    network = perturbed(build_network(architecture), architecture)
    batches = [torch.randn(n, architecture.in_channels, *architecture.patch) for n in (1, 3)]
    with predicting([network]), torch.no_grad():
        expected = [network(batch).numpy() for batch in batches]  # as trained: with the fused operators
    content = to_onnx(network, torch.randn(2, architecture.in_channels, *architecture.patch))
    for batch, logits in zip(batches, expected, strict=True):
        np.testing.assert_allclose(run_onnx(content, batch.numpy()), logits, atol=1e-4)
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} <= {""}  # standard operators
    assert b"unetrpp" not in content  # neither source code nor its paths


def test_hashes_and_differences_are_recorded(tmp_path):
    import hashlib

    model = make_model_2d(tmp_path)
    target = tmp_path / "onnx"
    target.mkdir()  # an empty one may be there
    written = export_onnx(model, target, folds=["0"])
    assert read_json(target / "model.json", Deployment) == written
    (network,) = written.networks
    assert network.sha256 == hashlib.sha256((target / network.file).read_bytes()).hexdigest()
    assert 0 <= network.largest_difference < 1e-4


def test_the_same_export_again_is_done_and_another_refused(tmp_path, monkeypatch):
    model, target = make_model_2d(tmp_path), tmp_path / "onnx"
    written = export_onnx(model, target)
    (tmp_path / temporary_name("onnx").replace(str(os.getpid()), str(2**22 + 1))).mkdir()  # of a killed process
    with monkeypatch.context() as patch:
        patch.setattr("unetrpp.export.onnx.to_onnx", lambda *_: pytest.fail("exported again"))
        assert export_onnx(model, target) == written
    assert not list(tmp_path.glob(".unetrpp*"))
    for name in ("fold_0.onnx", "MODEL_CARD.md", "metadata.json", "model.json"):
        content = (target / name).read_bytes()
        (target / name).write_bytes(content[:-2] + b"??")
        with pytest.raises(UserError, match="exists already"):
            export_onnx(model, target)
        (target / name).write_bytes(content)
    plans = model / "plans.json"
    plans.write_text(plans.read_text() + "\n")  # the networks were exported with other plans
    with pytest.raises(UserError, match="replace it with --overwrite"):
        export_onnx(model, target)


def test_a_network_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("unetrpp.export.onnx.run_onnx", lambda content, patches: np.float32(np.nan))
    with pytest.raises(UserError, match=r"fold 0 differ by nan .* nothing was written"):
        export_onnx(make_model_2d(tmp_path), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_packages_that_the_exporter_lacks_are_named(monkeypatch):
    """Newer versions of PyTorch need packages that older versions of onnxscript did not bring."""

    def lacking(*_args, **_options):
        raise ModuleNotFoundError("No module named 'onnx_ir'", name="onnx_ir")

    monkeypatch.setattr(torch.onnx, "export", lacking)
    network = build_network(NETWORKS["unet 2d"]).eval()
    with pytest.raises(UserError, match=r"needs the module onnx_ir for ONNX; pip install -U onnxscript"):
        to_onnx(network, torch.randn(2, 3, 16, 24))


def test_a_cascade_is_whole_with_its_first_stage(tmp_path, monkeypatch):
    model, target = make_cascade(tmp_path, folds=1), tmp_path / "onnx"
    written = export_onnx(model, target)
    with monkeypatch.context() as patch:
        patch.setattr("unetrpp.export.onnx.to_onnx", lambda *_: pytest.fail("exported again"))
        assert export_onnx(model, target) == written
    (target / "first_stage" / "fold_0.onnx").write_bytes(b"half")
    with pytest.raises(UserError, match="exists already"):
        export_onnx(model, target)
    assert export_onnx(model, target, overwrite=True) == written


def test_what_cannot_be_exported_is_refused(tmp_path, monkeypatch):
    second = msgspec.structs.replace(PLAN, first_stage="3d_lowres")
    cascade = make_model(tmp_path / "cascade", 1, second, "3d_cascade")
    with pytest.raises(UserError, match="second stage without previous_stage"):
        export_onnx(cascade, tmp_path / "onnx")
    model = make_model(tmp_path / "single", 1)
    with pytest.raises(UserError, match="fold 3"):
        export_onnx(model, tmp_path / "onnx", folds=["3"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r'pip install "unetrpp\[onnx\]"'):
        export_onnx(model, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_network_that_onnx_cannot_express_is_named():
    class Spectrum(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).real

    with pytest.raises(UserError, match="cannot write this network as ONNX"):
        to_onnx(Spectrum(), torch.randn(2, 4, 4))
