"""The choice of compute threads, on a clock that the test sets."""

import time
from contextlib import contextmanager

import pytest
import torch

from tests.helpers.tiny import configuration, store_balls
from unetrpp.trainers.compute_threads import ComputeThreads, time_threads
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.state import TrainingState
from unetrpp.trainers.trainer import Trainer
from unetrpp.trainers.unchanged import unchanged


class FakeMachine:
    """Steps that take as long as the test says, by the number of threads that torch is set to."""

    def __init__(self, monkeypatch, seconds: dict[int, float]):
        self.seconds, self.now, self.cores, self.trials, self.threads = seconds, 0.0, 4, 0, 0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(torch, "set_num_threads", lambda count: setattr(self, "threads", count))

    def step(self):
        self.now += self.seconds[self.threads]

    @contextmanager
    def trial(self):
        self.trials += 1
        yield self.step

    def chooser(self, asked=None):
        return ComputeThreads("fold 0", lambda: self.cores, asked)


@pytest.fixture
def machine(monkeypatch):
    return FakeMachine(monkeypatch, {1: 0.5, 4: 0.2})


@pytest.mark.parametrize(("seconds", "fastest"), [({1: 0.5, 4: 0.2}, 4), ({1: 0.5, 4: 2.0}, 1)])
def test_the_faster_number_is_taken_and_recorded(machine, seconds, fastest):
    machine.seconds, state = seconds, TrainingState()
    machine.chooser().start(state, machine.trial)
    assert (state.compute_threads, state.cores, machine.threads) == (fastest, 4, fastest)


def test_a_resumed_fold_keeps_its_number_without_timing(machine):
    state = TrainingState(compute_threads=3, cores=4)
    chooser = machine.chooser()
    chooser.start(state, machine.trial)
    chooser.end_epoch(state, 100, machine.trial)
    assert (machine.threads, state.compute_threads, machine.trials) == (3, 3, 0)


def test_the_users_number_waits_for_the_end_of_an_epoch_in_a_resumed_fold(machine):
    fresh, resumed = TrainingState(), TrainingState(compute_threads=4, cores=4)
    machine.chooser(asked=2).start(fresh, machine.trial)
    assert fresh.compute_threads == machine.threads == 2
    chooser = machine.chooser(asked=2)
    chooser.start(resumed, machine.trial)
    assert machine.threads == 4
    chooser.end_epoch(resumed, 1, machine.trial)
    assert (resumed.compute_threads, machine.threads, machine.trials) == (2, 2, 0)


def test_one_core_needs_no_timing(machine):
    machine.cores, state = 1, TrainingState()
    machine.chooser().start(state, machine.trial)
    assert (state.compute_threads, machine.trials) == (1, 0)


@pytest.mark.parametrize(("seconds", "trials"), [(60, 1), (80, 1), (95, 2), (30, 2)])
def test_much_longer_or_shorter_epochs_are_timed_again(machine, seconds, trials):
    state, chooser = TrainingState(), machine.chooser()
    chooser.start(state, machine.trial)
    chooser.end_epoch(state, 60, machine.trial)
    machine.seconds = {1: 0.6, 4: 2.4}
    chooser.end_epoch(state, seconds, machine.trial)
    assert machine.trials == trials
    assert state.compute_threads == (1 if trials == 2 else 4)


def test_other_cores_are_timed_again_unless_epochs_are_too_short_for_it(machine):
    state, chooser = TrainingState(), machine.chooser()
    machine.cores = 1
    chooser.start(state, machine.trial)
    machine.cores = 4
    chooser.end_epoch(state, 60, machine.trial)
    assert (state.compute_threads, state.cores, machine.trials) == (4, 4, 1)
    machine.cores = 1
    chooser.end_epoch(state, 1, machine.trial)  # the timing took 2.1 seconds
    assert (state.compute_threads, state.cores) == (4, 4)


def test_numbers_take_turns_and_the_least_time_counts(machine):
    machine.seconds = {1: 0.5, 4: 0.25}
    order = []

    def step():
        order.append(machine.threads)
        machine.now += machine.seconds[machine.threads] + (5 if len(order) < 3 else 0)  # the first ones warm up

    assert time_threads(step, (1, 4)) == pytest.approx({1: 0.5, 4: 0.25})
    assert order == [1, 4, 1, 4, 1, 4]


def test_a_trial_leaves_weights_and_statistics_as_they_were():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with unchanged(network):
        network(torch.rand(2, 1, 8, 8)).sum().backward()
        assert network.state_dict()["1.num_batches_tracked"] == 1
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_timing_changes_no_bit_of_a_training(tmp_path, monkeypatch):
    """With one thread in both cases: timed at the start and again after every epoch, against never."""
    store = store_balls(tmp_path / "store", 3)
    data = FoldData(configuration(), [store.open(case) for case in ("ball_0", "ball_1")], [store.open("ball_2")])
    config = TrainingConfig(fold=0, epochs=3, iterations=3, learning_rate=0.01)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        plain = Trainer(data, config, tmp_path / "plain")
        plain.run()
        timed = Trainer(data, config, tmp_path / "timed", Machine(cores=lambda: 1))
        assert timed.compute_threads is not None
        trials: list[None] = []
        monkeypatch.setattr(timed.compute_threads, "end_epoch", lambda _, __, trial: trials.append(run_trial(trial)))
        run_trial(timed.trial_step)
        timed.run()
    finally:
        torch.set_num_threads(before)
    assert len(trials) == 2  # not after the last epoch
    assert all(torch.equal(a, b) for a, b in zip(plain.weights().values(), timed.weights().values(), strict=True))


def run_trial(trial):
    with trial() as step:
        step()
        step()
