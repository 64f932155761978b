"""Headers of .nii.gz files for tests."""

import gzip
import struct

import numpy as np

from unetrpp.io.nifti import CODES, SFORM, read_transforms


def sform_of(path) -> np.ndarray:
    transforms = read_transforms(path)
    assert transforms is not None
    assert transforms.sform is not None
    return transforms.sform


def change(path, sform, codes):
    """Replace the sform of a .nii.gz and the codes of its qform and sform."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<2h", content, CODES, *codes)
    struct.pack_into("<12f", content, SFORM, *sform.ravel())
    path.write_bytes(gzip.compress(bytes(content)))


def shear(path, share, codes=(0, 1)):
    """Add this share of the first axis of the sform to the second."""
    sform = sform_of(path)
    sform[:, 1] += share * sform[:, 0]
    change(path, sform, codes)
