"""A tiny U-Net on balls: it learns, and an interrupted run ends with exactly the weights of an uninterrupted one."""

import json
import signal
from typing import ClassVar

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers.tiny import PATCH, ball, configuration, store_balls
from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.model import checkpoint
from unetrpp.networks.design import unet_architecture
from unetrpp.preprocessing.case import preprocess
from unetrpp.trainers import inputs
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.distributed import Processes
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.patch_validation import PatchScores
from unetrpp.trainers.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    store = store_balls(tmp_path_factory.mktemp("store"), 4)
    return [store.open(case) for case in store.cases()]


def trainer(folder, cases, threads=1, checkpointing=False, residual=False, **changed) -> Trainer:
    folder.mkdir(exist_ok=True)
    config = TrainingConfig(**({"fold": 0, "epochs": 2, "iterations": 6, "momentum": 0.9} | changed))
    plan = configuration()
    network = unet_architecture(1, 2, PATCH, [(2, 2, 2)], residual=True, width=0.25) if residual else plan.architecture
    plan = msgspec.structs.replace(plan, architecture=msgspec.structs.replace(network, checkpointing=checkpointing))
    return Trainer(FoldData(plan, cases[:3], cases[3:]), config, folder, Machine(threads=threads))


def weights(folder):
    return checkpoint.load(folder / "checkpoint_final.pt", CPU)["network"]


def test_it_learns(tmp_path, cases):
    trainer(tmp_path / "f", cases, epochs=3, iterations=20).run()
    entries = [json.loads(line) for line in (tmp_path / "f" / "metrics.jsonl").read_text().splitlines()]
    assert [e["epoch"] for e in entries] == [1, 2, 3]
    assert entries[-1]["mean_dice"] > 0.6
    assert entries[-1]["train_loss"] < entries[0]["train_loss"]
    assert (tmp_path / "f" / "progress.png").stat().st_size > 1000
    assert sorted(p.name for p in (tmp_path / "f").glob("*.pt")) == [
        "checkpoint_best.pt",
        "checkpoint_final.pt",
        "checkpoint_latest.pt",
    ]


@pytest.mark.parametrize(
    ("stop", "threads", "recipe"),
    [
        (1, 1, {}),
        (6, 2, {}),
        (9, 3, {"optimizer": "muon", "learning_rate": 1e-3, "warmup": 3, "ema": 0.8}),
        (5, 2, {"augmentation": "workers"}),
        (4, 1, {"checkpointing": True}),
        (5, 1, {"residual": True, "drop_path": 0.5}),
        (7, 1, {"optimizer": "adamw", "weight_decay": 0.1, "warmup": 5, "precision": "bf16"}),
        (8, 1, {"residual": True, "checkpointing": True, "optimizer": "muon", "drop_path": 0.3, "ema": 0.9}),
    ],
)
def test_an_interrupted_run_ends_bit_identical(tmp_path, cases, monkeypatch, stop, threads, recipe):
    trainer(tmp_path / "whole", cases, **recipe).run()
    interrupted = trainer(tmp_path / "parts", cases, threads, **recipe)
    step = interrupted.step

    def until_stopped(samples):
        if interrupted.state.step == stop:
            signal.raise_signal(signal.SIGTERM)
        return step(samples)

    monkeypatch.setattr(interrupted, "step", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    trainer(tmp_path / "parts", cases, threads, **recipe).run()
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    losses = [
        [json.loads(line)["train_loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1]


def test_checkpointing_leaves_the_weights_as_they_are(tmp_path, cases):
    for checkpointing in (False, True):
        trainer(tmp_path / str(checkpointing), cases, checkpointing=checkpointing, epochs=1).run()
    expected, found = weights(tmp_path / "False"), weights(tmp_path / "True")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_graphs_are_recorded_without_checkpointing_only(tmp_path, cases, monkeypatch, checkpointing):
    recorded = []
    monkeypatch.setattr(Machine, "records", True)
    monkeypatch.setattr(Trainer, "record", lambda self: recorded.append(self))
    trainer(tmp_path / "f", cases, checkpointing=checkpointing, epochs=1, iterations=1).run()
    assert len(recorded) == (not checkpointing)


def test_the_mean_of_the_weights_is_validated_and_kept(tmp_path, cases, monkeypatch):
    """Against a mean that is kept beside the training, in numpy."""
    averaging = trainer(tmp_path / "f", cases, ema=0.7)
    step, steps = averaging.step, []
    expected = {name: value.numpy().astype(np.float64) for name, value in averaging.weights().items()}

    def followed(samples):
        loss = step(samples)
        steps.append(averaging.state.step)
        kept = min(0.7, (1 + steps[-1]) / (10 + steps[-1]))
        for name, value in averaging.weights().items():
            expected[name] = kept * expected[name] + (1 - kept) * value.numpy()
        return loss

    monkeypatch.setattr(averaging, "step", followed)
    averaging.run()
    assert steps == list(range(1, 13))
    found = weights(tmp_path / "f")
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-4, atol=1e-6)
    latest = checkpoint.load(tmp_path / "f" / "checkpoint_latest.pt", CPU)
    assert all(torch.equal(value, averaging.network.state_dict()[name]) for name, value in latest["network"].items())
    assert any(not torch.equal(value, found[name]) for name, value in latest["network"].items())
    loader = averaging.validation_loader
    assert loader is not None
    outputs, _ = next(averaging.predict_patches(loader, range(1)))
    kept = averaging.build_network().eval()
    kept.load_state_dict(found)
    images, _ = averaging.batch(loader.batch(0))
    torch.testing.assert_close(outputs[0], kept(images)[0])


def test_the_mean_starts_from_the_weights_that_all_processes_share(tmp_path, cases, monkeypatch):
    """Pretrained weights are read by the first process alone; the others get them when the network is replicated."""

    def replicate(self, network):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(0.01)
        return network

    monkeypatch.setattr(Processes, "replicate", replicate)
    averaging, starts = trainer(tmp_path / "f", cases, epochs=1, iterations=1, ema=0.9), []
    step = averaging.step

    def noted(samples):
        starts.append([p.clone() for p in averaging.evaluated.parameters()])
        return step(samples)

    monkeypatch.setattr(averaging, "step", noted)
    averaging.run()
    assert all((p == 0.01).all() for p in starts[0])


def test_padding_counts_as_background_where_the_recipe_says_so(tmp_path, cases):
    ours, theirs = (
        trainer(tmp_path / padding, cases, sampling="case_first", padding=padding)
        for padding in ("ignored", "background")
    )
    targets = [[t.batch(t.loader.batch(i))[1] for i in range(8)] for t in (ours, theirs)]
    for one, other in zip(*targets, strict=True):
        assert torch.equal(one.clamp(min=0), other)
    assert any((target < 0).any() for target in targets[0])


def test_heads_start_at_random_where_the_recipe_says_so(tmp_path, cases):
    plan = configuration()
    network = msgspec.structs.replace(plan.architecture, initial_logits=(2.0, -2.0))
    data = FoldData(msgspec.structs.replace(plan, architecture=network), cases[:3], cases[3:])
    planned, random = (
        Trainer(data, TrainingConfig(fold=0, heads=heads), tmp_path, Machine()).network.heads[0]
        for heads in ("planned", "random")
    )
    assert planned.bias.tolist() == [2.0, -2.0]
    assert random.bias.tolist() == [0.0, 0.0]
    torch.testing.assert_close(planned.weight, 0.1 * random.weight)


def test_a_loss_that_is_not_finite_stops_with_one_sentence(tmp_path, cases, monkeypatch):
    broken = trainer(tmp_path / "f", cases)
    monkeypatch.setattr(broken.loss, "forward", lambda outputs, target: outputs[0].sum() * float("nan"))
    with pytest.raises(UserError, match="the loss became nan before step 5"):
        broken.run()


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    (tmp_path / "c.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        checkpoint.load(tmp_path / "c.pt", CPU)
    torch.save({"format": 99}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="format 99"):
        checkpoint.load(tmp_path / "c.pt", CPU)


def test_patience_ends_a_run_that_gets_no_better(tmp_path, cases, monkeypatch):
    impatient = trainer(tmp_path / "f", cases, epochs=50, iterations=2, patience=3)
    monkeypatch.setattr(impatient, "validate_patches", lambda epoch: PatchScores(1.0, [0.5]))
    impatient.run()
    assert impatient.state.step == 2 * (1 + 3)
    assert (tmp_path / "f" / "checkpoint_final.pt").exists()


def test_a_fold_without_foreground_trains_to_its_end_and_says_so(tmp_path, caplog):
    store = store_balls(tmp_path / "store", 3)
    plan, (image, label) = configuration(), ball(np.random.default_rng(9))
    geometry = Geometry(shape_zyx=label.shape, spacing_zyx_mm=(1.0, 1.0, 1.0))
    healthy = preprocess(Volume(image, geometry), Volume(0 * label[None], geometry), plan.preprocessing, "healthy")
    store.write(healthy, plan.preprocessing.digest(), "none", PATCH)
    cases = [store.open(f"ball_{i}") for i in range(3)] + [store.open("healthy")]
    with caplog.at_level("WARNING", "unetrpp"):
        trainer(tmp_path / "f", cases, epochs=5, iterations=2, patience=1).run()
    assert caplog.messages == [
        "fold 0: warning: no validation case has ball, so its Dice is undefined (-): --patience does not end this training, "
        "and checkpoint_best.pt gets the last weights"
    ]
    lines = (tmp_path / "f" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["dice"] for line in lines] == [[None]] * 5
    best, final = (
        checkpoint.load(tmp_path / "f" / f"checkpoint_{which}.pt", CPU)["network"] for which in ("best", "final")
    )
    assert all(torch.equal(best[name], final[name]) for name in final)


def test_without_validation_cases_there_is_no_dice_and_no_patience(tmp_path, cases, caplog):
    config = TrainingConfig(fold="all", epochs=4, iterations=2, patience=1)
    (tmp_path / "f").mkdir()
    every = Trainer(FoldData(configuration(), cases, []), config, tmp_path / "f")
    with caplog.at_level("WARNING", "unetrpp"):
        every.run()
    assert caplog.messages == ["fold all: warning: no case is held out, so --patience does not end it"]
    assert every.state.step == 8
    assert "dice" not in every.progress_text()
    best, final = (checkpoint.load(tmp_path / "f" / f"checkpoint_{w}.pt", CPU)["network"] for w in ("best", "final"))
    assert all(torch.equal(best[name], final[name]) for name in final)


class ClockedTrainer(Trainer):
    """Every step takes an hour. It notes the losses and the learning rates of its steps."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.spent, self.losses, self.rates = 0.0, list[float](), list[float]()

    def hours(self):
        return self.state.seconds / 3600 + self.spent

    def step(self, samples):
        loss = super().step(samples)
        self.spent += 1
        self.losses.append(loss.item())
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return loss


def clocked(folder, cases, **changed) -> ClockedTrainer:
    folder.mkdir(exist_ok=True)
    config = TrainingConfig(**({"fold": 0, "epochs": 3, "iterations": 6, "momentum": 0.9} | changed))
    return ClockedTrainer(FoldData(configuration(), cases[:3], cases[3:]), config, folder, Machine(threads=1))


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_hours_end_a_run_and_count_across_resumes(tmp_path, cases):
    """The epoch in which they end is scored and recorded as one of fewer steps."""
    fold = tmp_path / "f"
    limited = clocked(fold, cases, max_hours=8.0)
    limited.run()
    assert limited.rates == pytest.approx([0.01 * (1 - max(step / 18, step / 8)) ** 0.9 for step in range(8)])
    first, second = lines(fold)
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert [first["train_loss"], second["train_loss"]] == pytest.approx(
        [sum(limited.losses[:6]) / 6, sum(limited.losses[6:]) / 2]
    )
    assert second["dice"] != [None]
    assert limited.state.class_dice == pytest.approx([0.9 * first["dice"][0] + 0.1 * second["dice"][0]])
    assert all(torch.equal(value, limited.network.state_dict()[name]) for name, value in weights(fold).items())
    assert (fold / "checkpoint_best.pt").exists()
    before = (fold / "metrics.jsonl").read_text()
    (fold / "checkpoint_final.pt").unlink()  # as if it had been killed before the last save
    resumed = clocked(fold, cases, max_hours=8.0)
    resumed.run()
    assert (resumed.state.step, resumed.losses, resumed.hours()) == (8, [], 8.0)
    assert (fold / "checkpoint_final.pt").exists()
    assert (fold / "metrics.jsonl").read_text() == before


def test_a_run_that_is_extended_after_its_hours_completes_the_epoch(tmp_path, cases):
    """Whose line is then that of the steps that completed it."""
    clocked(tmp_path / "f", cases, max_hours=8.0).run()
    extended = clocked(tmp_path / "f", cases, max_hours=11.0)
    extended.run()
    assert extended.state.step == 11
    (line,) = lines(tmp_path / "f")[1:]
    assert (line["epoch"], line["train_loss"]) == (2, pytest.approx(sum(extended.losses) / 3))
    whole = clocked(tmp_path / "f", cases)
    whole.run()
    assert [line["epoch"] for line in lines(tmp_path / "f")] == [1, 2, 3]
    assert lines(tmp_path / "f")[1]["train_loss"] == pytest.approx(whole.losses[0])


def test_a_run_that_is_resumed_after_its_hours_ends_with_the_epoch_that_had_begun(tmp_path, cases, monkeypatch):
    interrupted = clocked(tmp_path / "f", cases, max_hours=8.0)
    monkeypatch.setattr(interrupted.saver, "check", lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    begun = interrupted.state.step
    assert begun < 6
    resumed = clocked(tmp_path / "f", cases, max_hours=0.5)
    resumed.run()
    assert (resumed.state.step, resumed.rates) == (begun + 1, [0.0])
    (line,) = lines(tmp_path / "f")
    assert line["train_loss"] == pytest.approx(sum(interrupted.losses + resumed.losses) / (begun + 1))
    kept = interrupted.network.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in weights(tmp_path / "f").items())


def test_hours_that_are_spent_before_the_first_step_make_no_epoch(tmp_path, cases):
    late = clocked(tmp_path / "f", cases, max_hours=8.0)
    late.spent = 9.0
    late.run()
    assert late.losses == []
    names = {path.name for path in (tmp_path / "f").iterdir()}
    assert names == {"checkpoint_best.pt", "checkpoint_final.pt", "checkpoint_latest.pt"}


def test_a_tracker_gets_every_epoch(tmp_path, cases):
    class Collected(list):
        def epoch(self, entry):
            self.append(entry["epoch"])

    watched = trainer(tmp_path / "f", cases)
    watched.tracker = Collected()
    watched.run()
    assert watched.tracker == [1, 2]


def test_gradients_that_are_not_finite_are_found_before_anything_is_saved(tmp_path, cases, monkeypatch):
    broken = trainer(tmp_path / "f", cases)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, limit: torch.tensor(float("inf")))
    with pytest.raises(UserError, match="became nan"):
        broken.run()
    assert not list((tmp_path / "f").glob("*.pt"))


class AdamTrainer(Trainer):
    """As in docs/extending.md, with another network and another loss, too."""

    def build_network(self):
        network = super().build_network()
        torch.nn.init.zeros_(next(network.parameters()))
        return network

    def build_optimizer(self):
        return torch.optim.Adam(self.network.parameters(), lr=0.5)

    def build_loss(self):
        loss = super().build_loss()
        loss.weights = (2.0,) * len(loss.weights)
        return loss


def test_a_subclass_replaces_network_optimiser_and_loss_by_overriding(tmp_path, cases):
    data, config = FoldData(configuration(), cases[:3], cases[3:]), TrainingConfig(fold=0, learning_rate=0.001)
    own, standard = (kind(data, config, tmp_path) for kind in (AdamTrainer, Trainer))
    assert not next(own.network.parameters()).any()
    assert isinstance(own.optimizer, torch.optim.Adam)
    samples = own.loader.batch(0)
    with torch.no_grad():
        standard.network.load_state_dict(own.network.state_dict())
        torch.testing.assert_close(own.forward_loss(samples), 2 * standard.forward_loss(samples))
    own.step(samples)
    assert own.optimizer.param_groups[0]["lr"] == 0.001  # by the schedule
    assert own.state.step == 1


class Behind:
    """A host copy from a device that finishes a step only when the one after the next is given to it."""

    given = 0
    waits: ClassVar[list[int]] = []  # steps whose losses were read too early

    def __init__(self, loss):
        self.loss, self.step = loss, Behind.given + 1
        Behind.given += 1

    def get(self):
        if self.step > Behind.given - 2:
            Behind.waits.append(self.step)
        return self.loss


def test_losses_are_read_when_they_have_arrived(tmp_path, cases, monkeypatch):
    """Only the end of an epoch and a save wait for the device; an epoch's mean has every loss all the same."""
    monkeypatch.setattr("unetrpp.trainers.trainer.HostCopy", Behind)
    monkeypatch.setattr(Behind, "waits", [])
    monkeypatch.setattr(Behind, "given", 0)
    watched = trainer(tmp_path / "f", cases, epochs=2, iterations=12)
    means: list[tuple[int, float]] = []
    end = watched.end_epoch

    def end_epoch():
        entry = end()
        means.append((Behind.given, entry["train_loss"]))
        return entry

    monkeypatch.setattr(watched, "end_epoch", end_epoch)
    step, losses = watched.step, []

    def counted(samples):
        losses.append(step(samples))
        return losses[-1]

    monkeypatch.setattr(watched, "step", counted)
    watched.run()
    assert Behind.waits == [11, 12, 23, 24]
    expected = [sum(float(loss) for loss in losses[part]) / 12 for part in (slice(0, 12), slice(12, 24))]
    assert [given for given, _ in means] == [12, 24]
    assert [mean for _, mean in means] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("device", "cores", "processes", "expected"),
    [
        ("cpu", 1, 1, 1),
        ("cpu", 64, 1, 2),
        ("cuda", 1, 1, 1),
        ("cuda", 8, 1, 6),
        ("cuda", 64, 1, 12),
        ("cuda", 32, 4, 6),
    ],
)
def test_readers_by_device_and_cores(monkeypatch, device, cores, processes, expected):
    monkeypatch.setattr(inputs, "usable_cores", lambda: cores)
    machine = Machine(torch.device(device), processes=Processes(0, processes, 0, processes))
    assert machine.readers == expected
    assert Machine(torch.device(device), threads=5).readers == 5


def test_a_machine_without_threads_is_refused():
    with pytest.raises(UserError, match="threads must be at least 1, not 0"):
        Machine(threads=0)
