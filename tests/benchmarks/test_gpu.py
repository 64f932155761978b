"""benchmarks/gpu.py: its reduced form on a CPU, and what does not need a GPU: clocks, goals, failures, shares of the time."""

import getpass
import itertools
import json
import platform
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._C._autograd import DeviceType

from benchmarks import gpu, training_step
from benchmarks.gpu_parts import busy, cells, goals, networks
from benchmarks.gpu_parts.cells import Setting, Verdict
from benchmarks.gpu_parts.parts import PARTS
from benchmarks.gpu_parts.table import shown
from tests.helpers.fake_clock import FakeClock

CPU = torch.device("cpu")
SMALL = Setting("cpu", Path("nowhere"), small=True)


def test_the_reduced_form_measures_every_part(tmp_path, capsys):
    """With more minutes than it needs, because nothing is skipped then."""
    assert gpu.main(["--device", "cpu", "--minutes", "30", "--json", str(tmp_path / "gpu.json")]) == 0
    text = (tmp_path / "gpu.json").read_text()
    result = json.loads(text)
    assert [row["part"] for row in result["rows"]] == [p.name for p in PARTS for _ in p.cells(SMALL)]
    assert not [row for row in result["rows"] if not row["values"] or row["outcome"] in ("failed", "skipped")]
    assert all(np.isfinite(value) and value >= 0 for row in result["rows"] for value in row["values"].values())
    assert result["environment"]["torch"] == torch.__version__
    shown_text = capsys.readouterr().out
    assert all(row["what"] in shown_text for row in result["rows"])
    for private in (
        platform.node(),
        str(Path.home()),
        str(tmp_path),
        *([] if getpass.getuser() == "root" else [getpass.getuser()]),
    ):
        assert private not in text + shown_text


def test_clocks_wait_for_the_gpu(monkeypatch):
    """Calls return at once; the GPU needs 2 s for each, which only a wait shows."""
    clock, queue = FakeClock(monkeypatch), list[int]()

    def synchronize(device):
        clock.now += 2.0 * len(queue)
        queue.clear()

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    device = torch.device("cuda")
    assert training_step.seconds_of(lambda: queue.extend([1, 1]), device) == 4.0
    queue.append(1)  # what came before does not count
    assert training_step.seconds_a_call(lambda: queue.append(1), device, spend=10.0) == 2.0


def event(start, end, *, kind=DeviceType.CUDA, name="kernel", annotation=False):
    span = SimpleNamespace(start=start, end=end)
    return SimpleNamespace(time_range=span, device_type=kind, name=name, is_user_annotation=annotation)


def test_the_busy_share_counts_kernels_once_and_nothing_else(monkeypatch):
    spans = np.random.default_rng(0).integers(0, 3000, (60, 2))
    spans.sort(axis=1)
    raster = np.zeros(3000, bool)
    for first, last in spans:
        raster[first:last] = True
    events = [event(*map(float, span)) for span in spans]
    events += [
        event(0, 9000, annotation=True),
        event(0, 9000, kind=DeviceType.CPU),
        event(0, 9000, name="Memcpy HtoD (Pinned)"),
    ]

    class Profile:
        def __init__(self, **_):
            pass

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

        def events(self):
            return events

    monkeypatch.setattr(busy, "profile", Profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    steps = []
    share = busy.busy_share(lambda: steps.append(1), torch.device("cuda"), 2e-3)
    assert share == pytest.approx(raster.sum() * 1e-6 / busy.PROFILED / 2e-3)
    assert len(steps) == busy.PROFILED
    assert busy.busy_share(lambda: None, CPU, 1.0) is None
    events.clear()
    assert busy.busy_share(lambda: None, torch.device("cuda"), 1.0) is None


@pytest.mark.parametrize(
    ("judge", "values", "outcome"),
    [
        (goals.epoch, {"epoch_s": 14.9}, "met"),
        (goals.epoch, {"epoch_s": 15.0}, "missed"),
        (goals.busy, {"busy": 0.95}, "met"),
        (goals.busy, {"busy": 0.94}, "missed"),
        (goals.busy, {}, "no goal"),
        (goals.memory, {"reserved_gb": 2.18, "planned_gb": 2.0}, "met"),
        (goals.memory, {"reserved_gb": 1.82, "planned_gb": 2.0}, "met"),
        (goals.memory, {"reserved_gb": 2.21, "planned_gb": 2.0}, "missed"),
        (goals.memory, {"reserved_gb": 1.79, "planned_gb": 2.0}, "missed"),
        (goals.memory, {}, "no goal"),
        (goals.card, {"used_gb": 8.1, "card_gb": 8.0}, "missed"),
        (goals.reading, {"batches_a_s": 30.0, "steps_a_s": 31.0}, "missed"),
        (goals.reading, {"batches_a_s": 30.0}, "no goal"),
    ],
)
def test_goals(judge, values, outcome):
    assert judge(values).outcome == outcome


def test_a_row_meets_its_goals_if_it_meets_all():
    met, missed, none = Verdict("met", "a"), Verdict("missed", "b"), Verdict("no goal")
    assert goals.all_of(met, missed, none) == Verdict("missed", "a; b")
    assert goals.all_of(met, none) == Verdict("met", "a")
    assert goals.all_of(none) == Verdict("no goal")


def test_on_a_gpu_the_goals_come_first_and_every_combination_is_measured():
    names = [cell.what for cell in networks.step_cells(Setting("cuda", Path("nowhere")))]
    assert names[:4] == [f"synapse, bf16, {mode}" for mode in ("eager", "graphs", "compiled", "compiled graphs")]
    wanted = itertools.product(
        ("synapse", "acdc", "tumor", "lung", "unet", "resunet"),
        ("fp32", "bf16", "fp16"),
        networks.MODES,
    )
    assert sorted(names) == sorted(", ".join(one) for one in wanted)
    modes = [name.rpartition(", ")[2] for name in names[4:]]
    assert modes == sorted(modes, key=networks.MODES.index)  # compiling takes minutes


@pytest.mark.parametrize("mode", networks.MODES)
def test_modes_compile_the_network_for_one_shape_and_then_record_it(mode, monkeypatch):
    given: list[object] = []

    def compiled(function, **options):
        given.append(options)
        return function

    def recorded(network, images, autocast):
        given.append(tuple(images.shape))
        return True

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(networks, "record_network", recorded)
    values = networks.step(SMALL, "unet", "fp32", mode)
    assert ({"dynamic": False} in given) is ("compiled" in mode)
    assert ((2, 1, 8, 16, 16) in given) is ("graphs" in mode)
    assert values["epoch_s"] == pytest.approx(values["ms"] * 0.25)


def test_a_network_that_cannot_be_recorded_has_a_row_that_says_so(monkeypatch):
    monkeypatch.setattr(networks, "record_network", lambda *_: False)
    with pytest.raises(RuntimeError, match="could not be recorded"):
        networks.step(SMALL, "unet", "fp32", "graphs")


def test_both_ways_of_attention_agree():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, n, 8, dtype=torch.float64, requires_grad=True) for n in (50, 16, 16))
    outputs = [attend(q, k, v, 0.0) for attend in (networks.fused, networks.explicit)]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(out.square().sum(), (q, k, v)) for out in outputs]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_values_are_shown_with_their_units():
    assert (
        shown({"one_batch_busy": 0.5, "export_s": 1.25, "fused_ms": 0.123})
        == "one batch busy 50%, export 1.2 s, fused 0.12 ms"
    )
    assert cells.reason(ValueError()) == "ValueError"
