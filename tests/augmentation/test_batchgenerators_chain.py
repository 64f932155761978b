"""batchgenerators' transforms: mirroring with swapped labels, the mask, and how much must be read."""

import numpy as np

from unetrpp.augmentation.batchgenerators_chain import TransformChain, intensity_and_mirror_transforms, largest_read
from unetrpp.augmentation.label_swap import LabelSwap
from unetrpp.augmentation.pipeline import Sample
from unetrpp.plans.plans import AugmentationPlan

SWAP = LabelSwap(axis=2, labels=(0, 3, 2, 1, 4), outputs=(0, 3, 2, 1))


def test_labels_are_swapped_where_their_axis_was_mirrored():
    mirror = intensity_and_mirror_transforms((0, 2), False, SWAP).transforms[-1]
    label = np.random.default_rng(0).integers(-1, 5, (1, 2, 4, 5, 6)).astype(np.float32)
    swapped = np.select([label == 1, label == 3], [3, 1], label).astype(np.float32)  # numpy 1 makes float64
    expected = {
        (label if 4 not in axes else swapped)[...].copy()[flip].tobytes()
        for axes in [(), (2,), (4,), (2, 4)]
        for flip in [tuple(slice(None, None, -1 if axis in axes else 1) for axis in range(5))]
    }
    found = set()
    for seed in range(40):
        np.random.seed(seed)
        found.add(mirror(data=np.zeros((1, 1, 4, 5, 6), np.float32), seg=label.copy())["seg"].tobytes())
    assert found == expected


def test_the_largest_read_covers_known_cases():
    still = AugmentationPlan(rotation_degrees=(0.0, 0.0, 0.0), scale=(1.0, 1.0))
    assert largest_read(still, (8, 16, 16), False) == (8, 16, 16)
    quarter = AugmentationPlan(rotation_degrees=(180.0, 0.0, 0.0), scale=(1.0, 1.0))
    z, y, x = largest_read(quarter, (8, 16, 32), True)
    assert z == 8
    assert min(y, x) >= 32


def test_background_of_masked_channels_stays_zero():
    plan = AugmentationPlan(rotation_degrees=(30.0, 30.0, 30.0))
    chain = TransformChain(plan, (8, 10, 12), (2,), in_plane_only=False, swap=SWAP, masked=(0,))
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, *chain.read_size)).astype(np.float32)
    image[0, :, :, chain.read_size[2] // 2 :] = 0
    label = rng.integers(0, 5, chain.read_size).astype(np.int16) * (image[0] != 0)
    zeros, other = [], []
    for seed in range(20):
        np.random.seed(seed)
        made = chain(Sample("a", image.copy(), label, None))
        assert made.label.min() >= 0
        zeros.append((made.image[0] == 0).mean())
        other.append((made.image[1] == 0).mean())
    assert np.mean(zeros) > 0.3
    assert np.mean(other) < 0.05
