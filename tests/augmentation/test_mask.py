"""The mask of masked z-scores, as a label of its own among the background."""

import torch

from unetrpp.augmentation.mask import OUTSIDE_MASK, clear_outside, mark_outside


def test_the_mask_is_marked_among_the_background_only():
    image = torch.zeros(2, 1, 1, 5)
    image[0, ..., 0], image[1, ..., 1] = 1, 1
    label = torch.tensor([[[0, 0, 0, 3, -1]]], dtype=torch.int16)
    assert mark_outside(image, label, (0, 1)).tolist() == [[[0, 0, OUTSIDE_MASK, 3, -1]]]
    assert mark_outside(image, label, (0,)).tolist() == [[[0, OUTSIDE_MASK, OUTSIDE_MASK, 3, -1]]]
    maps = torch.stack([label, label])
    assert mark_outside(image, maps, (1,))[:, 0, 0].tolist() == [[-2, 0, -2, 3, -1], [0, 0, 0, 3, -1]]
    image += 5
    cleared = clear_outside(image, mark_outside(torch.zeros_like(image), label, (0, 1)), (0,))
    assert torch.equal(cleared, label)
    assert image[:, 0, 0].tolist() == [[0, 0, 0, 5, 0], [5, 6, 5, 5, 5]]
    assert mark_outside(image, label, ()) is label
    assert clear_outside(image, label, ()) is label
