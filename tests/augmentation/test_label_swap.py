"""Left and right swapped: the logits of a mirrored image, and the labels that augmentation mirrors."""

import itertools

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.tiny import configuration
from unetrpp.augmentation.label_swap import LabelSwap, label_swap_of
from unetrpp.augmentation.pipeline import SampleDraw, apply_sample, draw_sample
from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme, Region, label_table, output_table
from unetrpp.inference.sliding_window import SlidingWindow
from unetrpp.plans.plans import AugmentationPlan

SCHEME = LabelScheme(names=("background", "left", "liver", "right"), values=(0, 5, 7, 9), ignore_value=255)
SWAP = LabelSwap(axis=2, labels=label_table(SCHEME, [(1, 3)]), outputs=(0, 3, 2, 1))


def test_tables_are_their_own_inverse_and_keep_the_ignore_label():
    assert SWAP.labels == (0, 3, 2, 1, 4)
    assert output_table(SCHEME, SWAP.labels) == SWAP.outputs
    label = torch.tensor([-1, 0, 1, 2, 3, 4], dtype=torch.int16)
    assert SWAP.swap_labels(label, (0, 2)).tolist() == [-1, 0, 3, 2, 1, 4]
    assert SWAP.swap_labels(label, (0, 1)).tolist() == label.tolist()


def test_regions_are_swapped_by_their_members():
    regions = (
        Region(name="all", members=(1, 2, 3), value=1),
        Region(name="left half", members=(1, 2), value=2),
        Region(name="right half", members=(3, 2), value=3),
    )
    scheme = msgspec.structs.replace(SCHEME, regions=regions)
    assert output_table(scheme, SWAP.labels) == (0, 2, 1)
    with pytest.raises(UserError, match="'left half' has no counterpart"):
        output_table(msgspec.structs.replace(scheme, regions=regions[:2]), SWAP.labels)


def naive(network, image, axes):
    """The mean of the logits of every mirrored image, mirrored back and with the channels of left and right swapped."""
    passes = []
    for flips in (f for n in range(len(axes) + 1) for f in itertools.combinations(axes, n)):
        turned = [axis + 1 for axis in flips]
        logits = network(image.flip(turned)[None])[0].flip(turned)
        passes.append(logits[[0, 3, 2, 1]] if 2 in flips else logits)
    return torch.stack(passes).mean(0)


@torch.no_grad()
def test_mirrored_passes_swap_the_classes():
    torch.manual_seed(0)
    network, image = nn.Conv3d(1, 4, 3, padding=1), torch.rand(1, 8, 8, 8)
    window = SlidingWindow((8, 8, 8), mirror_axes=(0, 2), swap=SWAP)
    ours = window.logits(network, image)
    torch.testing.assert_close(ours, naive(network, image, (0, 2)), atol=1e-5, rtol=0)
    # So the prediction of the mirrored image is the mirrored prediction with left and right swapped.
    mirrored = window.logits(network, image.flip(3))
    torch.testing.assert_close(mirrored, ours.flip(3)[[0, 3, 2, 1]], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_first_stage_segmentation_is_swapped_with_its_image():
    torch.manual_seed(0)
    network = nn.Conv3d(2, 4, 3, padding=1)
    image = torch.cat([torch.rand(1, 8, 8, 8), torch.randint(0, 4, (1, 8, 8, 8)).float()])
    swap = LabelSwap(2, SWAP.labels, SWAP.outputs, first_stage=True)
    window = SlidingWindow((8, 8, 8), mirror_axes=(2,), swap=swap)
    ours = window.logits(network, image)
    turned = image.flip(3)
    turned[1] = torch.tensor([0.0, 3.0, 2.0, 1.0])[turned[1].long()]
    mirrored = window.logits(network, turned)
    torch.testing.assert_close(mirrored, ours.flip(3)[[0, 3, 2, 1]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("mirror", [(), (1,), (2,), (0, 2)])
def test_augmentation_swaps_labels_when_it_mirrors_that_axis(mirror):
    still = draw_sample(np.random.default_rng(0), AugmentationPlan(rotation_degrees=(0.0, 0.0, 0.0)), 1, ()).intensity
    draw = SampleDraw(None, type(still)(None, 0, None, None, None, None, None, None), mirror, SWAP)
    label = torch.randint(-1, 5, (4, 5, 6), dtype=torch.int16)
    _, found = apply_sample(torch.rand(1, 4, 5, 6), label, draw, (4, 5, 6), in_plane_only=False)
    expected = label.flip(mirror).numpy()
    if 2 in mirror:
        expected = np.select([expected == 1, expected == 3], [3, 1], expected)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert found.dtype == torch.int16


def test_plans_without_a_swap_have_none():
    plain = configuration()
    assert label_swap_of(plain) is None
    preprocessing = msgspec.structs.replace(plain.preprocessing, labels=SCHEME)
    swapping = {"preprocessing": preprocessing, "swap_axis": 2, "swapped_labels": ((1, 3),)}
    assert label_swap_of(msgspec.structs.replace(plain, **swapping)) == SWAP
    cascade = label_swap_of(msgspec.structs.replace(plain, first_stage="3d_lowres", **swapping))
    assert cascade is not None
    assert cascade.first_stage
