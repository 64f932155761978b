"""Golden numbers of the released networks: parameters and inputs from a formula, outputs from the released code.

tests/data/golden_NAME.npz holds what the released code (Amshaker/unetr_plus_plus, commit dcba1c6) computed in float64:

- ``about``: JSON text of the variant, the input's shape, the formula (a splitmix64-type hash of the position of the name
  and the index), checksums of parameters and input, and the loss;
- ``heads/NAME/...``, ``intermediates/MODULE/...``, ``grad_input/...``: ``shape``, ``mean_std_absmax``, and ``values`` at
  ``flat_indices`` of the flattened tensor;
- ``grad_params/name`` and ``grad_params/l2_and_sum``: norm and sum of every parameter's gradient;
- ``state/name``, ``state/shape`` (zero-padded) and ``state/alias_of`` ("" for none): the state_dict in sorted order.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "data"
MASK = (1 << 64) - 1


@dataclass(frozen=True)
class TensorSample:
    """Some values of a tensor of this shape, and its largest absolute value."""

    shape: tuple[int, ...]
    absmax: float
    flat_indices: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Entry:
    """One entry of the released state_dict; ``alias_of`` names the entry that holds the same tensor."""

    name: str
    shape: tuple[int, ...]
    alias_of: str | None


@dataclass(frozen=True)
class Golden:
    """The numbers of one network; without gradients ``loss_value`` and ``grad_input`` are None."""

    variant: str
    input_shape: tuple[int, ...]
    heads: dict[str, TensorSample]
    intermediates: dict[str, TensorSample]
    loss_value: float | None
    grad_input: TensorSample | None
    gradient_norm_and_sum: dict[str, tuple[float, float]]
    state: tuple[Entry, ...]


def read(name: str) -> Golden:
    with np.load(DATA / f"golden_{name}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    about = json.loads(str(arrays["about"]))
    gradients = arrays.get("grad_params/l2_and_sum", np.zeros((0, 2)))
    return Golden(
        variant=about["variant"],
        input_shape=tuple(about["input_shape"]),
        heads=_samples(arrays, "heads/"),
        intermediates=_samples(arrays, "intermediates/"),
        loss_value=about.get("loss_value"),
        grad_input=_sample(arrays, "grad_input") if "grad_input/values" in arrays else None,
        gradient_norm_and_sum=dict(
            zip(arrays.get("grad_params/name", np.array([])).tolist(), map(tuple, gradients.tolist()), strict=True)
        ),
        state=tuple(
            Entry(name, tuple(n for n in shape if n), alias or None)
            for name, shape, alias in zip(
                *(arrays[f"state/{key}"].tolist() for key in ("name", "shape", "alias_of")), strict=True
            )
        ),
    )


def _samples(arrays: Mapping[str, np.ndarray], group: str) -> dict[str, TensorSample]:
    names = [
        key.removeprefix(group).removesuffix("/values")
        for key in arrays
        if key.startswith(group) and key.endswith("/values")
    ]
    return {name: _sample(arrays, group + name) for name in names}


def _sample(arrays: Mapping[str, np.ndarray], prefix: str) -> TensorSample:
    _, _, absmax = arrays[f"{prefix}/mean_std_absmax"].tolist()
    shape = tuple(arrays[f"{prefix}/shape"].tolist())
    return TensorSample(shape, absmax, arrays[f"{prefix}/flat_indices"], arrays[f"{prefix}/values"])


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


def state(golden: Golden) -> dict[str, np.ndarray]:
    """The released network's state_dict under its own names, aliases included."""
    entries: dict[str, np.ndarray] = {}
    for i, entry in enumerate(golden.state):
        made = entries[entry.alias_of] if entry.alias_of else parameter(entry.name, entry.shape, i)
        entries[entry.name] = made
    return entries


def network_input(golden: Golden) -> np.ndarray:
    count = int(np.prod(golden.input_shape))
    return (uniform(-1, count) * np.sqrt(3.0)).astype(np.float32).reshape(golden.input_shape)
