"""What is said of every level equals what the built network holds there."""

from typing import Any

import msgspec
import pytest
import torch

from tests.planners.report.test_page import planned
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture, unetrpp_architecture, with_pooled_attention
from unetrpp.networks.epa import EPABlock
from unetrpp.networks.gates import modules_by_place
from unetrpp.planners.report.levels import attention_reason, level_rows, level_words
from unetrpp.plans.plans import Decision

PATCH, STRIDES = (16, 32, 32), [(1, 2, 2), (2, 2, 2), (2, 2, 2)]
PLAIN = unetrpp_architecture(2, 3, PATCH, STRIDES, width=0.5)
EVERY = {f"gate@{i}": 0.5 for i in range(3)} | {f"se@{i}": 1.0 for i in range(4)}
NETWORKS = {
    "published": PLAIN,
    "pooled": with_pooled_attention(PLAIN),
    "EPA at the deepest level": unetrpp_architecture(
        2, 3, PATCH, STRIDES, width=0.5, attention=("conv", "conv", "epa")
    ),
    "some modules": PLAIN.with_focal({"gate@1": 1.25, "se@3": 1.0}),
    "every module": PLAIN.with_focal(EVERY),
    "focus gates": msgspec.structs.replace(PLAIN.with_focal({"gate@0": 1.0}), gates="focus"),
    "U-Net": unet_architecture(2, 3, PATCH, STRIDES, width=0.5),
    "residual U-Net with gates": unet_architecture(2, 3, PATCH, STRIDES, residual=True, width=0.5).with_focal(EVERY),
}


@pytest.fixture(scope="module")
def found():
    measured, plans = planned()
    return measured, plans.configurations["3d_fullres"]


def with_network(configuration, architecture, *decisions):
    return msgspec.structs.replace(
        configuration, architecture=architecture, decisions=(*configuration.decisions, *decisions)
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_every_module_of_the_network_is_named_at_its_level(found, name):
    measured, configuration = found
    architecture = NETWORKS[name]
    levels = level_words(measured, with_network(configuration, architecture))
    with torch.device("meta"):
        network: Any = build_network(architecture)
    places = {f"gate@{i}": level.gate for i, level in enumerate(levels) if level.gate}
    places |= {f"se@{i}": level.squeeze_excitation for i, level in enumerate(levels) if level.squeeze_excitation}
    assert places.keys() == modules_by_place(network, architecture).keys()
    for place, words in places.items():
        assert words.endswith(f"gamma {architecture.focal_gammas()[place]:g}")
    stages = [*([network.entry] if architecture.network == "unetrpp" else []), *network.encoder]
    for stage, level, size in zip(stages, levels, architecture.sizes(), strict=True):
        blocks = [block for block in stage.modules() if isinstance(block, EPABlock)]
        assert (level.encoder.kind != "convolution") == bool(blocks)
        if blocks:
            assert int(level.encoder.name.split()[0]) == len(blocks)
            assert level.size.startswith(" x ".join(map(str, size)))
    for stage, level in zip(network.decoder, levels, strict=False):
        assert level.decoder is not None
        assert (level.decoder.kind != "convolution") == any(isinstance(b, EPABlock) for b in stage.modules())
    assert levels[-1].decoder is None
    assert sum(bool(level.head) for level in levels) == len(network.heads)
    pooled = {blocks.kind for level in levels for blocks in (level.encoder, level.decoder) if blocks} - {"convolution"}
    assert pooled == ({"pooled"} if name == "pooled" else set() if "U-Net" in name else {"epa"})


def test_convolutions_and_residual_blocks_are_told_apart(found):
    measured, configuration = found
    encoder = {"published": "residual block", "U-Net": "convolution", "residual U-Net with gates": "residual block"}
    decoder = encoder | {"residual U-Net with gates": "convolution"}
    for name in encoder:
        first = level_words(measured, with_network(configuration, NETWORKS[name]))[0]
        assert first.decoder is not None
        assert encoder[name] in first.encoder.name
        assert decoder[name] in first.decoder.name
    registered = msgspec.structs.replace(NETWORKS["U-Net"], network="my_network")
    assert level_words(measured, with_network(configuration, registered))[0].encoder.name == "2 blocks"


def test_sizes_are_those_of_the_training_grid(found):
    measured, configuration = found
    levels = level_words(measured, with_network(configuration, PLAIN))
    spacing = configuration.preprocessing.spacing_mm
    assert spacing == pytest.approx((3.0, 0.8, 0.8))
    assert [level.voxel for level in levels] == [
        "3 x 0.8 x 0.8 mm",
        "3 x 1.6 x 1.6 mm",
        "6 x 3.2 x 3.2 mm",
        "12 x 6.4 x 6.4 mm",
    ]
    measured, plans = planned(shape=(1, 256, 320), spacing=(1.0, 1.0, 1.0), names=("2d",))
    first = level_words(measured, plans.configurations["2d"])[0]
    assert (first.voxel, first.size[-6:]) == ("", "pixels")


def test_reasons_stand_at_their_level(found):
    measured, configuration = found
    decisions = [
        Decision(about="attention", value="by the rule", why="asked for"),
        Decision(about="skip at stride 1 x 2 x 2", value="focal gate, gamma 1.2", why="1.5 bits"),
        Decision(about="blocks at stride 2 x 4 x 4", value="EPA", why="few cells"),
        Decision(about="gate at level 1", value="none", why="asked for"),
    ]
    configuration = with_network(configuration, PLAIN, *decisions)
    levels = level_words(measured, configuration)
    assert [level.decisions for level in levels] == [(), (decisions[1], decisions[3]), (decisions[2],), ()]
    assert attention_reason(configuration) == "Attention: by the rule; asked for."
    header, *rows = level_rows(levels)
    assert [row[header.index("reasons")] for row in rows][1:3] == [
        "skip at stride 1 x 2 x 2: focal gate, gamma 1.2 (1.5 bits); gate at level 1: none (asked for)",
        "blocks at stride 2 x 4 x 4: EPA (few cells)",
    ]
    assert "reasons" not in level_rows(level_words(measured, found[1]))[0]
