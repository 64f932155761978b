"""What each saving of `unetrpp_predict --fast` costs in Dice, and what it saves in CPU seconds.

    python benchmarks/fast.py -m MODEL_FOLDER -i IMAGES -l LABELS [--device cpu]

The images are segmented with all folds, mirroring and a step of 0.5, with each saving alone, and with all of them (--fast). The models
should not have been trained on these images. Dice is the mean over the images, with its difference to the first row, and over the images
the mean and the standard error of that difference. Seconds are of the whole run from files to files, the start of the process excluded.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from predict import clocked

from unetrpp.evaluation.evaluate import evaluate
from unetrpp.inference.predict import predict

VARIANTS: dict[str, dict[str, object]] = {
    "all folds, mirroring, step 0.5": {},
    "step 0.75": {"step": 0.75},
    "one fold": {"folds": "first"},
    "no mirroring": {"mirroring": False},
    "--fast": {"fast": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("-i", "--input", type=Path, required=True)
    parser.add_argument("-l", "--labels", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    first: dict[str, np.ndarray] = {}
    for name, options in VARIANTS.items():
        with tempfile.TemporaryDirectory() as out:
            given = options | ({"folds": 0} if options.get("folds") else {})
            call = {"input": arguments.input, "output": out, "model": arguments.model, "device": arguments.device}
            wall, cpu = clocked(lambda call=call | given: predict(**call))
            scores = dice_of(Path(out), arguments.labels, arguments.model)
        first = first or scores
        print(
            f"{name:34s}{wall:9.1f}{cpu:9.1f}  " + "  ".join(told(k, v, v - first[k]) for k, v in scores.items()),
            flush=True,
        )


def dice_of(predictions: Path, labels: Path, model: Path) -> dict[str, np.ndarray]:
    """By class the Dice of every case."""
    summary, errors = evaluate(predictions, labels, dataset_json=model)
    assert not errors
    by_class: dict[str, list[float]] = {}
    for case in summary.metric_per_case:
        for name, metrics in case.metrics.items():
            by_class.setdefault(name, []).append(metrics["Dice"])
    return {name: np.array(values) for name, values in by_class.items()}


def told(name: str, dice: np.ndarray, change: np.ndarray) -> str:
    error = change.std(ddof=1) / np.sqrt(len(change))
    return f"{name}: {dice.mean():.4f} ({change.mean():+.4f} +- {error:.4f}, worst {change.min():+.3f})"


if __name__ == "__main__":
    main()
