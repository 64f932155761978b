"""Comparing our predictions with those that nnU-Net wrote: labels, and probabilities in an .npz beside them."""

from pathlib import Path

import numpy as np

from unetrpp.inference.segmentation import Segmentation
from unetrpp.io.geometry import to_canonical
from unetrpp.io.images import read_label
from unetrpp.preprocessing.grid import Frame, orientation_in

LABELS_EQUAL = 0.9999  # share of voxels
LARGEST, MEAN = 2e-2, 1e-4  # differences of probabilities


def assert_agrees(found: Segmentation, expected: Path, folder: Path, frame: Frame = "file") -> None:
    """The segmentation ``found`` and the one that nnU-Net wrote as ``expected``, which has the same grid.

    Args:
        folder: where ours is written, so that the files are compared.
        frame: of the probabilities; nnU-Net leaves them in that of its reader.
    """
    theirs = read_label(expected)
    found.save(folder / expected.name)
    ours = read_label(folder / expected.name)
    assert ours.geometry.shape_zyx == theirs.geometry.shape_zyx
    np.testing.assert_allclose(ours.geometry.direction, theirs.geometry.direction, atol=1e-6)
    np.testing.assert_allclose(ours.geometry.origin_xyz_mm, theirs.geometry.origin_xyz_mm, atol=1e-4)
    assert (ours.array == theirs.array).mean() >= LABELS_EQUAL
    if found.probabilities is not None:
        stem = expected.name.removesuffix("".join(expected.suffixes))
        with np.load(expected.with_name(f"{stem}.npz")) as file:
            assert file["probabilities"].std() > 0.01
            ours_there = to_canonical(found.probabilities, orientation_in(frame, found.geometry))
            difference = np.abs(file["probabilities"].astype(np.float32) - ours_there.astype(np.float32))
        assert difference.max() <= LARGEST
        assert difference.mean() <= MEAN
