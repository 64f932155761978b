"""A real fold: two epochs by `unetrpp_train`, with all that belongs to them."""

import json
import time
from functools import partial

from benchmarks.gpu_parts import goals
from benchmarks.gpu_parts.cells import Cell, Setting, Values
from benchmarks.gpu_parts.dataset import CONFIGURATION, place
from unetrpp.trainers.folds import train

EPOCHS = 2


def cells(setting: Setting) -> list[Cell]:
    """The goal is that of the preset, which is not planned where all is small."""
    run = partial(two_epochs, setting)
    return [Cell("two epochs", run) if setting.small else Cell("two epochs", run, goals.epoch)]


def two_epochs(setting: Setting) -> Values:
    """Seconds of the second epoch, with its validation patches; the first one also waits for the compiler and for cuDNN's trials."""
    workspace, name = place(setting)
    steps = 2 if setting.small else goals.EPOCH_STEPS
    start = time.perf_counter()
    model = train(
        name,
        CONFIGURATION,
        0,
        workspace=workspace.root,
        epochs=EPOCHS,
        iterations=steps,
        device=setting.device,
        mirroring=False,
        overwrite=True,
    )
    whole = time.perf_counter() - start
    lines = (model.path / "fold_0" / "metrics.jsonl").read_text(encoding="utf8").splitlines()
    first, second = (json.loads(line)["seconds"] for line in lines[-EPOCHS:])
    return {"epoch_s": second * goals.EPOCH_STEPS / steps, "first_epoch_s": first, "whole_s": whole}
