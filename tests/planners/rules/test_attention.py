"""The rule that places attention, on masks of known geometry."""

import numpy as np
import pytest

from unetrpp.core.errors import UserError
from unetrpp.networks.design import unet_architecture, unetrpp_architecture, with_pooled_attention
from unetrpp.planners.measure.occupancy import cell_strides, foreground_fractions
from unetrpp.planners.rules.attention import place_attention
from unetrpp.planners.rules.attention_overrides import parse_override
from unetrpp.plans.architecture import as_3d

PATCH = (64, 64, 64)
NETWORK = unetrpp_architecture(1, 2, PATCH, [(2, 2, 2)] * 4)
UNET = unet_architecture(1, 2, PATCH, [(2, 2, 2)] * 4)


def ellipsoid(shape, centre, radii):
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    inside = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) < 1
    return np.asarray(inside).astype(np.int16)


def patches_around(mask, patch, n=12, seed=0):
    """A third of the patches on the foreground, as training draws them."""
    rng = np.random.default_rng(seed)
    voxels = np.argwhere(mask)
    for i in range(n):
        room = [m - p for m, p in zip(mask.shape, patch, strict=True)]
        start = [rng.integers(r + 1) for r in room]
        if i % 3 == 0:
            centre = voxels[rng.integers(len(voxels))]
            start = [int(np.clip(c - p // 2, 0, r)) for c, p, r in zip(centre, patch, room, strict=True)]
        yield mask[tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))]


def placed(mask, architecture=NETWORK):
    patch = as_3d(architecture.patch)
    fractions = foreground_fractions(patches_around(mask, patch), cell_strides(architecture), None)
    return place_attention(architecture, "focal", fractions=fractions)[0]


def gates(architecture):
    return [level.gate for level in architecture.levels[:-1]]


def count(architecture):
    return sum(g is not None for g in gates(architecture))


def test_smaller_and_rarer_never_gets_fewer_gates():
    balls = [placed(ellipsoid((80, 80, 80), (40, 40, 40), (r, r, r))) for r in (34, 20, 10, 5, 2.5)]
    counts = [count(a) for a in balls]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    strengths = [sum(g or 0 for g in gates(a)) for a in balls]
    assert strengths == sorted(strengths)


def test_rarer_patches_with_foreground_never_get_fewer_gates():
    counts = []
    for others in (0, 12, 60):
        ball = ellipsoid(PATCH, (32, 32, 32), (12, 12, 12))
        patches = [ball] * 12 + [np.zeros(PATCH, np.int16)] * others
        counts.append(
            count(
                place_attention(NETWORK, "focal", fractions=foreground_fractions(patches, cell_strides(NETWORK), None))[
                    0
                ]
            )
        )
    assert counts == sorted(counts)


def test_a_large_compact_object_gets_no_gates():
    whole = np.ones(PATCH, np.int16)
    whole[:2] = 0
    assert count(placed(whole)) == 0


def test_twenty_tiny_lesions_get_gates_at_high_resolution():
    rng = np.random.default_rng(1)
    lesions = np.zeros((96, 96, 96), np.int16)
    for centre in rng.integers(5, 91, (20, 3)):
        lesions |= ellipsoid(lesions.shape, centre, (2, 2, 2))
    result = placed(lesions)
    assert result.levels[0].gate == 2


def blocks(architecture):
    return [level.attention for level in architecture.levels]


@pytest.mark.parametrize(
    ("network", "finest"),
    [
        (NETWORK, "4 x 4 x 4"),
        (unetrpp_architecture(1, 2, (32, 96, 96), [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]), "2 x 4 x 4"),
        (unetrpp_architecture(3, 2, (128, 128), [(2, 2)] * 5), "1 x 4 x 4"),
    ],
    ids=["cube", "anisotropic", "2d"],
)
def test_auto_keeps_epa_at_its_finest_level_alone(network, finest):
    made, decisions = place_attention(network, "auto")
    assert blocks(made) == ["conv", "epa", *["conv"] * (len(network.levels) - 2)]
    assert made.levels[1].cell is not None
    assert {(level.gate, level.squeeze_excitation) for level in made.levels} == {(None, None)}
    assert [decision.about for decision in decisions] == ["attention", "gates"]
    assert decisions[0].value == f"pooled EPA at stride {finest}"
    assert f"of {len(network.levels) - 1} published levels" in decisions[0].why


def test_focal_has_the_blocks_of_auto_and_gates_besides():
    focal = place_attention(NETWORK, "focal", [0.01, 0.04, 0.3, 0.8])[0]
    assert blocks(focal) == blocks(place_attention(NETWORK, "auto")[0])
    assert count(focal) == 3


def test_auto_says_that_a_network_has_no_blocks():
    made, decisions = place_attention(UNET, "auto")
    assert made == UNET
    assert "no levels with EPA" in decisions[0].why


def test_pooled_keeps_the_places_and_drops_what_is_bound_to_the_patch():
    made, (decision,) = place_attention(NETWORK, "pooled")
    assert [level.attention for level in made.levels] == [level.attention for level in NETWORK.levels]
    assert made == with_pooled_attention(NETWORK)
    assert decision.value == "as published, but pooled"
    made, _ = place_attention(NETWORK, "pooled", overrides=[parse_override("epa@2=off")])
    assert (made.levels[2].attention, made.levels[2].cell, made.levels[2].token) == ("conv", None, None)
    made, _ = place_attention(NETWORK, "auto", overrides=[parse_override("epa@1=on")])
    assert made.levels[1].attention == "epa"
    assert made.levels[1].cell is not None
    plain = place_attention(NETWORK, "none")[0]
    made, _ = place_attention(plain, "pooled", overrides=[parse_override("epa@2=on")])
    assert made.levels[2].cell is not None


def test_a_thin_sheet_is_harder_to_find_at_full_resolution_only():
    sheet = np.zeros(PATCH, np.int16)
    sheet[31] = 1
    fractions = foreground_fractions([sheet], cell_strides(UNET), None)
    assert fractions == pytest.approx(
        [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4]
    )  # one bit a level: a surface, not a volume
    assert gates(place_attention(UNET, "focal", fractions=fractions)[0]) == pytest.approx([1, 1, 1, 1])


def test_an_anisotropic_object_is_measured_with_each_axis_own_stride():
    network = unetrpp_architecture(1, 2, (16, 64, 64), [(1, 2, 2), (2, 2, 2), (2, 2, 2)])
    bar = np.zeros((16, 64, 64), np.int16)
    bar[:, 32, 32] = 1  # along the coarse axis: pooling it changes nothing
    strides = cell_strides(network)
    assert strides == [(1, 1, 1), (1, 2, 2), (2, 4, 4), (4, 8, 8)]
    assert foreground_fractions([bar], strides, None) == pytest.approx([64**-2, 32**-2, 16**-2, 8**-2])


def test_discs_keep_fewer_gates_than_vessels_in_2d():
    network = unetrpp_architecture(3, 2, (128, 128), [(2, 2)] * 5)
    discs = ellipsoid((1, 128, 128), (0, 64, 64), (1, 58, 58))
    vessels = np.zeros((1, 128, 128), np.int16)
    vessels[0, 64, :] = 1
    vessels[0, :, 40] = 1
    assert count(placed(discs, network)) < count(placed(vessels, network))
    assert count(placed(discs, network)) <= 1


def test_unknown_voxels_do_not_count():
    patch = np.zeros((1, 4, 4), np.int16)
    patch[0, 0, 0] = 1
    patch[0, 2:] = -1
    patch[0, :, 2:] = 3  # the ignore label
    patch[0, 2:, :2] = -1
    assert foreground_fractions([patch], [(1, 1, 1), (1, 2, 2)], 3) == (0.25, 1.0)
    with pytest.raises(UserError, match="1 training patch holds no foreground"):
        foreground_fractions([np.zeros((1, 4, 4), np.int16)], [(1, 1, 1)], None)


def test_squeeze_and_excitation_needs_much_foreground_many_channels_and_no_gate():
    result, decisions = place_attention(NETWORK, "focal", fractions=[0.01, 0.04, 0.3, 0.8])
    assert [level.channels for level in result.levels] == [16, 32, 64, 128]
    assert [level.gate for level in result.levels] == [pytest.approx(2), 2.0, pytest.approx(np.log2(0.8 / 0.3)), None]
    assert [level.squeeze_excitation for level in result.levels] == [None, None, None, 1.0]
    assert sum(d.about.startswith("skip at stride") for d in decisions) == 3
    assert decisions[0].about == "attention"
    assert all(d.why for d in decisions)


@pytest.mark.parametrize("network", [NETWORK, UNET])
def test_modes(network):
    assert place_attention(network, "paper")[0] == network
    none = place_attention(network, "none")[0]
    assert {(v.gate, v.squeeze_excitation, v.attention) for v in none.levels} == {(None, None, "conv")}
    everything = place_attention(network, "all")[0]
    assert gates(everything) == [1.0] * (len(network.levels) - 1)
    assert everything.levels[-1].gate is None
    assert all(level.squeeze_excitation == 1 for level in everything.levels)
    assert [v.attention for v in everything.levels] == [v.attention for v in network.levels]


def test_overrides_win_over_the_mode():
    overrides = [parse_override(text) for text in ("gate@1=1.5", "gate@0=off", "se@3=on", "epa@2=off")]
    result, decisions = place_attention(NETWORK, "all", overrides=overrides)
    assert [level.gate for level in result.levels] == [None, 1.5, 1.0, None]
    assert result.levels[3].squeeze_excitation == 1
    assert [level.attention for level in result.levels] == ["conv", "epa", "conv", "epa"]
    assert [d.why for d in decisions[1:]] == ["asked for"] * 4
