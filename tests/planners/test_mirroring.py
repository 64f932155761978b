import pytest

from tests.planners.fingerprints import case_fingerprint, class_statistics, description, fingerprint
from unetrpp.planners.mirroring import mirror_axes

CENTRAL = fingerprint([case_fingerprint(classes={"organ": class_statistics()})] * 5)


def named(*names):
    cases = [case_fingerprint(classes={name: class_statistics() for name in names})] * 5
    return mirror_axes(fingerprint(cases), description(("background", *names)).labels)


@pytest.mark.parametrize(
    "pair", [("kidney_left", "kidney_right"), ("Left Lung", "Right Lung"), ("hippocampus-L", "hippocampus-R")]
)
def test_a_left_right_pair_is_not_mirrored(pair):
    axes, decision = named(*pair)
    assert axes == (0, 1)
    assert pair[0] in decision.why


def test_without_sides_every_axis_is_mirrored():
    assert named("anterior", "posterior", "left atrium")[0] == (0, 1, 2)


def with_centers(centers):
    cases = [case_fingerprint(shape=(50, 50, 100), classes={"organ": class_statistics((x, 0.0, 0.0))}) for x in centers]
    return mirror_axes(fingerprint(cases), description().labels)


def test_a_class_on_one_side_is_not_mirrored():
    axes, decision = with_centers([-22.0, -25.0, -30.0, -24.0])
    assert axes == (0, 1)
    assert "lies on the right in 100% of 4 cases" in decision.why


def test_a_class_on_either_side_or_too_few_cases_are():
    assert with_centers([-25.0, 25.0, -30.0, -24.0])[0] == (0, 1, 2)
    assert with_centers([-25.0, -25.0])[0] == (0, 1, 2)
