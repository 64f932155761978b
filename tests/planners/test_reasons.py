"""Every number in every reason and warning of plans, against a naive recomputation from the fingerprint."""

import re

import msgspec
import numpy as np
import pytest

from tests.helpers.fingerprints import case_fingerprint, description, fingerprint
from tests.helpers.naive_reasons import DATASETS, OPTIONS, SIZES, Naive, cases, numbers
from unetrpp.core.text import format_bytes
from unetrpp.networks.training_memory import training_memory
from unetrpp.planners.attention_and_loss import with_attention
from unetrpp.planners.options import AttentionMode, Options
from unetrpp.planners.presets import make_planner
from unetrpp.planners.report.text import CELL, WIDTH, report_text
from unetrpp.planners.rules.attention import place_attention
from unetrpp.planners.rules.loss import plan_focal_loss


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_number_of_every_reason(dataset, options):
    found = DATASETS[dataset]
    flat = dataset == "flat"
    if flat and options == "asked":
        options = "default"
    planner = make_planner("unetrpp", OPTIONS[options])
    names = ("2d",) if flat else ("3d_fullres", "2d")
    measured = msgspec.structs.replace(fingerprint(found), file_ending=".nii.gz")
    plans = planner.plan(measured, description(), "mine", names)
    for configuration in plans.configurations.values():
        naive = Naive(found, plans, configuration, OPTIONS[options])
        for decision in (*plans.decisions, *configuration.decisions):
            about = decision.about.split(" of ")[0].replace(" ", "_").lower()
            expected = getattr(naive, about)()
            if expected is None:
                continue
            got = numbers(decision.why)
            assert len(got) == len(expected), (decision, expected)
            assert [g for g, e in zip(got, expected, strict=True) if e is not None] == [
                e for e in expected if e is not None
            ], decision


def plan(name, options="default"):
    return make_planner("unetrpp", OPTIONS[options]).plan(fingerprint(DATASETS[name]), description(), "mine")


def why(plans, about):
    decisions = [*plans.decisions, *(d for c in plans.configurations.values() for d in c.decisions)]
    return next(d.why for d in decisions if d.about == about)


@pytest.mark.parametrize(
    ("dataset", "about", "words"),
    [
        ("isotropic", "axis order", "a tie: all axes have 1 mm (within 0.1%), so they keep their order"),
        ("rounded", "axis order", "a tie: all axes have 1 mm"),
        ("nearly anisotropic", "axis order", "z (head-feet) is the coarsest, 3.27 mm against 0.9766 mm"),
        ("nearly anisotropic", "target spacing", "2.97 times shorter (limit 3 for both), so it keeps its median"),
        ("anisotropic", "target spacing", "its 10th percentile, 4 mm, is taken instead of 5"),
        ("anisotropic, all alike", "target spacing", "its 10th percentile is taken, which is the median (7.5 mm)"),
        ("anisotropic, all alike", "target spacing", "all have 7.5 x 1.56 x 1.56 mm"),
        ("anisotropic, percentile finer than the others", "target spacing", "the next axis's 1 mm is the floor"),
        ("two clusters", "target spacing", "median of 4 of 7 cases per axis; the cases span 1-6 x 1 x 1 mm"),
        ("one case", "target spacing", "the spacing of the only case"),
        ("one case", "median image", "the only case, cropped, at 5 x 1 x 1 mm"),
        ("rounded", "batch size", "5% of the dataset's voxels are 0.21 patches, so the floor of 2 is taken"),
        ("rounded", "initial prediction", "the background has the remaining 0.98"),
        ("isotropic", "patch", "the whole median image, padded from 36 x 50 x 35 to multiples of 8 x 8 x 8, fits 8 GB"),
    ],
)
def test_ties_floors_and_single_cases_are_called_so(dataset, about, words):
    assert words in why(plan(dataset), about)


def test_a_tie_of_two_axes_is_said():
    plans = make_planner("unet", Options()).plan(
        fingerprint(cases([(60, 60, 90)] * 3, [(2.0, 2.0000001, 1.0)] * 3)), description(), "mine"
    )
    assert "z (head-feet) and y (front-back) are equally coarse (2 mm" in why(plans, "axis order")
    assert plans.configuration("3d_fullres").preprocessing.transpose == (0, 1, 2)


def test_structures_that_fit_no_patch_are_counted():
    """Extents in mm against the patch's, case by case."""
    plans = plan("large")
    configuration = plans.configuration("3d_fullres")
    patch = np.multiply(configuration.patch, configuration.preprocessing.spacing_mm)
    extents = np.array([np.multiply((3, 300, 30 * n), (1.0, 0.8, 0.8)) for n in SIZES[:6]])
    (warning,) = [w for w in plans.warnings if "inside a patch" in w]
    assert not (extents <= patch).all(axis=1).any()
    assert (
        f"never lies whole inside a patch: its components have {np.median(extents[:, 1]):.3g} mm along y (front-back)"
        in warning
    )
    plans = plan("anisotropic", "small")
    patch = np.multiply(
        plans.configuration("3d_fullres").patch, plans.configuration("3d_fullres").preprocessing.spacing_mm
    )
    extents = np.array([np.multiply((n, 40 * n, 8 * n), (3.5 + n / 4, 1, 1)) for n in SIZES])
    whole = int((extents <= patch).all(axis=1).sum())
    (warning,) = [w for w in plans.warnings if "inside a patch" in w]
    assert 0 < whole < 11
    assert f"lies whole inside a patch in only {whole} of 11 cases" in warning


def test_a_low_resolution_and_a_cascade_are_compared_with_full_resolution():
    planner = make_planner("unetrpp", OPTIONS["default"])
    plans = planner.plan(fingerprint(DATASETS["large"]), description(), "mine", ("3d_cascade", "3d_fullres"))
    (low,) = [d for d in plans.configuration("3d_lowres").decisions if d.about == "low resolution"]
    voxels = np.prod([float(n) for n in low.value.split(", ")[1].split(" x ")])
    times = 300 * 512 * 512 / voxels
    holds = f"{np.prod(plans.configuration('3d_lowres').patch) / voxels * 100:.0f}"
    assert numbers(low.why) == [holds, "25", f"{times:.1f}"]
    assert numbers(plans.configuration("3d_lowres").decisions[-1].why) == [holds]
    share = f"{np.prod(plans.configuration('3d_cascade').patch) / (300 * 512 * 512) * 100:.0f}"
    cascade, *_, dice = plans.configuration("3d_cascade").decisions
    assert numbers(cascade.why) == [share, "1"]
    assert numbers(dice.why) == [share]
    *_, dice = plans.configuration("3d_fullres").decisions
    assert numbers(dice.why) == [share, "25", f"{times:.2g}", "2"]


@pytest.mark.parametrize("options", [Options(preset="acdc"), Options(patch=(16, 160, 160))])
def test_a_given_patch_says_what_it_needs_and_whose_it_is(options):
    plans = make_planner("unetrpp", options).plan(fingerprint(DATASETS["large"]), description(), "mine")
    mode: AttentionMode = "paper" if options.preset else "auto"
    memory = training_memory(place_attention(plans.configuration("3d_fullres").architecture, mode)[0])
    whose = "published for acdc" if options.preset else "asked for"
    assert why(plans, "patch") == f"{whose}; at batch 2 it needs {format_bytes(memory.of(2))}"
    assert why(plans, "downsampling").startswith(
        "published for acdc; " if options.preset else "a step halves the axes with at least"
    )


def test_a_patch_that_fits_nothing_is_called_so():
    plans = make_planner("unetrpp", Options(gpu_memory_gb=0.001)).plan(
        fingerprint(DATASETS["rounded"]), description(), "mine"
    )
    assert why(plans, "patch") == "the smallest patch, which still does not fit 0.001 GB less 10% and 1 GB at batch 2"
    assert why(plans, "batch size").startswith(
        "memory allows 1, so the floor of 2 is taken; 5% of the dataset's voxels are"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            Options(),
            "fits 8 GB (the default, nnU-Net's; --gpu-memory-gb plans for another GPU) less 10% and 1 GB at batch 2",
        ),
        (Options(gpu_memory_gb=39.56), "fits 39.56 GB less 10% and 1 GB at batch 2"),
    ],
)
def test_the_source_of_the_memory_is_said(options, words):
    plans = make_planner("unetrpp", options).plan(fingerprint(DATASETS["isotropic"]), description(), "mine")
    assert words in why(plans, "patch")


def test_a_vanishing_structure_is_compared_with_the_voxel():
    plans = plan("thin organ", "asked")
    (warning,) = [w for w in plans.warnings if "may vanish" in w]
    assert "(0.5 mm along z (head-feet) against 1); --spacing 0.5 2 1.5 would keep it" in warning


def test_pictures_have_rows_and_columns_and_no_mm():
    pictures = description()
    pictures = type(pictures)(name="P", channel_names=("grey",), labels=pictures.labels, file_ending=".png")
    plans = make_planner("unetrpp", Options(gpu_memory_gb=8)).plan(fingerprint(DATASETS["flat"]), pictures, "mine")
    decisions = [*plans.decisions, *plans.configuration("2d").decisions]
    assert not any(re.search(r"\bmm\b|body|head-feet|voxel", f"{d.value} {d.why}") for d in decisions)
    assert why(plans, "median image") == "median of the cases, cropped, at one pixel"


@pytest.mark.parametrize("asked", [None, (2.0, 2.0, 2.0)])
def test_stacks_without_a_size_have_voxels_and_no_mm(asked):
    """The reasons and the tables of the report follow one definition."""
    cases = fingerprint([case_fingerprint(f"cell_{k}", shape=(40, 60, 70)) for k in range(6)])
    stacks = msgspec.structs.replace(description(), file_ending=".tif")
    found = msgspec.structs.replace(cases, file_ending=".tif")
    plans = make_planner("unetrpp", Options(gpu_memory_gb=8, spacing=asked)).plan(found, stacks, "mine")
    text = report_text(found, plans)
    assert not re.search(r"\bmm3?\b|\bml\b|body|head-feet|pixel", text)
    assert ("2 x 2 x 2 voxels" if asked else "one voxel") in text
    assert "volume (voxels)" in text
    assert " mm" in report_text(msgspec.structs.replace(cases, file_ending=".nii.gz"), plans)


def test_no_line_of_the_report_is_wider_than_the_page():
    """Three spacings, so that the cells of the table of resampling are long."""
    spacings = [(4.0, 0.5, 0.5), (4.0, 0.6, 0.6), (1.0, 0.5, 0.7)]
    found = fingerprint([case_fingerprint(f"dog_{k}", (16, 80, 90), spacings[k % 3]) for k in range(9)])
    plans = make_planner("unetrpp", Options(gpu_memory_gb=8)).plan(found, description(), "mine")
    text = report_text(found, plans)
    assert max(map(len, text.splitlines())) <= WIDTH
    cells = [line[-CELL:].split("  ")[-1] for line in text.splitlines()]
    assert "linear per class," in " ".join(cells)
    assert "class with the" in " ".join(cells)


FRACTIONS = (0.001, 0.02, 0.2, 0.9)


def test_the_reasons_of_attention_hold_the_shares_of_cells():
    architecture = plan("isotropic").configuration("3d_fullres").architecture
    _, (asked, *decisions) = place_attention(architecture, "focal", FRACTIONS)
    bits = [np.log2(1 / f) for f in FRACTIONS]
    last, skips = bits[-1], {}
    for level in (2, 1, 0):
        gain = bits[level] - last
        skips[level] = [f"{bits[level]:.2f}", f"{last:.2f}", f"{gain:.2f}", "0.5", *(["2"] if gain > 2 else [])]
        last = bits[level] if gain >= 0.5 else last
    gates = [d for d in decisions if d.about.startswith("skip")]
    for level, decision in enumerate(gates):
        assert numbers(re.sub(r"stride [\dx ]+", "", decision.why)) == skips[level]
    excitations = [d for d in decisions if d.about.startswith("squeeze")]
    for fraction, level, decision in zip(FRACTIONS, architecture.levels, excitations, strict=True):
        assert numbers(decision.why) == [f"{fraction * 100:.0f}", "5", str(level.channels), "64"]
    assert numbers(asked.why) == ["3", "0.79"]
    assert numbers(
        with_attention(plan("isotropic").configuration("3d_fullres"), (), fingerprint([]), mode="paper")
        .decisions[-1]
        .why
    ) == ["3", "4"]


@pytest.mark.parametrize(("bits", "bound"), [(0.5, ["0.1"]), (4.0, []), (9.0, ["0.75"])])
def test_the_reasons_of_the_loss_hold_bits_and_shares(bits, bound):
    found = fingerprint(DATASETS["isotropic"])
    _, (loss, penalty) = plan_focal_loss(bits, found, description().labels, (2.0, 1.0, 1.0), batch_dice=False)
    assert numbers(loss.why) == ["0.1", f"{bits:.2f}", *bound]
    share = min(1.0, 0.5 / 1.5 * 2 ** (1 / 3))  # surface by faces, of a voxel's edge
    assert numbers(penalty.why) == [f"{share * 100:.0f}", "50"]
    _, (_, penalty) = plan_focal_loss(bits, found, description().labels, (4.0, 2.0, 2.0), batch_dice=False)
    assert numbers(penalty.why) == [f"{0.5 / 1.5 * 16 ** (1 / 3) * 100:.0f}", "50", "4", "20"]
