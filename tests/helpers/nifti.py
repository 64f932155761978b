"""Headers of .nii.gz files for tests."""

import gzip
import struct

import numpy as np

CODES, QUATERNION, SFORM = 252, 256, 280  # offsets in a NIfTI-1 header (nifti1.h)


def sform_of(path) -> np.ndarray:
    """(3, 4), whatever its code."""
    return np.array(struct.unpack_from("<12f", gzip.decompress(path.read_bytes()), SFORM)).reshape(3, 4)


def codes_of(path) -> tuple[int, ...]:
    """Of the qform and the sform."""
    return struct.unpack_from("<2h", gzip.decompress(path.read_bytes()), CODES)


def patch(path, form, offset, *values):
    """Overwrite a field of the header of a .nii.gz."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<" + form, content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)))


def change(path, sform, codes):
    """Replace the sform of a .nii.gz and the codes of its qform and sform."""
    patch(path, "2h", CODES, *codes)
    patch(path, "12f", SFORM, *sform.ravel())


def shear(path, share, codes=(0, 1)):
    """Add this share of the first axis of the sform to the second."""
    sform = sform_of(path)
    sform[:, 1] += share * sform[:, 0]
    change(path, sform, codes)
