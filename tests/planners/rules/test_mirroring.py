"""Which axes are mirrored, by the names of labels and the positions of classes."""

import msgspec
import pytest

from tests.helpers.fingerprints import case_fingerprint, class_statistics, description, fingerprint
from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.planners.rules.mirroring import Mirroring, of_patch, plan_mirroring

CENTRAL = fingerprint([case_fingerprint(classes={"organ": class_statistics()})] * 5)


def named(*names, asked="auto"):
    cases = [case_fingerprint(classes={name: class_statistics() for name in names})] * 5
    return plan_mirroring(fingerprint(cases), description(("background", *names)).labels, asked)


@pytest.mark.parametrize(
    "pair", [("kidney_left", "kidney_right"), ("Left Lung", "Right Lung"), ("hippocampus-L", "hippocampus-R")]
)
def test_a_left_right_pair_is_not_mirrored(pair):
    axes, exchanged, decision = named(*pair)
    assert exchanged == ()
    assert axes == (0, 1)
    assert pair[0] in decision.why


def test_without_sides_every_axis_is_mirrored():
    assert named("anterior", "posterior", "left atrium")[0] == (0, 1, 2)


def with_centers(centers):
    cases = [case_fingerprint(shape=(50, 50, 100), classes={"organ": class_statistics((x, 0.0, 0.0))}) for x in centers]
    return plan_mirroring(fingerprint(cases), description().labels)


def test_a_class_on_one_side_is_not_mirrored():
    axes, _, decision = with_centers([-22.0, -25.0, -30.0, -24.0])
    assert axes == (0, 1)
    assert "lies on the right in 100% of 4 cases" in decision.why


def test_a_class_on_both_sides_or_in_too_few_cases_is_mirrored():
    assert with_centers([-25.0, 25.0, -30.0, -24.0])[0] == (0, 1, 2)
    assert with_centers([-25.0, -25.0])[0] == (0, 1, 2)


def test_exchange_mirrors_all_axes_and_swaps_left_and_right():
    axes, pairs, decision = named("liver", "kidney_left", "kidney_right", asked="exchange")
    assert axes == (0, 1, 2)
    assert pairs == ((2, 3),)
    assert "kidney_left and kidney_right" in decision.why
    with pytest.raises(UserError, match="needs a left and a right label"):
        named("liver", asked="exchange")


def kidneys(regions, asked):
    names = ("background", "left cortex", "left cyst", "right cortex", "right cyst")
    labels = LabelScheme(names=names, values=tuple(range(5)), regions=regions)
    return plan_mirroring(
        fingerprint([case_fingerprint(classes=dict.fromkeys(names, class_statistics()))]), labels, asked
    )


def test_a_region_without_counterpart_is_refused_before_anything_is_preprocessed():
    left = Region(name="left kidney", members=(1, 2), value=1)
    right = Region(name="right kidney", members=(3, 4), value=3)
    assert kidneys((left, right), "exchange").pairs == ((1, 3), (2, 4))
    with pytest.raises(UserError, match="region 'left kidney' has no counterpart on the other side"):
        kidneys((left,), "exchange")


def test_the_sides_of_regions_count():
    """Their labels may have no names of their own."""
    regions = [
        Region(name=f"{side}_kidney", members=(i,), value=i) for i, side in enumerate(("left", "right"), start=1)
    ]
    labels = LabelScheme(names=("background", "label 1", "label 2"), values=(0, 1, 2), regions=tuple(regions))
    classes = dict.fromkeys(labels.names, class_statistics())
    mirroring = plan_mirroring(fingerprint([case_fingerprint(classes=classes)]), labels)
    assert mirroring.axes == (0, 1)
    assert mirroring.decision.why == "regions 'left_kidney' and 'right_kidney' are a left/right pair"


@pytest.mark.parametrize(("asked", "axes"), [("all", (0, 1, 2)), ("none", ()), ("zx", (0, 2))])
def test_the_axes_can_be_given(asked, axes):
    found = named("kidney_left", "kidney_right", asked=asked)
    assert found.axes == axes
    assert found.pairs == ()
    assert found.decision.why == f"asked for with --mirror {asked}"


def test_unknown_axes_are_refused():
    with pytest.raises(UserError, match="--mirror sideways is not auto, exchange, all, none"):
        named("organ", asked="sideways")


@pytest.mark.parametrize(
    ("order", "dimensions", "axes", "swap_axis"),
    [
        ((0, 1, 2), 3, (0, 1, 2), 2),
        ((2, 0, 1), 3, (0, 1, 2), 0),  # sagittal slices: left-right comes first
        ((1, 0, 2), 2, (0, 1), 1),
        ((2, 0, 1), 2, (0, 1), None),  # 2D patches of sagittal slices have no left and right
    ],
)
def test_axes_of_a_patch(order, dimensions, axes, swap_axis):
    decision = plan_mirroring(CENTRAL, description().labels, "all").decision
    found = of_patch(Mirroring((0, 1, 2), ((1, 2),), decision), order, dimensions)
    assert found == (axes, swap_axis, () if swap_axis is None else ((1, 2),))


@pytest.mark.parametrize("air", [0, 10, 200])
def test_sides_are_measured_within_the_body(air):
    """The image is wider by ``air`` voxels, on the left of the body only."""
    cases = []
    for x in (-22.0, -25.0, -30.0, -24.0):
        shape, shift = (50, 50, 100 + air), -air / 2
        classes = {"organ": class_statistics((x + shift, 0.0, 0.0))}
        case = case_fingerprint(shape=shape, classes=classes)
        cases.append(msgspec.structs.replace(case, cropped_shape=(50, 50, 100), crop_center_lps_mm=(shift, 0.0, 0.0)))
    axes, _, decision = plan_mirroring(fingerprint(cases), description().labels)
    assert axes == (0, 1)
    assert "on the right in 100% of 4 cases, 24% of the body's width off centre in the median" in decision.why


def test_the_most_lateral_class_gives_the_reason_in_any_order():
    sides = {"spleen": 35.0, "liver": -20.0}
    for names in (("spleen", "liver"), ("liver", "spleen")):
        classes = {name: class_statistics((sides[name], 0.0, 0.0)) for name in names}
        cases = [case_fingerprint(shape=(50, 50, 100), classes=classes)] * 3
        found = plan_mirroring(fingerprint(cases), description(("background", *names)).labels)
        assert found.decision.why.startswith("label 'spleen' lies on the left in 100% of 3 cases, 35%")


def test_without_a_lateral_class_the_reason_says_how_far_the_nearest_is():
    why = with_centers([-9.0, -12.0, -10.0]).decision.why
    assert why.endswith(
        "no class lies on one side of the body (farthest off centre: 'organ', 10% of the body's width; limit 15%)"
    )
