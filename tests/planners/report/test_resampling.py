"""How each axis is resampled, against the spline orders that preprocessing uses."""

import msgspec
import pytest

from tests.helpers.fingerprints import case_fingerprint, description, fingerprint
from tests.helpers.tiny import configuration
from unetrpp.planners.planner import UNetPlanner
from unetrpp.planners.report.resampling import resampling_rows

NAMES = ("z", "y", "x")


def planned(spacing, transpose=(0, 1, 2)):
    plan = configuration()
    return msgspec.structs.replace(
        plan, preprocessing=msgspec.structs.replace(plan.preprocessing, spacing_mm=spacing, transpose=transpose)
    )


@pytest.mark.parametrize(
    ("spacing", "target", "images"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), ["kept as it is"] * 3),
        ((2.0, 1.0, 1.0), (1.0, 1.0, 1.0), ["cubic spline", "kept as it is", "kept as it is"]),
        ((5.0, 1.0, 1.0), (2.5, 0.5, 0.5), ["nearest slice", "cubic spline", "cubic spline"]),
        ((5.0, 1.0, 1.0), (5.0, 0.5, 0.5), ["kept as it is", "cubic spline", "cubic spline"]),
    ],
)
def test_each_axis_has_its_interpolation(spacing, target, images):
    measured = fingerprint([case_fingerprint(shape=(40, 50, 60), spacing=spacing)])
    rows = resampling_rows(measured, planned(target), NAMES)
    assert [row[4] for row in rows[1:]] == images
    assert [row[2] for row in rows[1:]] == [f"{mm:g}" for mm in target]


def test_axes_are_in_plan_order_and_cases_that_differ_are_counted():
    cases = [case_fingerprint(shape=(60, 50, 40), spacing=(1.0, 1.0, mm)) for mm in (3.0, 3.0, 6.0)]
    rows = resampling_rows(fingerprint(cases), planned((3.0, 1.0, 1.0), (2, 0, 1)), NAMES)
    assert rows[1] == [
        *("x", "3 to 6", "3", "40", "kept as it is in 2 of 3 cases, nearest slice in 1"),
        "kept as they are in 2 of 3 cases, nearest slice in 1",
    ]
    assert [row[0] for row in rows[1:]] == ["x", "z", "y"]


def test_photographs_have_no_mm():
    measured = fingerprint([case_fingerprint(shape=(1, 256, 320)) for _ in range(6)], channels=3)
    plans = UNetPlanner().plan(measured, description(channels=("R", "G", "B")), "unet", ("2d",))
    header, *rows = resampling_rows(measured, plans.configurations["2d"], NAMES)
    assert header == ["axis", "pixels of the median image", "images", "labels"]
    assert [row[0] for row in rows] == ["y", "x"]
