"""Worker processes: their batches, their errors, and the same statistics as the pipeline on the device gives."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
import torch

from tests.helpers.tiny import PATCH, configuration, store_balls
from unetrpp.augmentation.pipeline import make_batch
from unetrpp.core.errors import UserError
from unetrpp.patches.loader import PatchLoader
from unetrpp.patches.worker_loader import WorkerLoader, worker_batches

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    store = store_balls(tmp_path_factory.mktemp("store"), 3)
    return [store.open(case) for case in store.cases()]


def loader(cases, **augmentation) -> PatchLoader:
    plan = msgspec.structs.replace(configuration().augmentation, **augmentation)
    return PatchLoader(cases, msgspec.structs.replace(configuration(), augmentation=plan), seed=0, fold=0)


TRAIN = """
import sys
from pathlib import Path
import psutil
from tests.helpers.tiny import store_balls
from tests.patches.test_worker_loader import loader
from unetrpp.patches.worker_loader import worker_batches
if __name__ == "__main__":
    store = store_balls(Path(sys.argv[1]), 2)
    batches = worker_batches(loader([store.open(case) for case in store.cases()]), range(1000), 2)
    next(batches)
    print(*(child.pid for child in psutil.Process().children()), flush=True)
    sys.stdin.readline()
    next(batches)
    batches.close()
    print("closed", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_workers_end_with_their_parent_and_not_at_ctrl_c(tmp_path, killed):
    (tmp_path / "run.py").write_text(TRAIN)
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "store")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        assert len(workers) >= 2
        if sys.platform != "win32":
            for worker in workers:
                worker.send_signal(signal.SIGINT)
        if killed:
            process.kill()
        else:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "closed\n"
        assert psutil.wait_procs(workers, timeout=20)[1] == []
        process.kill()


SWAPPED = """
import sys
from pathlib import Path
import msgspec
import torch
from tests.helpers.tiny import configuration, store_balls
from unetrpp.augmentation.label_swap import LabelSwap
from unetrpp.networks.design import unet_architecture
from unetrpp.patches.loader import PatchLoader
from unetrpp.patches.worker_loader import worker_batches
if __name__ == "__main__":
    store = store_balls(Path(sys.argv[1]), 2)
    wide = msgspec.structs.replace(configuration(), architecture=unet_architecture(1, 2, (16, 48, 48), [(2, 2, 2)]))
    loader = PatchLoader([store.open(case) for case in store.cases()], wide, seed=0, fold=0)
    loader.swap, loader.masked = LabelSwap(axis=2, labels=(0, 1), outputs=(0, 1)), (0,)
    torch.set_num_threads(2)
    torch.rand(10**6).exp()  # begins the threads, which a worker does not have
    print(len(list(worker_batches(loader, range(4), 2))))
"""


def test_workers_compute_though_their_parent_has_computed_in_several_threads(tmp_path):
    """Of patches above 32,768 voxels, from which on torch divides an operator among threads."""
    (tmp_path / "run.py").write_text(SWAPPED)
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "store")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "4\n"


@pytest.mark.parametrize("processes", [1, 3])
def test_the_number_of_processes_changes_nothing(cases, processes):
    source = loader(cases)
    expected = [WorkerLoader(source, range(0), 1).batch(i) for i in range(4, 9)]
    found = list(worker_batches(source, range(4, 9), processes))
    assert len(found) == 5
    for a, b in zip(expected, found, strict=True):
        assert [s.case for s in a] == [s.case for s in b]
        assert all(
            np.array_equal(x.image, y.image) and np.array_equal(x.label, y.label) for x, y in zip(a, b, strict=True)
        )


def test_a_worker_error_arrives_with_its_case(tmp_path):
    store = store_balls(tmp_path, 2)
    (tmp_path / "ball_1.image.b2nd").write_bytes(b"damaged")
    with pytest.raises(UserError, match="ball_1"):
        list(worker_batches(loader([store.open("ball_1")]), range(3), 2))


@pytest.mark.parametrize("in_plane_only", [False, True])
def test_workers_and_the_device_agree_within_sampling_error(cases, in_plane_only):
    degrees = (180.0, 0.0, 0.0) if in_plane_only else (30.0, 30.0, 30.0)
    source = loader(cases, in_plane_only=in_plane_only, rotation_degrees=degrees)
    workers = WorkerLoader(source, range(0), 1)
    device = torch.device("cpu")
    ours, theirs = [], []
    for i in range(150):
        images, labels = make_batch(source.batch(i), PATCH, in_plane_only, device)
        ours += [features(x[0].numpy(), y.numpy()) for x, y in zip(images, labels, strict=True)]
        theirs += [features(np.asarray(sample.image[0]), np.asarray(sample.label)) for sample in workers.batch(i)]
    for name, a, b in zip(
        ("mean", "std", "roughness", "foreground", "outside"), np.transpose(ours), np.transpose(theirs), strict=True
    ):
        error = np.sqrt((a.var() + b.var()) / len(a))
        assert abs(a.mean() - b.mean()) < 4 * error + 0.01 * abs(a.mean()), name


def features(image: np.ndarray, label: np.ndarray) -> tuple[float, ...]:
    """What augmentation moves: brightness, contrast, noise or blur, and how much of what is seen."""
    rough = np.abs(np.diff(image, axis=1)).mean() / image.std()
    return float(image.mean()), float(image.std()), float(rough), float((label == 1).mean()), float((label < 0).mean())


@pytest.mark.parametrize("in_plane_only", [False, True])
def test_a_first_stage_segmentation_moves_with_the_label(cases, in_plane_only):
    degrees = (180.0, 0.0, 0.0) if in_plane_only else (30.0, 30.0, 30.0)
    source = loader(cases, in_plane_only=in_plane_only, rotation_degrees=degrees)
    chain = WorkerLoader(source, range(0), 1).chain
    for sample in (s for i in range(6) for s in source.read(i, chain.read_size)):
        moved = chain(replace(sample, first_stage=sample.label))
        np.testing.assert_array_equal(moved.first_stage, moved.label)
        assert moved.label.shape == PATCH


def test_image_and_label_stay_aligned(cases):
    workers = WorkerLoader(loader(cases), range(0), 1)
    for i in range(20):
        for sample in workers.batch(i):
            image, label = np.asarray(sample.image[0]), np.asarray(sample.label)
            inside, around = image[label == 1], image[label == 0]
            if inside.size > 30:
                assert inside.mean() > around.mean() + 0.5
