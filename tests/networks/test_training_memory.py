"""The closed form against the measured step, which test_cost.py compares with malloc."""

import msgspec
import pytest

from unetrpp.networks.cost import estimate
from unetrpp.networks.design import unet_architecture, unetrpp_architecture, with_pooled_attention
from unetrpp.networks.training_memory import FULL, HALF, closed_form, training_memory

HALVED = [(2, 2, 2)] * 4
ARCHITECTURES = {
    "unetrpp": unetrpp_architecture(1, 3, (32, 64, 64), HALVED),
    "unetrpp, shallow": unetrpp_architecture(1, 3, (40, 56, 40), HALVED[:3]),
    "unetrpp, wide, three channels": unetrpp_architecture(3, 4, (64, 96, 96), HALVED, width=2.0),
    "unetrpp, thick slices": unetrpp_architecture(1, 3, (16, 256, 256), [(1, 2, 2)] * 2 + HALVED[:3]),
    "unetrpp, 33 classes": unetrpp_architecture(1, 33, (64, 96, 96), HALVED),
    "unetrpp, plain blocks": unetrpp_architecture(1, 3, (64, 64, 64), HALVED, attention=["conv", "epa", "conv"]),
    "unetrpp, 2d": unetrpp_architecture(3, 3, (320, 320), [(2, 2)] * 5),
    "unetrpp, as released": unetrpp_architecture(1, 3, (32, 64, 64), HALVED, norm="batch", dropout=0.1),
    "unetrpp, dropout": unetrpp_architecture(1, 3, (32, 64, 64), HALVED, dropout=0.1),
    "unetrpp, batch norms": unetrpp_architecture(1, 3, (40, 56, 40), HALVED[:3], norm="batch"),
    "unetrpp, pooled": with_pooled_attention(unetrpp_architecture(1, 3, (40, 56, 40), HALVED[:3]), tokens=None),
    "unetrpp, coarse": with_pooled_attention(unetrpp_architecture(1, 3, (40, 56, 40), HALVED[:3], norm="batch")),
    "unetrpp, pooled, 2d": with_pooled_attention(unetrpp_architecture(3, 3, (320, 320), [(2, 2)] * 5), tokens=None),
    "unetrpp, coarse, 2d": with_pooled_attention(unetrpp_architecture(3, 3, (320, 320), [(2, 2)] * 5)),
    "unet": unet_architecture(1, 3, (32, 64, 64), HALVED),
    "unet, 33 classes": unet_architecture(2, 33, (32, 64, 64), HALVED),
    "unet, 2d": unet_architecture(3, 2, (256, 256), [(2, 2)] * 6),
    "resunet": unet_architecture(2, 3, (64, 64, 64), HALVED, residual=True),
    "resunet, 2d": unet_architecture(1, 3, (256, 256), [(2, 2)] * 6, residual=True),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_closed_form_is_the_measured_step(name):
    architecture = ARCHITECTURES[name]
    counted, measured = closed_form(architecture), estimate(architecture, 2, "bf16")
    copies = counted.parameters * HALF  # of the weights, in half precision
    assert counted.parameters == pytest.approx(measured.parameters, rel=1e-3)
    assert 2 * counted.kept + copies == pytest.approx(measured.activation_bytes, rel=0.01)
    training = 2 * (counted.kept + counted.temporary) + copies + 3 * FULL * counted.parameters
    assert training == pytest.approx(measured.training_bytes, rel=0.01)
    assert training_memory(architecture).of(2) == training


@pytest.mark.parametrize("module", ["gate", "squeeze_excitation"])
def test_other_networks_are_measured(module):
    architecture = ARCHITECTURES["unet"]
    first, *others = architecture.levels
    levels = (msgspec.structs.replace(first, **{module: 1.0}), *others)
    changed = msgspec.structs.replace(architecture, levels=levels)
    assert closed_form(changed) is None
    assert training_memory(changed).of(2) == pytest.approx(estimate(changed, 2, "bf16").training_bytes)
    assert closed_form(msgspec.structs.replace(ARCHITECTURES["unetrpp"], fusion="sum")) is None
    assert closed_form(msgspec.structs.replace(architecture, network="someones")) is None
