"""Embedded cases: SimpleITK turns them the same way, what is left out is said, and they fit."""

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.pictures import LIVER, PHOTO, TURNED, asymmetric_case, reference_of, unpacked
from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, to_sitk
from unetrpp.report.case_images import CaseImages
from unetrpp.report.embedding import Embedded, embed_case
from unetrpp.report.label_codes import LabelCodes

CODES = LabelCodes.of(LIVER)
LARGE = Geometry(shape_zyx=(40, 64, 64), spacing_zyx_mm=(2.0, 1.0, 1.0))


def in_lps(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """An independent way to the canonical frame."""
    return sitk.DICOMOrient(to_sitk(array, geometry), "LPS")


def embedded(images: CaseImages, largest: int = 10**7, channels: tuple[str, ...] = ("MR",)) -> Embedded:
    return embed_case(images, CODES, channels, largest)


def test_a_turned_volume_is_shown_as_simpleitk_turns_it():
    case = asymmetric_case()
    found = embedded(case)
    arrays = unpacked(found)
    image = in_lps(case.image.array[0], TURNED)
    assert found.about.spacing == image.GetSpacing()[::-1] == (3.0, 1.5, 0.75)
    np.testing.assert_array_equal(np.array(found.about.levels[0])[arrays["channel 0"]], sitk.GetArrayFromImage(image))
    for name, values in (("prediction", case.prediction), ("reference", reference_of(case))):
        np.testing.assert_array_equal(arrays[name], sitk.GetArrayFromImage(in_lps(values, TURNED)))
    entropy = sitk.GetArrayFromImage(in_lps(case.maps["entropy"], TURNED))
    assert np.abs(arrays["entropy"] / 255 - entropy).max() <= 0.5 / 255 + 1e-9
    gate = found.about.maps[1]
    assert gate.kind == "gate"
    assert 0.3 <= gate.low < gate.high <= 0.4


def test_a_photograph_is_not_turned_and_keeps_its_colours():
    case = asymmetric_case(PHOTO, channels=3, maps=False)
    found = embedded(case, channels=("R", "G", "B"))
    assert found.about.flat
    for k in range(3):
        levels = np.array(found.about.levels[k])
        np.testing.assert_array_equal(levels[unpacked(found)[f"channel {k}"]], case.image.array[k])


def smaller(largest: int) -> Embedded:
    found = embedded(asymmetric_case(LARGE), largest)
    assert len(found.data) <= largest
    return found


def test_what_does_not_fit_is_cropped_then_coarser_then_thinner():
    case, whole = asymmetric_case(LARGE), embedded(asymmetric_case(LARGE))
    assert whole.about.shape == LARGE.shape_zyx
    assert whole.about.note.startswith("The whole image, 40 x 64 x 64 voxels")
    cropped = smaller(len(whole.data) - 1)
    start, shape = cropped.about.start, cropped.about.shape
    labelled = np.argwhere((reference_of(case) > 0) | (case.prediction > 0))
    # 15 mm around what is labelled, as far as the volume goes
    low = np.maximum(labelled.min(0) - np.array([8, 15, 15]), 0)
    high = np.minimum(labelled.max(0) + np.array([9, 16, 16]), LARGE.shape_zyx)
    assert (start, shape) == (tuple(low.tolist()), tuple((high - low).tolist()))
    assert "Cropped to" in cropped.about.note
    box = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
    np.testing.assert_array_equal(unpacked(cropped)["reference"], reference_of(case)[box])
    coarser = smaller(len(cropped.data) - 1)
    assert len(coarser.about.levels[0]) <= 64
    assert (coarser.about.start, coarser.about.shape) == (start, shape)
    thinner = smaller(len(coarser.data) - 1)
    assert thinner.about.steps == (1, 2, 1)  # the finest axes are y and x
    assert "every 2nd along y" in thinner.about.note
    np.testing.assert_array_equal(unpacked(thinner)["reference"], reference_of(case)[box][:, ::2])


@pytest.mark.parametrize("largest", [20_000, 2_000, 300])
def test_it_always_fits(largest):
    smaller(largest)


def test_noise_of_128_voxels_fits_into_a_fortieth_of_the_page():
    geometry = Geometry(shape_zyx=(128, 128, 128), spacing_zyx_mm=(1.0, 1.0, 1.0))
    rng, labels = np.random.default_rng(0), np.zeros(geometry.shape_zyx, np.uint8)
    labels[1:-1, 1:-1, 1:-1] = 1  # nothing can be cropped
    image = Volume(rng.normal(0, 1, (1, *geometry.shape_zyx)).astype(np.float32), geometry)
    found = embedded(CaseImages(image, labels, labels), 600_000)
    assert len(found.data) <= 600_000
    assert max(found.about.steps) <= 4


def test_nothing_labelled_is_not_cropped():
    empty = CaseImages(asymmetric_case(LARGE).image, np.zeros(LARGE.shape_zyx, np.uint8))
    found = embedded(empty, 50_000)
    assert found.about.start == (0, 0, 0)
    assert not found.about.reference


def test_what_is_ignored_is_no_reason_to_keep_a_voxel():
    scheme = LabelScheme(names=("background", "liver", "tumour"), values=(0, 1, 2), ignore_value=9)
    case = asymmetric_case(LARGE)
    reference = np.where(reference_of(case) > 0, reference_of(case), 9)
    found = embed_case(CaseImages(case.image, case.prediction, reference), LabelCodes.of(scheme), ("MR",), 60_000)
    assert max(found.about.start) > 0
    assert 255 in unpacked(found)["reference"]


def test_an_image_with_nan_and_a_foreign_label_are_refused():
    case = asymmetric_case()
    broken = case.image.array.copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="NaN"):
        embedded(CaseImages(Volume(broken, TURNED), case.prediction))
    with pytest.raises(UserError, match="the prediction holds the value 7"):
        embedded(CaseImages(case.image, np.full_like(case.prediction, 7)))


def test_the_same_case_gives_the_same_bytes():
    assert embedded(asymmetric_case()) == embedded(asymmetric_case())
