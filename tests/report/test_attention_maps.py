"""Maps and coefficients of focal modules against calling the modules again, and their effect on Dice."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.model import give_own_attention, make_model
from tests.helpers.tiny import LABELS, ball
from unetrpp.evaluation.metrics import score_case
from unetrpp.inference.predictor import Predictor
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.networks.focal_module import focal_modules
from unetrpp.networks.gates import AttentionGate
from unetrpp.report.attention_maps import RecordingNetwork, inspect_case
from unetrpp.report.attention_report import modules_table

SHAPE = (8, 16, 16)  # one tile


@pytest.fixture
def model(tmp_path):
    """Fold 0 learned a gate and a squeeze-and-excitation, fold 1 has the planned network without any."""
    model = make_model(tmp_path / "results" / "balls", folds=2)
    give_own_attention(model, 0, {"gate@0": 1.5, "se@1": 0.7})
    return model


def one_tile() -> tuple[Volume, np.ndarray]:
    image, label = ball(np.random.default_rng(0))
    geometry = Geometry(shape_zyx=SHAPE, spacing_zyx_mm=(1.0, 1.0, 1.0))
    return Volume(image[:, 2:10, 4:20, 4:20], geometry), label[2:10, 4:20, 4:20]


def test_maps_and_coefficients_are_those_of_the_modules(model):
    predictor = Predictor(model, folds=[0], device="cpu", mirroring=False)
    image, label = one_tile()
    findings = inspect_case(predictor, image, label, "ball")
    gate, squeeze = findings.modules
    assert [m.place for m in findings.modules] == ["gate@0", "se@1"]
    assert gate.gamma == 1.5
    assert squeeze.gamma == pytest.approx(0.7)
    assert findings.image.shape == findings.predicted.shape == SHAPE
    np.testing.assert_array_equal(findings.label, label)

    # Independently: one tile through the network, and every module called again with its recorded inputs.
    network = predictor.networks[0]
    called = {}
    handles = [m.register_forward_pre_hook(lambda m, x: called.update({m: x})) for _, m in focal_modules(network)]
    with torch.no_grad():
        network(torch.from_numpy(findings.image)[None, None])
        for module, inputs in called.items():
            expected = module.coefficients(*inputs)
            if isinstance(module, AttentionGate):
                up = F.interpolate(expected, SHAPE, mode="trilinear", align_corners=False)
                torch.testing.assert_close(torch.from_numpy(gate.map), up[0, 0])
                assert gate.contrast == pytest.approx(float(expected.std(correction=0) / expected.mean()), rel=1e-4)
                assert gate.channels is None
            else:
                torch.testing.assert_close(torch.from_numpy(squeeze.channels), expected[0])
                assert squeeze.mean == pytest.approx(float(expected.mean()), rel=1e-4)
                assert squeeze.map is None
    for handle in handles:
        handle.remove()


def test_dice_with_and_without_the_pattern(model):
    predictor = Predictor(model, folds=[0], device="cpu", mirroring=False)
    image, label = one_tile()
    findings = inspect_case(predictor, image, label, "ball")
    assert findings.scores == score_case(predictor(image).array, label, image.geometry, LABELS)
    for place, (_, module) in zip(("se@1", "gate@0"), focal_modules(predictor.networks[0]), strict=True):
        module.averaged = True
        (found,) = (m for m in findings.modules if m.place == place)
        assert found.scores == score_case(predictor(image).array, label, image.geometry, LABELS)
        module.averaged = False
    header, first, second = modules_table(findings, LABELS)
    assert (first[1], second[1]) == ("1 x 1 x 1", "2 x 2 x 2")
    assert header[5:] == ["Dice ball", "with mean", "change"]
    before, after, change = map(float, first[5:])
    assert change == pytest.approx(after - before, abs=2e-4)


def test_recording_leaves_the_network_unchanged(model):
    predictor = Predictor(model, folds=[0], device="cpu", mirroring=False)
    network = predictor.networks[0]
    x = torch.randn(2, 1, *SHAPE)
    plain = network(x)
    recording = RecordingNetwork(network, dict(focal_modules(network)))
    with torch.no_grad():
        outputs = recording(x)
    torch.testing.assert_close(outputs[:, :2], plain)
    assert outputs.shape == (2, 3, *SHAPE)
    assert all(m.watcher is None for _, m in focal_modules(network))
