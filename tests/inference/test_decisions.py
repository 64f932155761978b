"""Decisions by agreement, compared with interpolating every class everywhere."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.inference.averaging import decide, fold_probabilities
from unetrpp.inference.decisions import decided_slabs, one_thread
from unetrpp.inference.taps import Taps

REGIONS = LabelScheme(
    names=("background", "x", "y"),
    values=(0, 1, 2),
    regions=(Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2)),
)


def test_threads_that_overlap_leave_the_number_of_threads_as_it_was():
    before, seen = torch.get_num_threads(), {}
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first():
        with one_thread(torch.device("cpu")):
            first_in.set()
            second_in.wait(10)
        first_out.set()
        seen["first"] = torch.get_num_threads()

    def second():
        first_in.wait(10)
        with one_thread(torch.device("cpu")):
            seen["inside"] = torch.get_num_threads()
            second_in.set()
            first_out.wait(10)
        seen["second"] = torch.get_num_threads()

    def run(*functions):
        threads = [threading.Thread(target=function) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    torch.set_num_threads(2)
    try:
        run(first, second)
        run(lambda: seen.update(later=torch.get_num_threads()))
        assert seen == {"first": 2, "inside": 1, "second": 2, "later": 2}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def softmax_scheme(classes):
    return LabelScheme(names=tuple(f"c{k}" for k in range(classes)), values=tuple(range(classes)))


def logits(folds, outputs, shape, blur, strength, seed):
    """Blobs: smoothed noise, so that most voxels agree with their neighbours."""
    noise = np.random.default_rng(seed).normal(size=(folds, outputs, *shape))
    smooth = ndimage.gaussian_filter(noise, (0, 0, blur, blur, blur))
    return torch.from_numpy(strength * smooth / max(smooth.std(), 1e-9)).float()


def compare(values, taps, scheme, depths, averaging="probabilities"):
    """Equal to the dense computation wherever two classes are not tied up to rounding (of logits in float16)."""
    late = averaging == "logits"
    averaged = values if late else fold_probabilities(values, scheme)
    mean = averaged.mean(dim=0).double()
    for axis, along in zip((-3, -2, -1), taps, strict=True):
        mean = along.apply(mean, axis)
    ours = torch.cat(list(decided_slabs(values.split(depths, dim=2), taps, scheme, averaging=averaging)))
    assert ours.shape == mean.shape[1:]
    margin, threshold = (0.03, 0.0) if late else (1e-5, 0.5)
    if scheme.regions:
        clear = ((mean - threshold).abs() > margin).all(dim=0)
    else:
        first, second = mean.topk(2, dim=0).values
        clear = first - second > margin
    assert clear.double().mean() > 0.8 or clear.numel() < 50  # folds that are sure of different classes tie
    expected = decide(fold_probabilities(mean[None], scheme)[0] if late else mean, scheme)
    assert torch.equal(ours[clear].long(), expected[clear].long())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(2, 9),
    st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(2, 9)),
    st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14)),
    st.sampled_from([0.0, 1.5]),
    st.sampled_from([None, 0, 1, 2]),
    st.integers(1, 9),
    st.sampled_from(["probabilities", "logits"]),
)
def test_equals_interpolating_every_class(folds, classes, shape, out, blur, nearest, depth, averaging):
    values = logits(folds, classes, shape, blur, 4.0, seed=classes)
    taps = tuple(Taps.between(n, m, nearest == axis) for axis, (n, m) in enumerate(zip(shape, out, strict=True)))
    depths = [depth] * (shape[0] // depth) + ([shape[0] % depth] if shape[0] % depth else [])
    compare(values, taps, softmax_scheme(classes), depths, averaging)


@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
@pytest.mark.parametrize("folds", [1, 3])
def test_regions(folds, averaging):
    shape, out = (7, 9, 8), (11, 6, 13)
    taps = tuple(Taps.between(n, m, False) for n, m in zip(shape, out, strict=True))
    compare(logits(folds, 2, shape, 1.0, 2.0, seed=4), taps, REGIONS, [3, 1, 3], averaging)


def test_the_identity_needs_no_neighbours():
    values = logits(1, 300, (4, 5, 6), 0.0, 3.0, seed=1)
    taps = tuple(Taps.between(n, n, False) for n in (4, 5, 6))
    compare(values, taps, softmax_scheme(300), [2, 2])


def test_a_class_that_wins_nowhere_can_win_between():
    """Second place at both voxels, first in the middle."""
    values = torch.tensor([[9.0, 0.0], [8.6, 8.6], [0.0, 9.0]]).log_softmax(dim=0).reshape(1, 3, 1, 1, 2)
    taps = (Taps.between(1, 1, False), Taps.between(1, 1, False), Taps.between(2, 5, False))
    ours = next(decided_slabs([values], taps, softmax_scheme(3)))
    assert ours.flatten().tolist() == [0, 0, 1, 2, 2]
