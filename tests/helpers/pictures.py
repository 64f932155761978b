"""Pictures of a page taken apart, and cases to make them of."""

import base64
import gzip
import math
from dataclasses import asdict
from typing import Any

import numpy as np

from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.report.case_images import CaseImages
from unetrpp.report.embedding import Embedded

LIVER = LabelScheme(names=("background", "liver", "tumour"), values=(0, 1, 2))
SHAPE = (9, 14, 22)
# The file's axes: x runs to the head, y to the right, z to the front.
TURNED = Geometry(
    shape_zyx=SHAPE,
    spacing_zyx_mm=(1.5, 0.75, 3.0),
    origin_xyz_mm=(4.0, -2.0, 7.0),
    direction=(0.0, -1.0, 0.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0),
)
PHOTO = Geometry(shape_zyx=(1, 20, 31), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)


def asymmetric_case(geometry: Geometry = TURNED, *, channels: int = 1, maps: bool = True, seed: int = 0) -> CaseImages:
    """Whole numbers from 0 to 200 without any symmetry; the prediction differs from the reference in every way."""
    rng, shape = np.random.default_rng(seed), geometry.shape_zyx
    image = rng.integers(0, 201, (channels, *shape)).astype(np.float32)
    reference = np.zeros(shape, np.uint8)
    z, y, x = (n // 2 for n in shape)
    reference[max(z - 2, 0) : z + 2, y - 4 : y + 3, x - 7 : x + 5] = 1
    reference[max(z - 1, 0) : z + 1, y - 2 : y + 1, x - 3 : x + 1] = 2
    prediction = np.zeros_like(reference)
    prediction[..., 2:] = reference[..., :-2]
    uncertain = {"entropy": rng.uniform(0, 1, shape), "gate@0": rng.uniform(0.3, 0.4, shape)} if maps else {}
    return CaseImages(Volume(image, geometry), prediction, reference, uncertain)


def unpacked(embedded: Embedded) -> dict[str, np.ndarray]:
    """:func:`unpack` of an embedded case."""
    return unpack(asdict(embedded.about), embedded.data)


def unpack(about: dict[str, Any], data: str) -> dict[str, np.ndarray]:
    """The arrays (z, y, x) of a picture in a page by name: channel 0, ..., prediction, reference and the maps."""
    names = [f"channel {i}" for i in range(len(about["levels"]))] + ["prediction"]
    names += ["reference"] * about["reference"] + [each["name"] for each in about["maps"]]
    content = np.frombuffer(gzip.decompress(base64.b64decode(data)), np.uint8)
    assert content.size == len(names) * math.prod(about["shape"])
    return dict(zip(names, content.reshape(len(names), *about["shape"]), strict=True))


def reference_of(case: CaseImages) -> np.ndarray:
    assert case.reference is not None
    return case.reference
