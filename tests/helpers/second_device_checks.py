"""Training steps, validation and prediction on the simulated device; tests/test_second_device.py runs this file."""

import msgspec
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from tests.helpers.second_device import NAME, Watch, kernels, register
from tests.helpers.tiny import configuration, store_balls
from unetrpp.augmentation.intensity import IntensityDraw
from unetrpp.augmentation.label_swap import LabelSwap, label_swap_of
from unetrpp.augmentation.pipeline import Sample, SampleDraw
from unetrpp.augmentation.spatial import read_size, rotation
from unetrpp.core.devices import HostCopy
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.inference import decisions
from unetrpp.inference.averaging import arg_max
from unetrpp.inference.decisions import Slab, decided_slabs
from unetrpp.inference.ensemble import on_grid
from unetrpp.inference.export import averaged_slabs
from unetrpp.inference.sliding_window import SlidingWindow
from unetrpp.inference.taps import Taps, resample_slabs
from unetrpp.io.geometry import Geometry, Orientation
from unetrpp.losses import distance
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.plans.plans import Configuration, LossPlan
from unetrpp.preprocessing.grid import CaseGrid, CaseProperties
from unetrpp.trainers import optimizer, trainer
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.distributed import Processes
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.trainer import Trainer

GPU = register()
KERNELS = kernels()
LABELS = LabelScheme(names=("background", "left", "right"), values=(0, 1, 2), ignore_value=9)
REGIONS = (Region(name="both", members=(1, 2), value=1), Region(name="right", members=(2,), value=2))
PATCHES = {2: (32, 32), 3: (16, 32, 32)}


class Generator:
    """Replaces torch.Generator, which does not exist for the simulated device."""

    def __init__(self, device):
        assert device == GPU

    def manual_seed(self, seed):
        return None


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    store = store_balls(tmp_path_factory.mktemp("store"), 2)
    return [store.open(case) for case in store.cases()]


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setattr(torch, "Generator", Generator)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, Watch(mode) as watch:
        yield watch
    assert {name for name in watch.operators if not KERNELS[name] >= {"CUDA", "MPS"}} <= missing_here()


def missing_here() -> set[str]:
    """Operators that older versions of torch lack on MPS."""
    return set() if torch.__version__ >= "2.13" else {name for name, found in KERNELS.items() if "MPS" not in found}


def architecture(kind: str, outputs: int = 3):
    dimensions = 2 if "2d" in kind else 3
    patch = PATCHES[dimensions]
    strides = [(2,) * dimensions] * 2
    if kind.startswith("unetrpp"):
        return unetrpp_architecture(1, outputs, patch, strides, width=0.5, blocks=1)
    made = unet_architecture(1, outputs, patch, strides, residual=kind == "resunet", width=0.25)
    return made.with_focal({"gate@0": 1.0, "gate@1": 0.7, "se@1": 1.0}) if kind == "gated" else made


def plan(kind: str = "unet", loss: LossPlan | None = None, labels: LabelScheme = LABELS, **changed) -> Configuration:
    tiny = configuration(loss)
    preprocessing = msgspec.structs.replace(tiny.preprocessing, labels=labels)
    flat = {"mirror_axes": (0, 1)} if "2d" in kind else {}
    made = msgspec.structs.replace(tiny, preprocessing=preprocessing, architecture=architecture(kind, labels.outputs))
    return msgspec.structs.replace(made, **flat, **changed)


def training(cases, folder, plan: Configuration, **changed) -> Trainer:
    config = TrainingConfig(**({"fold": 0, "epochs": 2, "iterations": 2} | changed))
    return Trainer(FoldData(plan, cases[:1], cases[1:]), config, folder, Machine(GPU, threads=1))


def samples(plan: Configuration) -> list[Sample]:
    """A rotated, a scaled and an unchanged patch, each with all other transforms."""
    z, y, x = plan.patch_3d
    table = IntensityDraw(
        noise_std=0.1,
        noise_seed=7,
        blur_sigma=np.full((1, 3), 0.7),
        brightness=np.array([1.2]),
        contrast=np.array([0.8]),
        low_resolution=np.array([0.6]),
        inverted_gamma=np.array([0.8]),
        gamma=np.array([1.3]),
    )
    axes = tuple(range(3 - len(plan.patch), 3))
    turned = rotation(0, 0.3) if len(plan.patch) == 2 else rotation(0, 0.3) @ rotation(2, 0.2)
    swap = label_swap_of(plan) or LabelSwap(2, (0, 2, 1, 3), (0, 2, 1))
    made = []
    for affine in (turned, np.diag([1.0, 0.8, 1.3]), None):
        size = read_size(affine, (z, y, x))
        image, label = np.zeros((1, *size), np.float32), np.zeros(size, np.int16)
        previous = None if plan.first_stage is None else np.zeros(size, np.int16)
        made.append(Sample("case", image, label, SampleDraw(affine, table, axes, swap), previous))
    return made


def one_step(trained: Trainer, watch: Watch) -> None:
    """One training step, which must not wait for the device and must leave all tensors on it."""
    watch.faults.clear()
    loss = trained.step(samples(trained.configuration))
    assert watch.faults == []
    assert (loss.device, loss.shape, loss.dtype) == (GPU, (), torch.float32)
    parameters = list(trained.network.parameters())
    assert {p.device for p in parameters} == {GPU}
    assert {p.dtype for p in parameters} == {torch.float32}
    for p in parameters:  # CUDA's fused optimisers need one memory layout for parameter, gradient and state
        beside = [] if p.grad is None else [p.grad, *trained.optimizer.state[p].values()]
        assert {t.device for t in beside} <= {GPU}
        assert all(strides(t) == strides(p) for t in beside)


def strides(tensor: torch.Tensor) -> list[int]:
    """The strides of axes longer than 1; others have no meaning."""
    return [stride for stride, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]


@pytest.mark.parametrize("kind", ["unetrpp", "unetrpp 2d", "unet", "unet 2d", "resunet", "gated"])
def test_a_step_of_every_network(cases, tmp_path, watch, kind):
    one_step(training(cases, tmp_path, plan(kind), precision="bf16"), watch)


@pytest.mark.parametrize(
    "labels", [LABELS, msgspec.structs.replace(LABELS, regions=REGIONS)], ids=["classes", "regions"]
)
@pytest.mark.parametrize("name", ["dice_ce", "unified_focal", "unified_focal_distance"])
def test_a_step_of_every_loss(cases, tmp_path, watch, monkeypatch, name, labels):
    """The distance penalty reads the classes' positions from the device once per head; here they are given."""
    asked = []

    def told(onehot, valid):
        asked.append(onehot.device)
        return [{1: tuple((1, n - 2) for n in onehot.shape[2:])}] * len(onehot)

    weighable = distance.weighable
    monkeypatch.setattr(distance, "weighable", told)
    chosen = LossPlan(name=name, distance_scale_mm=(4.0, 4.0), batch_dice=True)
    trained = training(cases, tmp_path, plan(loss=chosen, labels=labels))
    trained.loss.set_progress(1.0)
    monkeypatch.setattr(trained.loss, "set_progress", lambda share: None)  # full strength at once
    one_step(trained, watch)
    assert asked == ([GPU] * len(trained.loss.losses) if "distance" in name else [])
    monkeypatch.setattr(distance, "weighable", weighable)
    if "distance" in name:
        with pytest.raises(DataDependentOutputException):
            trained.step(samples(trained.configuration))


def test_a_step_of_a_cascades_second_stage(cases, tmp_path, watch):
    second = unet_architecture(1 + 2, 3, PATCHES[3], [(2, 2, 2)] * 2, width=0.25)
    chosen = plan(architecture=second, first_stage="3d_lowres", swap_axis=2, swapped_labels=((1, 2),))
    one_step(training(cases, tmp_path, chosen), watch)


def test_a_step_with_a_scaled_loss(cases, tmp_path, watch, monkeypatch):
    """As on CUDA, where the optimiser is fused, so that the scaler reads no gradient. (Fused SGD has no fake version.)

    The scaler inverts its scale in float64, but on MPS in float32.
    """
    monkeypatch.setattr(optimizer, "FUSED", (NAME,))
    trained = training(cases, tmp_path, plan("unetrpp"), precision="fp16", optimizer="adamw")
    batch = samples(trained.configuration)
    watch.faults.clear()
    assert trained.step(batch).device == GPU
    assert all("float64" in fault for fault in watch.faults)


def test_validation_reads_its_results_once(cases, tmp_path, watch, monkeypatch):
    trained = training(cases, tmp_path, plan("unet"), iterations=10)
    watch.faults.clear()
    with pytest.raises(DataDependentOutputException):  # a fake tensor has no value to read
        trained.validate_patches(1)
    (fault,) = watch.faults
    assert "aten._to_copy.default waits" in fault
    assert fault.split(":")[-2].endswith("patch_validation.py")


def test_losses_are_read_when_they_are_collected(cases, tmp_path, watch):
    trained = training(cases, tmp_path, plan("unet"))
    trained.uncollected.append(HostCopy(trained.step(samples(trained.configuration))))
    with pytest.raises(DataDependentOutputException):
        trained.collect_losses()


def test_batch_norm_is_synchronised_before_the_network_is_compiled(cases, tmp_path, watch, monkeypatch):
    """A compiled network whose modules are replaced is compiled again in the first step, where no trial catches errors."""
    config, two = TrainingConfig(fold=0, epochs=2, iterations=2), Processes(rank=0, count=2)
    machine = Machine(GPU, threads=1, compile=True, processes=two)
    released = plan("unetrpp", architecture=msgspec.structs.replace(architecture("unetrpp"), norm="batch"))
    trained = Trainer(FoldData(released, cases[:1], cases[1:]), config, tmp_path, machine)
    norms = [m for m in trained.network.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    found = []

    def compiled(network, probe, *processes):
        found.append([type(m) for m in network.modules() if "BatchNorm" in type(m).__name__])
        raise Planted

    monkeypatch.setattr(trainer, "compile_everywhere", compiled)
    with pytest.raises(Planted):
        trained.run()
    assert norms
    assert found == [[torch.nn.SyncBatchNorm] * len(norms)]
    held = {id(p) for group in trained.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in trained.network.parameters()}


@pytest.mark.parametrize("kind", ["unet", "unet 2d"])
def test_a_sliding_window_waits_for_nothing(watch, kind):
    chosen = plan(kind)
    networks = [build_network(chosen.architecture).to(GPU) for _ in range(2)]
    image, axes = torch.zeros(1, 4 if "2d" in kind else 20, 32, 32), (0, len(chosen.patch) - 1)
    swap = LabelSwap(len(chosen.patch) - 1, (0, 2, 1, 3), (0, 2, 1))
    watch.faults.clear()
    window = SlidingWindow(chosen.patch, mirror_axes=axes, tile_batch=3, autocast=torch.bfloat16, swap=swap)
    slabs = window.slabs(networks, image)
    shapes = [(slab.shape[:2], slab.shape[3:], slab.device, slab.dtype) for slab in slabs]
    assert set(shapes) == {((2, 3), (32, 32), GPU, torch.float32)}
    assert watch.faults == []


@pytest.mark.parametrize("kind", ["unet", "unet 2d"])
def test_the_image_is_copied_once_and_its_tiles_are_cut_on_the_device(watch, kind):
    chosen = plan(kind)
    network, image = build_network(chosen.architecture).to(GPU), torch.zeros(1, 4 if "2d" in kind else 20, 30, 40)
    watch.sent.clear()
    watch.faults.clear()
    window = SlidingWindow(chosen.patch, mirror_axes=(0, 1), tile_batch=3)
    list(window.slabs([network], image))
    assert [shape for shape in watch.sent if len(shape) > 2] == [image.shape[1:]]  # not windows
    assert watch.faults == []


@pytest.mark.parametrize(
    ("tile_batch", "sizes"), [(3, [3, 3, 3]), (5, [5, 5]), (7, [7, 1]), (16, [8]), (6, [6, 3]), (1, [1] * 8)]
)
def test_every_batch_has_one_of_a_few_sizes(watch, tile_batch, sizes):
    """cuDNN times its kernels for every new one: the whole batch, a half of it, a quarter and so on."""
    chosen = plan("unet")
    network, seen = build_network(chosen.architecture).to(GPU), []
    network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    slabs = SlidingWindow(chosen.patch, mirror_axes=(0, 1), tile_batch=tile_batch).slabs(
        [network], torch.zeros(1, 20, 32, 32)
    )
    assert sum(slab.shape[2] for slab in slabs) == 20
    assert seen == sizes


def test_tiles_are_added_as_in_nnunet_with_few_kernels(watch):
    """Not slice by slice: two tiles have 32 slices; each is added in two pieces where it goes over the end of the ring."""
    chosen = plan("unet")
    network = build_network(chosen.architecture).to(GPU)
    window = SlidingWindow(chosen.patch, mirror_axes=(0, 1, 2), tile_batch=8, nnunet=True)
    watch.faults.clear()
    watch.operators.clear()
    list(window.slabs([network], torch.zeros(1, 20, 32, 32)))
    assert watch.faults == []
    assert watch.operators["copy_"] < 10


def test_probabilities_are_resampled_on_the_device(watch):
    taps = Taps.between(8, 12, False), Taps.between(16, 10, False), Taps.between(16, 16, True)
    slabs = [torch.zeros(3, 4, 16, 16, device=GPU) for _ in range(2)]
    resampled = list(resample_slabs(slabs, taps))
    assert sum(slab.shape[1] for slab in resampled) == 12
    assert {(slab.shape[2:], slab.device) for slab in resampled} == {((10, 16), GPU)}
    assert watch.faults == []


def test_decisions_ask_which_voxels_are_unsure(watch):
    """The export has to wait here, because the number of these voxels depends on values."""
    taps = Taps.between(4, 6, False), Taps.between(16, 10, False), Taps.between(16, 16, True)
    with pytest.raises(DynamicOutputShapeException, match="nonzero"):
        list(decided_slabs([torch.zeros(2, 3, 4, 16, 16, device=GPU)], taps, LABELS))
    assert watch.faults == []


def test_voxels_at_boundaries_are_interpolated_on_the_device(watch):
    """What follows once their number is known."""
    z, y, x = (Taps.between(n, 16, False).on(GPU) for n in (4, 20, 16))
    where = tuple(torch.zeros(7, dtype=torch.long, device=GPU) for _ in range(3))
    held = [Slab(torch.zeros(2, 3, 4, 20, 16, device=GPU), torch.zeros(4, 20, 16, dtype=torch.int16, device=GPU))]
    watch.faults.clear()
    corners, weights = decisions._corners(held, (z, y, x), where)
    blended = decisions._blend(torch.zeros(3, 1280, device=GPU), corners, weights)
    assert (blended.shape, blended.device) == ((3, 7), GPU)
    assert watch.faults == []


def test_the_arg_max_is_one_kernel(watch):
    assert arg_max(torch.zeros(100, 4, 5, 6, device=GPU)).device == GPU
    assert sum(watch.operators[name] for name in ("argmax", "maximum", "maximum.out", "gt.Tensor")) == 1


@pytest.mark.parametrize(
    "labels", [LABELS, msgspec.structs.replace(LABELS, regions=REGIONS)], ids=["classes", "regions"]
)
@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
def test_maps_are_computed_on_the_device(watch, averaging, labels):
    properties = CaseProperties(
        case="case",
        geometry=Geometry(shape_zyx=(12, 20, 16), spacing_zyx_mm=(1.0, 1.0, 1.0)),
        orientation=Orientation(axes=(0, 1, 2), flips=()),
        crop=((0, 12), (0, 20), (0, 16)),
        cropped_shape=(12, 20, 16),
        cropped_spacing_mm=(1.0, 1.0, 1.0),
        shape=(8, 16, 16),
    )
    grid = CaseGrid(properties, plan(labels=labels).preprocessing)
    slabs = [torch.zeros(2, labels.outputs, 4, 16, 16, device=GPU) for _ in range(2)]
    watch.faults.clear()
    found = list(averaged_slabs(slabs, grid, averaging=averaging, uncertainty=True))
    assert sum(slab.shape[1] for slab in found) == 12
    assert {(len(slab), slab.device) for slab in found} == {(labels.outputs + 2, GPU)}
    assert watch.faults == []


def test_maps_of_another_axis_order_are_turned_on_the_device(watch):
    own = CaseProperties(
        case="case",
        geometry=Geometry(shape_zyx=(12, 20, 16), spacing_zyx_mm=(1.0, 1.0, 1.0)),
        orientation=Orientation(axes=(0, 1, 2), flips=(1,)),
        crop=((2, 12), (0, 20), (3, 16)),
        cropped_shape=(10, 20, 13),
        cropped_spacing_mm=(1.0, 1.0, 1.0),
        shape=(10, 20, 13),
    )
    preprocessing = plan().preprocessing
    turned = msgspec.structs.replace(preprocessing, transpose=(2, 0, 1))
    other = msgspec.structs.replace(own, crop=((0, 16), (0, 12), (0, 19)), cropped_shape=(16, 12, 19))
    slabs = iter(torch.zeros(3, 10, 20, 13, device=GPU).split(4, dim=1))
    (moved,) = on_grid(slabs, CaseGrid(own, preprocessing), CaseGrid(other, turned))
    assert (moved.shape, moved.device) == ((3, 16, 12, 19), GPU)
    assert watch.faults == []


def a_value_read(x):
    return x * x.sum().item()


def a_condition(x):
    return x if x.sum() > 0 else -x


def voxels_chosen(x):
    return x[x > 0].sum()


def a_tensor_of_the_cpu(x):
    return x + torch.zeros(x.shape)


def a_list_made_there(x):
    return x[0] * torch.tensor([1.0, 2.0], device=x.device).sum()


def a_list_as_index(x):
    return x[[0, 1]]


def copied_back(x):
    return x.cpu()


def copied_and_waited_for(x):
    return x * torch.zeros(x.shape).to(x.device)


def doubled(x):
    return x.double()


@pytest.mark.parametrize(
    "plant",
    [
        a_value_read,
        a_condition,
        voxels_chosen,
        a_tensor_of_the_cpu,
        a_list_made_there,
        a_list_as_index,
        copied_back,
        copied_and_waited_for,
        doubled,
    ],
)
def test_a_planted_fault_is_found(cases, tmp_path, watch, monkeypatch, plant):
    trained = training(cases, tmp_path, plan("unet"))
    whole = trained.batch

    def planted(samples):
        images, _ = whole(samples)
        watch.faults.clear()
        plant(images)
        raise Planted

    monkeypatch.setattr(trained, "batch", planted)
    with pytest.raises((Planted, RuntimeError, DataDependentOutputException, DynamicOutputShapeException)) as raised:
        trained.step(samples(trained.configuration)[2:])
    assert watch.faults or raised.type is not Planted


class Planted(Exception):
    """Raised where fake tensors accepted the fault, which the watch must then have found."""
