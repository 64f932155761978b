"""Whole plans from synthetic fingerprints."""

import math
from types import SimpleNamespace

import msgspec
import pytest

from tests.helpers.fingerprints import case_fingerprint, class_statistics, description, fingerprint
from unetrpp.core.errors import UserError
from unetrpp.networks.training_memory import training_memory
from unetrpp.planners.options import AttentionMode, Options
from unetrpp.planners.planner import PLANNERS, UNetPlanner
from unetrpp.planners.presets import make_planner
from unetrpp.planners.rules.attention import place_attention


def unet(cases, configurations=(), options=None, labels=("background", "organ")):
    return UNetPlanner(options).plan(fingerprint(cases), description(labels), "unet", configurations)


HIPPOCAMPUS = [case_fingerprint(shape=(36, 50, 35))] * 50
MEDIUM = [case_fingerprint(shape=(160, 160, 160))] * 50
LARGE = [case_fingerprint(shape=(300, 512, 512), spacing=(1.0, 0.8, 0.8))] * 50


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_plans_and_gives_reasons(name):
    plans = PLANNERS[name](Options(batch_size=2, width=0.5)).plan(fingerprint(HIPPOCAMPUS), description(), "mine")
    configuration = plans.configuration("3d_fullres")
    assert (plans.name, plans.planner, plans.options) == ("mine", name, {"batch_size": "2", "width": "0.5"})
    assert configuration.patch == (40, 56, 40)
    assert configuration.batch_size == 2
    assert configuration.architecture.network == name
    assert configuration.preprocessing.chunk == (40, 56, 40)
    for decision in (*plans.decisions, *configuration.decisions):
        assert decision.value
        assert any(c.isdigit() for c in decision.why) or decision.about in (
            "axis order",
            "mirroring",
            "normalisation of MR",
        )


@pytest.fixture(params=["2048", "81920"])
def other_machine(monkeypatch, request):
    """A machine whose GPU has so many MB free, with other cores and another memory than this one."""
    free = int(request.param) * 1024**2
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: SimpleNamespace(stdout=f"{request.param}\n", returncode=0))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda *_: (free, free))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda *_: SimpleNamespace(total_memory=free))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free, total=free))
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    return monkeypatch


@pytest.mark.parametrize("name", PLANNERS)
def test_the_machine_that_plans_does_not_matter(name, other_machine):
    """What its GPU is and what else occupies it, how many cores and how much memory it has."""
    there = make_planner(name, Options()).plan(fingerprint(LARGE), description(), "mine", ("3d_fullres", "2d"))
    other_machine.undo()
    here = make_planner(name, Options()).plan(fingerprint(LARGE), description(), "mine", ("3d_fullres", "2d"))
    assert there == here
    eight = make_planner(name, Options(gpu_memory_gb=8)).plan(fingerprint(LARGE), description(), "mine")
    full, asked = here.configuration("3d_fullres"), eight.configuration("3d_fullres")
    assert (full.patch, full.batch_size, full.architecture) == (asked.patch, asked.batch_size, asked.architecture)


def test_a_plan_for_8_gb_leaves_a_gb_and_a_tenth():
    """For the CUDA context and workspaces, and for gaps in the allocator's memory (unetrpp.networks.training_memory)."""
    for name in ("unetrpp", "resunet"):
        plans = make_planner(name, Options()).plan(fingerprint(LARGE), description(), "mine")
        assert plans.configuration("3d_fullres").training_memory_bytes <= (8 * 0.9 - 1) * 1024**3


@pytest.mark.parametrize("mode", [None, "auto", "pooled", "paper", "none", "focal"])
def test_what_has_to_fit_is_the_network_with_its_attention(mode):
    """The plan's memory is that of the placed network, or with gates by labels at least as much."""
    options = Options(attention=mode, gpu_memory_gb=2)
    plans = make_planner("unetrpp", options).plan(fingerprint(MEDIUM), description(), "mine")
    configuration = plans.configuration("3d_fullres")
    planned, network = configuration.training_memory_bytes, configuration.architecture
    if mode != "focal":
        placed = place_attention(network, mode or "auto")[0]
        assert planned == round(training_memory(placed).of(configuration.batch_size))
        return
    for growth in (1, 3, 8):
        shares = [min(1.0, 0.001 * growth**level) for level in range(len(network.levels))]
        placed = place_attention(network, "focal", shares)[0]
        assert training_memory(placed).of(configuration.batch_size) <= planned
    (batch,) = [decision.why for decision in configuration.decisions if decision.about == "batch size"]
    assert "with a gate at every skip; the labels may place fewer" in batch


def test_less_attention_leaves_memory_for_a_larger_patch():
    def voxels(mode: AttentionMode) -> int:
        options = Options(attention=mode, gpu_memory_gb=2)
        plans = make_planner("unetrpp", options).plan(fingerprint(MEDIUM), description(), "mine")
        return math.prod(plans.configuration("3d_fullres").patch)

    assert voxels("none") >= voxels("auto") > voxels("paper")


def test_plan_order_is_kept_everywhere():
    cases = [case_fingerprint(shape=(200, 20, 180), spacing=(1.0, 5.0, 1.0))] * 10
    plans = unet(cases, ("3d_fullres", "2d"))
    full, flat = plans.configuration("3d_fullres"), plans.configuration("2d")
    assert full.preprocessing.transpose == (1, 0, 2)
    assert full.preprocessing.spacing_mm == (5.0, 1.0, 1.0)
    assert full.patch[0] < full.patch[1]
    assert flat.preprocessing.spacing_mm == (None, 1.0, 1.0)
    assert flat.preprocessing.chunk == (1, *flat.patch)
    assert flat.mirror_axes == (0, 1)


def test_left_and_right_follow_the_plan_order():
    classes = {"left": class_statistics(), "right": class_statistics()}
    cases = [case_fingerprint(shape=(200, 180, 20), spacing=(1.0, 1.0, 5.0), classes=classes)] * 10
    plans = unet(cases, ("3d_fullres", "2d"), labels=("background", "left", "right"))
    assert plans.configuration("3d_fullres").preprocessing.transpose == (2, 0, 1)  # sagittal slices: x comes first
    assert plans.configuration("3d_fullres").mirror_axes == (1, 2)
    assert plans.configuration("2d").mirror_axes == (0, 1)


def test_a_low_resolution_stage_and_the_cascade():
    plans = unet(LARGE, ("3d_cascade",))
    low, full = plans.configuration("3d_lowres"), plans.configuration("3d_cascade")
    assert full.first_stage == "3d_lowres"
    assert full.architecture.in_channels == 2
    assert low.architecture.in_channels == 1
    ratio = [a / b for a, b in zip(low.preprocessing.spacing_mm, full.preprocessing.spacing_mm, strict=True)]
    assert min(ratio) > 1.5
    voxels = 1.0
    for n, r in zip((300, 512, 512), ratio, strict=True):
        voxels *= n / r
    z, y, x = low.patch
    assert 0.25 <= z * y * x / voxels < 0.35


@pytest.mark.parametrize(
    ("cases", "name", "batch"),
    [
        (LARGE, "2d", True),
        (LARGE, "3d_lowres", False),
        (LARGE, "3d_fullres", True),
        (LARGE, "3d_cascade", True),
        (HIPPOCAMPUS, "2d", True),
        (HIPPOCAMPUS, "3d_fullres", False),
    ],
)
def test_dice_runs_over_the_batch_as_in_nnunet(cases, name, batch):
    configuration = unet(cases, (name,)).configuration(name)
    assert configuration.loss.batch_dice is batch
    (decision,) = [d for d in configuration.decisions if d.about == "Dice"]
    assert decision.value == ("over the batch" if batch else "of each patch")


def test_a_patch_for_full_resolution_need_not_suit_coarser_ones():
    thick = [case_fingerprint(shape=(24, 512, 512), spacing=(10.0, 0.7, 0.7))] * 50
    with pytest.raises(UserError, match="is not a multiple"):
        unet(thick, ("3d_lowres",), Options(patch=(18, 64, 64)))
    assert unet(thick, options=Options(patch=(18, 64, 64))).configuration("3d_fullres").loss.batch_dice


def test_small_images_need_no_cascade():
    with pytest.raises(UserError, match="3d_lowres is of no use here"):
        unet(HIPPOCAMPUS, ("3d_lowres",))


def test_flat_images_are_planned_in_two_dimensions():
    photographs = [case_fingerprint(shape=(1, 256, 300))] * 12
    plans = unet(photographs)
    assert list(plans.configurations) == ["2d"]
    with pytest.raises(UserError, match="3d_fullres needs three axes"):
        unet(photographs, ("3d_fullres",))


def test_a_singleton_axis_comes_first_wherever_it_is():
    plans = unet([case_fingerprint(shape=(256, 300, 1), spacing=(2.0, 1.0, 1.0))] * 4)
    assert plans.configuration("2d").preprocessing.transpose == (2, 0, 1)


@pytest.mark.parametrize("cases", [1, 2, 3, 4])
def test_few_cases_are_planned_and_warned_about(cases):
    plans = unet([case_fingerprint(shape=(36, 50, 35))] * cases)
    assert plans.configuration("3d_fullres").batch_size == 2
    assert plans.warnings[0].startswith(f"{cases} case")


def test_requested_values_are_used_and_recorded():
    options = Options(spacing=(2.0, 2.0, 2.0), patch=(16, 32, 16), batch_size=7)
    configuration = (plans := unet(HIPPOCAMPUS, options=options)).configuration("3d_fullres")
    assert configuration.patch == (16, 32, 16)
    assert configuration.preprocessing.spacing_mm == (2.0, 2.0, 2.0)
    assert configuration.batch_size == 7
    assert plans.decisions[0].why.startswith("asked for; the rule gives 1 x 1 x 1 mm")


@pytest.mark.parametrize(("patch", "words"), [((30, 32, 32), "is not a multiple"), ((32, 32), "has 2 axes")])
def test_an_impossible_patch_is_refused(patch, words):
    with pytest.raises(UserError, match=words):
        unet(HIPPOCAMPUS, options=Options(patch=patch))


def test_half_precision_on_disk_is_recorded_and_refused_for_raw_values():
    planner = make_planner("unet", Options(store="float16"))
    plans = planner.plan(fingerprint(HIPPOCAMPUS), description(), "unet")
    assert plans.configuration("3d_fullres").preprocessing.dtype == "float16"
    assert [d.value for d in plans.decisions if d.about == "stored images"] == ["float16"]
    assert not any(d.about == "stored images" for d in unet(HIPPOCAMPUS).decisions)
    with pytest.raises(UserError, match="'noNorm' is not normalised, and float16 cannot hold values above 65504"):
        planner.plan(fingerprint(HIPPOCAMPUS), description(channels=("noNorm",)), "unet")


def test_vanishing_and_oversized_structures_give_warnings():
    thin = {"organ": class_statistics(extent=(1, 6, 6))}
    cases = [case_fingerprint(shape=(60, 60, 60), spacing=(0.5, 1.0, 1.0), classes=thin)] * 6
    options = Options(spacing=(1.0, 1.0, 1.0))
    assert any("--spacing 0.5 1 1 would keep it" in w for w in unet(cases, options=options).warnings)
    huge = {"organ": class_statistics(extent=(50, 300, 300))}
    cases = [case_fingerprint(shape=(300, 512, 512), spacing=(1.0, 0.8, 0.8), classes=huge)] * 6
    assert any("never lies whole inside a patch" in w for w in unet(cases).warnings)


def test_classes_that_one_case_or_none_has_give_warnings():
    here, nowhere = class_statistics(), msgspec.structs.replace(class_statistics(), voxels=0)
    rows = [{"organ": here, "cyst": here if i == 3 else nowhere, "scar": nowhere} for i in range(6)]
    cases = [case_fingerprint(f"case_{i}", classes=classes) for i, classes in enumerate(rows)]
    names = description(("background", "organ", "cyst", "scar"))
    warnings = " ".join(UNetPlanner().plan(fingerprint(cases), names, "unet").warnings)
    assert "'cyst' is in case_3 only: the fold that holds this case out never learns it" in warnings
    assert "'scar' is in no case" in warnings
    assert "'organ' is" not in warnings


def test_mixed_planes_give_a_warning():
    axial = [case_fingerprint(shape=(20, 300, 300), spacing=(5.0, 1.0, 1.0))] * 6
    sagittal = [case_fingerprint(shape=(300, 300, 20), spacing=(1.0, 1.0, 5.0))] * 4
    assert any("6 axial, 4 sagittal" in w for w in unet(axial + sagittal).warnings)
    assert not any("mixed" in w for w in unet(axial).warnings)


def test_volumes_of_a_few_slices_give_a_warning():
    scout = case_fingerprint("scout", shape=(40, 50, 2))
    assert any(
        "1 of 51 cases has fewer than 4 voxels along an axis, such as scout (40 x 50 x 2)" in w
        for w in unet([*HIPPOCAMPUS, scout]).warnings
    )
    assert not any("voxels along an axis" in w for w in unet(HIPPOCAMPUS).warnings)
    assert not any("voxels along an axis" in w for w in unet([case_fingerprint(shape=(1, 256, 300))] * 12).warnings)


def test_rotation_and_batch_follow_the_patch():
    thick = [case_fingerprint(shape=(24, 512, 512), spacing=(10.0, 0.7, 0.7))] * 50
    assert unet(thick).configuration("3d_fullres").augmentation.in_plane_only
    assert not unet(HIPPOCAMPUS).configuration("3d_fullres").augmentation.in_plane_only
    # 5 % of 50 cases of 36 x 50 x 35 voxels are 1.8 patches: the least batch.
    assert unet(HIPPOCAMPUS).configuration("3d_fullres").batch_size == 2


def test_a_preset_fixes_patch_and_network():
    planner = make_planner("unetrpp", Options(preset="acdc"))
    plans = planner.plan(fingerprint(LARGE), description(), "acdc")
    architecture = plans.configuration("3d_fullres").architecture
    assert architecture.patch == (16, 160, 160)
    assert (architecture.in_channels, architecture.out_channels, architecture.spatial_layout) == (1, 2, "correct")
    with pytest.raises(UserError, match="--preset is for UNETR"):
        make_planner("unet", Options(preset="acdc"))
    with pytest.raises(UserError, match="3D networks"):
        planner.plan(fingerprint(LARGE), description(), "acdc", ("2d",))


def test_the_memory_of_many_classes_is_counted_and_what_does_not_fit_is_said():
    """nnU-Net's count of feature maps, by which patch and batch are chosen, does not know the loss."""
    names = ("background", *(f"organ_{i}" for i in range(117)))
    classes = {name: class_statistics() for name in names[1:]}
    many = unet([case_fingerprint(shape=(230, 230, 230), classes=classes)] * 20, labels=names)
    configuration = many.configuration("3d_fullres")
    step = training_memory(configuration.architecture)
    assert configuration.training_memory_bytes == round(step.of(configuration.batch_size))
    (warning,) = [each for each in many.warnings if "a training step needs" in each]
    assert "a GPU of 8 GB has about 6.2 GB for it; a smaller --batch-size or --patch needs less" in warning
    two = unet([case_fingerprint(shape=(230, 230, 230))] * 20)
    assert two.configuration("3d_fullres").training_memory_bytes < configuration.training_memory_bytes
    assert not any("a training step needs" in each for each in two.warnings)


def test_a_patch_that_was_asked_for_and_does_not_fit_is_said():
    options = Options(patch=(192, 192, 192), batch_size=8)
    plans = PLANNERS["unetrpp"](options).plan(fingerprint(MEDIUM), description(), "mine")
    assert any("a training step needs" in warning for warning in plans.warnings)
