"""Golden numbers of the released networks: parameters and inputs from a formula, outputs from their code.

The formula stands in each file under ``formula``: a splitmix64-type hash of the position of the name and the index.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[1] / "data"
MASK = (1 << 64) - 1


def read(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"golden_{name}.json").read_text(encoding="utf8"))


def uniform(stream: int, count: int) -> np.ndarray:
    """``count`` reproducible float64 numbers in [-1, 1); stream -1 is the input."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(((stream + 1) * 0xD1B54A32D192ED03) & MASK)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53 * 2.0 - 1.0


def parameter(name: str, shape: tuple[int, ...], stream: int) -> np.ndarray:
    if not shape:
        return np.zeros((), np.int64)
    s, leaf = uniform(stream, int(np.prod(shape))), name.rpartition(".")[2]
    fan = shape[0] if ".transp_conv." in name or leaf == "EF" else int(np.prod(shape[1:]))
    gain = 4.0 if leaf == "EF" or name.endswith(("epa_block.E.weight", "epa_block.F.weight")) else 1.0
    gain = 0.5 if name.endswith(".conv8.1.weight") else gain
    by_leaf = {
        "running_var": 1 + 0.5 * s,
        "running_mean": 0.1 * s,
        "gamma": 0.5 + 0.25 * s,
        "temperature": 2 + s,
        "temperature2": 2 + s,
        "pos_embed": 0.2 * s,
    }
    other = s * (gain * np.sqrt(3 / fan)) if len(shape) > 1 else (1 + 0.25 * s if leaf == "weight" else 0.1 * s)
    return by_leaf.get(leaf, other).astype(np.float32).reshape(shape)


def state(golden: dict[str, Any]) -> dict[str, np.ndarray]:
    """The released network's state_dict under its own names, aliases included."""
    entries: dict[str, np.ndarray] = {}
    for e in golden["state"]:
        alias = e.get("alias_of")
        entries[e["name"]] = entries[alias] if alias else parameter(e["name"], tuple(e["shape"]), e["i"])
    return entries


def network_input(golden: dict[str, Any]) -> np.ndarray:
    shape = tuple(golden["input_shape"])
    return (uniform(-1, int(np.prod(shape))) * np.sqrt(3.0)).astype(np.float32).reshape(shape)
