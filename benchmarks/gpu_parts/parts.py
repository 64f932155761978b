"""The parts of the benchmark, in the order in which they run, with their shares of the time."""

from benchmarks.gpu_parts import dataset, feeding, fold, networks, prediction
from benchmarks.gpu_parts.cells import Part

PARTS = (
    Part("step", 42, networks.step_cells),
    Part("attention", 4, networks.attention_cells),
    Part("dataset", 12, dataset.cells),
    Part("feeding", 14, feeding.cells),
    Part("fold", 16, fold.cells),
    Part("prediction", 12, prediction.cells),
)
BY_NAME = {part.name: part for part in PARTS}
