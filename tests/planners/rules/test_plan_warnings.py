"""Warnings are one sentence each, however many classes they are about, in lengths that a person reads."""

import msgspec
import pytest

from tests.helpers.fingerprints import case_fingerprint, class_statistics, description, fingerprint
from unetrpp.planners.options import Options
from unetrpp.planners.presets import make_planner


def labelled(names, cases=6, **changes):
    """Cases of one kind; ``changes`` of every case's fingerprint."""
    extent = changes.pop("extent", (20, 20, 20))
    absent = changes.pop("absent", lambda name, case: False)

    def found(name, case):
        if absent(name, case):
            return msgspec.structs.replace(
                class_statistics(), voxels=0, smallest_extent_voxels=None, center_lps_mm=None
            )
        return class_statistics(extent=extent)

    return fingerprint(
        [
            case_fingerprint(f"case_{k}", classes={name: found(name, k) for name in names}, **changes)
            for k in range(cases)
        ]
    )


def warnings(data, groups=None, **options):
    names = ("background", *data.cases[0].classes)
    planner = make_planner("unetrpp", Options(width=0.25, gpu_memory_gb=8, **options))
    return planner.plan(data, msgspec.structs.replace(description(names), groups=groups), "mine").warnings


LAYERS = [f"layer{i}" for i in range(1, 13)]


@pytest.mark.parametrize("names", [LAYERS[:1], LAYERS])
def test_classes_larger_than_a_patch_share_one_warning(names):
    (warning,) = warnings(labelled(names, shape=(40, 80, 90), extent=(35, 30, 20)), patch=(32, 16, 16))
    assert "35 mm along z (head-feet) against 32, 30 mm along y (front-back) against 16 and 20 mm along x" in warning
    assert "a larger --patch, a coarser spacing or 3d_lowres would show more" in warning
    assert ("'layer5' and 7 more" in warning) == (len(names) == 12)


def test_lengths_are_no_powers_of_ten():
    found = warnings(
        labelled(["a"], spacing=(120.0, 4.0, 10.0), shape=(10, 128, 96), extent=(10, 4, 96)), patch=(4, 32, 32)
    )
    assert "1200 mm along z (head-feet) against 480" in found[1]
    assert "e+" not in "".join(found)


def test_voxels_of_centimetres_are_doubted():
    (warning,) = warnings(labelled(["a"], spacing=(120.0, 4.0, 10.0), shape=(10, 128, 96), extent=(2, 4, 4)))
    assert warning.startswith("6 of 6 cases have voxels longer than 25 mm, such as case_0 (120 x 4 x 10 mm)")
    assert not warnings(labelled(["a"], spacing=(10.0, 1.0, 1.0), shape=(10, 60, 60), extent=(2, 4, 4)))


def test_absent_and_rare_classes_share_one_warning_each():
    nowhere, once = LAYERS[:7], LAYERS[7:10]
    data = labelled(LAYERS, absent=lambda name, case: name in nowhere or (name in once and case != 2))
    assert warnings(data) == (
        "'layer1', 'layer2', 'layer3', 'layer4', 'layer5' and 2 more are in no case, so they cannot be learned: label "
        "them, or remove them from dataset.json",
        "3 classes are in one case only ('layer8' in case_2, 'layer9' in case_2 and 'layer10' in case_2): the fold that "
        "holds this case out never learns the class",
    )


def test_a_class_of_one_patient_is_rare_however_many_cases_the_patient_has():
    data = labelled(["a", "b", "c"], absent=lambda name, case: {"a": case > 1, "b": case != 4}.get(name, False))
    patients = {f"case_{k}": f"patient_{k // 2}" for k in range(6)}
    assert warnings(data, groups=patients) == (
        "2 classes are in one patient only ('a' in 'patient_0' (2 cases) and 'b' in case_4): the fold that holds this patient "
        "out never learns the class",
    )
    only = labelled(["a", "c"], absent=lambda name, case: name == "a" and case > 1)
    assert warnings(only, groups=patients) == (
        "'a' is in 'patient_0' (2 cases) only: the fold that holds this patient out never learns it",
    )
    assert warnings(only) == ()
    follow_up = {"case_1": "case_0"}  # the patient is called as the case that no group names
    assert warnings(only, groups=follow_up) == (
        "'a' is in 'case_0' (2 cases) only: the fold that holds this patient out never learns it",
    )


def test_vanishing_classes_share_one_spacing_that_keeps_all():
    fine = labelled(["a", "b"], spacing=(1.0, 1.0, 1.0), extent=(2, 4, 4))
    (warning,) = warnings(fine, spacing=(5.0, 2.0, 2.0))
    assert warning == (
        "2 classes ('a' and 'b') may vanish: their median component is thinner than a target voxel, most of all that of "
        "'a' (2 mm along z (head-feet) against 5); --spacing 2 2 2 would keep them"
    )


def test_a_low_resolution_is_advised_only_where_there_is_one():
    """A patch of a quarter of the image and more leaves nothing for 3d_lowres to show."""
    (warning,) = warnings(labelled(["a"], shape=(40, 40, 40), extent=(35, 35, 35)), patch=(32, 32, 32))
    assert warning.endswith("a larger --patch or a coarser spacing would show more of it at once")
