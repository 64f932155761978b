"""What was measured, as tables: units against closed forms, and few rows for many classes."""

import math

import msgspec
import pytest

from tests.helpers.fingerprints import case_fingerprint, class_statistics, description, fingerprint
from unetrpp.planners.report.measured import (
    class_header,
    class_rows,
    class_summary,
    found_classes,
    intensity_rows,
    size_rows,
    units_of,
)
from unetrpp.plans.plans import Plans

NAMES = ("z", "y", "x")


def many(classes: int, *, absent: int = 0):
    """Five cases; class i has i ml, and the last ``absent`` classes are in the first case alone."""

    def found(i, case):
        here = case == 0 or i <= classes - absent
        voxels = 1000 * i if here else 0
        return msgspec.structs.replace(class_statistics(), voxels=voxels, volume_mm3=float(voxels))

    return fingerprint(
        case_fingerprint(f"case_{k}", classes={f"class {i}": found(i, k) for i in range(1, classes + 1)})
        for k in range(5)
    )


def test_volumes_are_in_ml_or_mm3_and_areas_in_pixels_or_mm2():
    assert units_of(many(3)).what == "volume (ml)"
    small = msgspec.structs.replace(class_statistics(), volume_mm3=50.0)
    assert units_of(fingerprint([case_fingerprint(classes={"a": small})])).what == "volume (mm3)"
    photograph = fingerprint([case_fingerprint(shape=(1, 50, 60))])
    assert units_of(photograph).what == "area (pixels)"
    assert units_of(fingerprint([case_fingerprint(shape=(1, 50, 60), spacing=(5.0, 0.5, 0.5))])).what == "area (mm2)"
    assert not any("mm" in text or "ml" in text or "volume" in text for text in class_header(photograph))


def test_only_files_without_a_size_are_in_pixels():
    """A slice of 1 x 1 mm in a NIfTI has mm, a TIFF stack without a size has voxels, and one with a size has mm."""
    flat, volume = fingerprint([case_fingerprint(shape=(1, 50, 60))]), fingerprint([case_fingerprint()])
    sized = fingerprint([case_fingerprint(spacing=(1.0, 0.5, 0.5))])
    given = [(flat, ".nii.gz"), (flat, ".png"), (volume, ".tif"), (volume, ".mha"), (volume, ""), (sized, ".tif")]
    units = [msgspec.structs.replace(found, file_ending=ending).length_unit for found, ending in given]
    assert units == ["mm", "pixels", "voxels", "mm", "mm", "mm"]


def test_a_disc_has_its_own_radius():
    """A disc of 400 mm2 in slices of 5 mm: the record has the radius of the sphere of 2000 mm3."""
    sphere = (2000 * 3 / (4 * math.pi)) ** (1 / 3)
    disc = msgspec.structs.replace(class_statistics(), volume_mm3=2000.0, component_radii_mm=(sphere,))
    flat = fingerprint([case_fingerprint(shape=(1, 50, 60), spacing=(5.0, 0.5, 0.5), classes={"disc": disc})])
    (row,) = class_rows(flat)[1:]
    assert float(row[2]) == pytest.approx(400)
    assert float(row[4]) == pytest.approx(math.sqrt(400 / math.pi), rel=5e-3)


def test_sizes_are_before_and_after_cropping_and_say_so():
    case = case_fingerprint(shape=(40, 50, 60))
    whole, cut = fingerprint([case]), fingerprint([msgspec.structs.replace(case, cropped_shape=(40, 25, 60))])
    assert [row[0] for row in size_rows(whole, NAMES)[1:4]] == [f"voxels along {name}" for name in NAMES]
    rows = {row[0]: row[1:] for row in size_rows(cut, NAMES)}
    assert rows["voxels along y, before cropping"] == ["50"] * 3
    assert rows["voxels along y, after cropping"] == ["25"] * 3
    assert rows["share kept by cropping"] == ["50%"] * 3


def test_photographs_have_no_mm_and_no_slices():
    rows = size_rows(fingerprint([case_fingerprint(shape=(1, 50, 60))]), NAMES)
    assert [row[0] for row in rows[1:]] == ["pixels along y", "pixels along x"]


def test_of_many_classes_the_largest_the_smallest_and_the_rarest_are_named():
    groups = dict(class_summary(many(37, absent=2)))
    assert [found.name for found in groups["largest"]] == [f"class {i}" for i in (37, 36, 35, 34, 33)]
    assert [found.name for found in groups["smallest"]] == [f"class {i}" for i in (5, 4, 3, 2, 1)]
    assert [(found.name, found.cases) for found in groups["rarest"]] == [("class 36", 1), ("class 37", 1)]
    assert len(class_rows(many(37))) == 38
    assert found_classes(many(4))[2].sizes == (3.0,) * 5


def test_channels_have_their_intensities():
    plans = msgspec.convert(
        {
            "dataset": "Made",
            "name": "unetrpp",
            "planner": "unetrpp",
            "channel_names": ["T1", "T2"],
            "labels": msgspec.to_builtins(description().labels),
            "file_ending": ".nii.gz",
            "configurations": {},
            "decisions": [],
        },
        Plans,
    )
    rows = intensity_rows(fingerprint([case_fingerprint()], channels=2), plans)
    assert [row[0] for row in rows[1:]] == ["T1", "T2"]
    assert rows[1][3:] == ["-100", "41", "200"]
