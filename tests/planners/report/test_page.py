"""The plan report's page, text and pictures, for 1 to 120 classes and 1 to 1000 cases, volumes and photographs."""

import re
from xml.etree import ElementTree

import msgspec
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.helpers.figures import require_no_cut_text
from tests.helpers.fingerprints import case_fingerprint, class_statistics, description, fingerprint
from tests.helpers.html import require_self_contained
from unetrpp.dataset.labels import Region
from unetrpp.networks.design import unetrpp_architecture
from unetrpp.planners.attention_and_loss import focal_loss_of
from unetrpp.planners.options import Options
from unetrpp.planners.planner import UNetPlanner, UnetrppPlanner
from unetrpp.planners.report.changes import changes, patch_share
from unetrpp.planners.report.page import plan_page
from unetrpp.planners.report.picture import class_distributions, draw_classes, plan_panels, report_figure
from unetrpp.planners.report.text import report_text
from unetrpp.planners.rules.attention import place_attention
from unetrpp.planners.rules.attention_overrides import parse_override
from unetrpp.plans.fingerprint import LeftOut
from unetrpp.plans.plans import LossPlan
from unetrpp.report.decisions import meaning


def planned(classes=1, cases=6, *, shape=(40, 200, 180), spacing=(3.0, 0.8, 0.8), names=("3d_fullres",), options=None):
    """A fingerprint of random sizes, and its plans."""
    found = [f"left part number {i} of the cortex" for i in range(1, classes + 1)]
    sizes = [msgspec.structs.replace(class_statistics(), volume_mm3=100.0 + 900 * i) for i in range(classes)]
    every = [
        case_fingerprint(
            f"case_{i}", (shape[0], shape[1] + i % 7, shape[2]), spacing, dict(zip(found, sizes, strict=True))
        )
        for i in range(cases)
    ]
    measured = msgspec.structs.replace(fingerprint(every), median_spacing_mm=spacing)
    channels, ending = (("R", "G", "B"), ".png") if shape[0] == 1 else (("MR",), ".nii.gz")
    if shape[0] == 1:
        measured = msgspec.structs.replace(measured, intensities=measured.intensities * 3)
    given = msgspec.structs.replace(description(("background", *found), channels), file_ending=ending)
    return measured, UNetPlanner(options).plan(measured, given, "unet", names)


@pytest.mark.parametrize(("classes", "cases"), [(1, 1), (4, 8), (37, 8), (120, 30), (2, 1000)])
def test_the_page_has_everything_and_needs_nothing(classes, cases):
    measured, plans = planned(classes, cases)
    content = plan_page(measured, plans, "shuffled")
    page = require_self_contained(content)
    assert len(content) < 1_500_000
    for decision in (*plans.decisions, *plans.configurations["3d_fullres"].decisions):
        assert " ".join(decision.why.split()) in page.text
        assert decision.value in page.text
        assert meaning(decision.about) in page.text
    assert all(" ".join(warning.split()) in page.text for warning in plans.warnings)
    assert all(name in page.text for name in measured.cases[0].classes)
    assert "shuffled" in page.text
    headings = (
        "What was measured",
        "Intensities",
        "Classes",
        "How each axis is resampled",
        "What would change the plan",
    )
    assert all(heading in page.text for heading in headings)
    assert sum(len(table) == cases + 1 for table in page.tables) >= 1  # every case has a row


@pytest.mark.parametrize("classes", [1, 4, 15, 16, 37, 120])
def test_the_pictures_fit(classes):
    measured, plans = planned(classes, names=("3d_fullres", "2d"))
    figure = report_figure(measured, plans)
    require_no_cut_text(figure)
    alone = draw_classes(measured)
    assert alone is not None
    assert alone.get_figheight() > min(classes, 40) * 0.2
    assert len(class_distributions(measured)) == classes
    for axes in figure.axes:
        for box in axes.patches:
            inside = axes.transData.inverted().transform_bbox(axes.bbox)
            x, y = box.get_extents().transformed(axes.transData.inverted()).get_points().T
            assert inside.x0 <= x.min()
            assert x.max() <= inside.x1
            assert min(inside.y0, inside.y1) <= y.min()
            assert y.max() <= max(inside.y0, inside.y1)


@pytest.mark.parametrize("shape", [(1, 60, 640), (1, 256, 320), (1, 640, 60)])
def test_the_legend_of_the_patch_is_below_the_name_of_the_axis(shape):
    measured, plans = planned(shape=shape, spacing=(1.0, 1.0, 1.0), names=("2d",))
    figure = report_figure(measured, plans)
    FigureCanvasAgg(figure).draw()
    (plot,) = (axes for axes in figure.axes if axes.get_legend())
    legend = plot.get_legend()
    assert legend is not None
    gap = plot.xaxis.label.get_window_extent().y0 - legend.get_window_extent().y1
    assert 0 <= gap < 0.3 * figure.dpi
    require_no_cut_text(figure)


def test_photographs_have_pixels_and_no_slices():
    measured, plans = planned(shape=(1, 256, 320), spacing=(1.0, 1.0, 1.0), names=("2d",))
    page = require_self_contained(plan_page(measured, plans))
    assert [panel.title for panel in plan_panels(measured, plans)] == [
        "image size (pixels)",
        "patch and median case (pixels)",
    ]
    for text in (page.text.partition("What was decided")[0], report_text(measured, plans).partition("Decided")[0]):
        assert not any(word in text for word in ("mm", "(ml)", "volume", "body", "slice 0", "head-feet"))
    assert "6 photographs (R, G, B) with 1 class." in page.text


def test_cases_that_were_left_out_are_named():
    measured, plans = planned()
    left_out = {f"scan_{i}": LeftOut(reason=f"broken in place {i}", inputs_digest="") for i in range(12)}
    measured = msgspec.structs.replace(measured, left_out=left_out)
    page, text = require_self_contained(plan_page(measured, plans)), report_text(measured, plans)
    assert all([f"scan_{i}", f"broken in place {i}"] in page.tables[0] for i in range(12))
    assert "scan_9: broken in place 9" in text
    assert "and 2 more" in text
    assert "Left out" not in report_text(*planned())


def test_shapes_say_whether_they_are_cropped():
    measured, plans = planned()
    cut = [msgspec.structs.replace(case, cropped_shape=(40, 100, 180)) for case in measured.cases]
    cropped = msgspec.structs.replace(measured, cases=tuple(cut))
    assert "image size (voxels)" in [panel.title for panel in plan_panels(measured, plans)]
    assert "image size after cropping (voxels)" in [panel.title for panel in plan_panels(cropped, plans)]
    assert "after cropping" in report_text(cropped, plans)


@pytest.mark.parametrize(("classes", "lines"), [(1, 1), (15, 15), (37, 10), (120, 10)])
def test_the_text_has_few_lines_for_many_classes(classes, lines):
    measured, plans = planned(classes)
    plans = msgspec.structs.replace(plans, warnings=tuple(f"warning {i}" for i in range(72)))
    text = report_text(measured, plans)
    table = text.partition("(medians")[2].partition("Decided")[0]
    assert table.count("left part number") == lines
    assert "and 62 more; --html lists them all" in text
    assert max(map(len, text.splitlines())) < 160


def test_what_would_change_the_plan_follows_the_plan():
    measured, plans = planned()
    small = next(card for card in changes(measured, plans) if card.about == "patch and batch of 3d_fullres")
    share = patch_share(measured, plans.configurations["3d_fullres"])
    # Independently: the median image at the target spacing, which is the cases' own.
    patch, median = plans.configurations["3d_fullres"].patch, (40, 202.5, 180)
    expected = 1.0
    for n, m in zip(patch, median, strict=True):
        expected *= min(1, n / m)
    assert share == pytest.approx(expected)
    assert f"{share:.0%} of the median image" in small.text
    assert ("With more memory it grows" in small.text) == (share < 0.95)
    asked = planned(options=Options(patch=(16, 64, 64)))
    (card,) = [card for card in changes(*asked) if card.about.startswith("patch")]
    assert "memory does not change it" in card.text
    assert all(card.note and card.text for card in changes(*asked))


def test_every_configuration_has_its_network_drawn_and_as_a_table():
    measured, plans = planned(names=("3d_fullres", "2d"))
    content = plan_page(measured, plans)
    page = require_self_contained(content)
    pictures = re.findall(r"<svg.*?</svg>", content, re.DOTALL)
    assert len(pictures) == 2
    identities = re.findall(r' id="([^"]*)"', content)
    assert len(set(identities)) == len(identities) == 4
    for picture, (name, configuration) in zip(pictures, plans.configurations.items(), strict=True):
        levels = configuration.architecture.levels
        root = ElementTree.fromstring(picture)
        assert root[0].text == f"The network of {name}"
        assert sum(rect.get("class") == "convolution" for rect in root.iter("rect")) == 2 * len(levels) - 1
        (rows,) = [
            rows
            for rows in page.tables
            if rows[0][0] == "stride" and len(rows[1][0].split()) == len(levels[0].stride) * 2 - 1
        ]
        assert [row[2] for row in rows[1:]] == [f"{level.channels} channels" for level in levels]
        assert f"U-Net with {len(levels)} levels, its encoder at the left and its decoder at the right." in page.text
    assert "Skip connections are concatenated with the decoder's features." in page.text


def test_the_loss_is_among_what_can_be_changed():
    measured, plans = planned()
    focal = {
        name: msgspec.structs.replace(each, loss=LossPlan(name="unified_focal"))
        for name, each in plans.configurations.items()
    }
    for given, name in ((plans, "dice_ce"), (msgspec.structs.replace(plans, configurations=focal), "unified_focal")):
        (card,) = [card for card in changes(measured, given) if card.about == "loss"]
        assert (card.value, card.note) == (name, "--loss")


def test_every_decision_on_attention_and_loss_has_a_meaning():
    measured, plans = planned()
    configuration = plans.configurations["3d_fullres"]
    network = unetrpp_architecture(1, 2, (16, 64, 64), [(1, 2, 2), (2, 2, 2), (2, 2, 2)])
    overrides = [parse_override(text) for text in ("gate@1=1.5", "se@0=on", "epa@1=off")]
    _, decisions = place_attention(network, "focal", fractions=(0.01, 0.1, 0.5, 0.9), overrides=overrides)
    decisions += place_attention(network, "auto")[1]
    _, losses = focal_loss_of(configuration, (0.01, 0.1), measured)
    for decision in (*decisions, *losses):
        assert meaning(decision.about), decision.about


def test_every_decision_of_the_planners_has_a_meaning():
    measured, _ = planned()
    for planner in (UNetPlanner(), UnetrppPlanner(Options(store="float16", spacing=(3.0, 0.8, 0.8), batch_size=2))):
        plans = planner.plan(
            measured, description(("background", *measured.cases[0].classes)), "p", ("3d_fullres", "2d")
        )
        for decision in (*plans.decisions, *(d for c in plans.configurations.values() for d in c.decisions)):
            assert meaning(decision.about), decision.about
    assert meaning("something of another package") == ""


def test_regions_are_named_with_their_labels():
    measured, plans = planned(3)
    first, second, third = plans.labels.names[1:]
    regions = (
        Region(name="whole", members=(1, 2, 3), value=1),
        Region(name=second, members=(2,), value=2),
        Region(name="core", members=(2, 3), value=3),
    )
    plans = msgspec.structs.replace(plans, labels=msgspec.structs.replace(plans.labels, regions=regions))
    sentence = (
        f"The network learns regions: whole ({first} + {second} + {third}), {second} and core ({second} + {third})."
    )
    page = require_self_contained(plan_page(measured, plans, ""))
    assert sentence in page.text
    assert "with 3 regions." in page.text
    assert sentence in " ".join(report_text(measured, plans).split())
    assert "The network learns regions" not in report_text(*planned(3))
