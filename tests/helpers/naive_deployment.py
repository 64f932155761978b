"""Prediction from the files of `unetrpp_export --onnx` alone, with numpy, scipy and onnxruntime.

A reference for tests, and for implementations in other languages. Nothing of unetrpp is imported.
"""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
from scipy import ndimage


def predict(folder: Path, array: np.ndarray, spacing: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Label values (Z, Y, X) of ``array`` (C, Z, Y, X); ``spacing`` (z, y, x) in mm, ``direction`` as ITK has it (3, 3)."""
    model = json.loads((folder / "model.json").read_text(encoding="utf8"))
    sessions = [onnxruntime.InferenceSession(folder / network["file"]) for network in model["networks"]]

    nnunet = model["rules"] == "nnunet"
    axes, flips = to_frame(direction, model["orientation"])
    turned = np.flip(array.transpose(0, *(1 + a for a in axes)), tuple(1 + f for f in flips))
    image = turned.transpose(0, *(1 + a for a in model["transpose"]))
    grid = (spacing, direction)
    spacing = np.array(spacing)[axes][model["transpose"]]

    background = [0.0 if nnunet else background_value(channel) for channel in image]
    box = foreground_box(image, background)
    cropped = image[:, *box].astype(np.float32)
    normalised, mask = normalise(cropped, background, model)
    resampled, orders = resample(normalised, spacing, model["resampling"], nnunet)
    if model["zero_outside_mask"]:
        share = zoom(mask.astype(float), resampled.shape[1:], [min(order, 1) for order in orders])
        for channel, how in zip(resampled, model["channels"], strict=True):
            channel[(share < 0.5 + 1e-6) & how["masked"]] = 0
    if model["first_stage"] is not None:
        first = predict(folder / model["first_stage"]["folder"], array, *grid)
        first = np.flip(first.transpose(axes), flips).transpose(model["transpose"])[box]
        resampled = np.concatenate([resampled, one_hot(first, resampled.shape[1:], orders, model)])

    logits = [tiled(session, resampled, model) for session in sessions]
    late = model["averaging"] == "logits"  # the softmax comes after the mean and the resampling
    folds = [half(of_fold) if late else activate(of_fold, model) for of_fold in logits]
    total = folds[0]
    for of_fold in folds[1:]:
        total = half(total + of_fold) if late else total + of_fold
    mean = half(total / len(folds)) if late else total / len(folds)
    orders = [min(order, model["resampling"]["probability_order"]) for order in orders]
    mean = np.stack([zoom(values, cropped.shape[1:], orders) for values in mean])
    probabilities = activate(half(mean), model) if late else mean

    labels = np.zeros(image.shape[1:], np.int64)
    labels[box] = decide(probabilities, model)
    labels = labels.transpose(np.argsort(model["transpose"]))
    return np.flip(labels, flips).transpose(np.argsort(axes))


def half(values: np.ndarray) -> np.ndarray:
    """Rounded to float16."""
    return values.astype(np.float16).astype(float)


def to_frame(direction: np.ndarray, frame: str) -> tuple[list[int], tuple[int, ...]]:
    """Which array axis runs most along the patient's z, y and x, and which of these then run backwards in LPS or RAS."""
    if frame == "file":
        return [0, 1, 2], ()
    cosines = np.asarray(direction).reshape(3, 3)[::-1, ::-1]  # world z, y, x by array z, y, x
    axes = max(itertools.permutations(range(3)), key=lambda p: sum(abs(cosines[w, a]) for w, a in enumerate(p)))
    backwards = [(cosines[w, a] < 0) != (frame == "RAS" and w > 0) for w, a in enumerate(axes)]
    return list(axes), tuple(w for w in range(3) if backwards[w])


def background_value(channel: np.ndarray) -> float:
    corners = {float(channel[corner]) for corner in itertools.product((0, -1), repeat=3)}
    if len(corners) == 1:
        return corners.pop()
    ends = [channel.take(end, axis) for axis in range(3) if channel.shape[axis] > 1 for end in (0, -1)]
    filled = [float(plane.flat[0]) for plane in ends if plane.min() == plane.max()]
    return 0.0 if 0.0 in filled else (filled or [0.0])[0]


def foreground_box(image: np.ndarray, background: list[float]) -> tuple[slice, ...]:
    inside = np.argwhere(np.any([channel != value for channel, value in zip(image, background, strict=True)], axis=0))
    if not len(inside):
        return (slice(None),) * 3
    return tuple(slice(a, b + 1) for a, b in zip(inside.min(axis=0), inside.max(axis=0), strict=True))


def normalise(image: np.ndarray, background: list[float], model: dict) -> tuple[np.ndarray, np.ndarray]:
    """The image, and the mask inside which ``masked`` channels were normalised."""
    image = image.astype(np.float64)
    differs = np.any([channel != value for channel, value in zip(image, background, strict=True)], axis=0)
    mask = ndimage.binary_fill_holes(differs)
    out = np.zeros_like(image)
    for scaled, channel, how in zip(out, image, model["channels"], strict=True):
        if how["scheme"] == "ct":
            scaled[:] = (channel.clip(*how["clip"]) - how["mean"]) / max(how["std"], model["smallest_std"])
        elif how["scheme"] == "zscore":
            counted = mask if how["masked"] else np.ones_like(mask)
            values = channel[counted]
            scaled[counted] = (values - values.mean()) / max(values.std(), model["smallest_std"])
        elif how["scheme"] == "rescale_0_1":
            scaled[:] = (channel - channel.min()) / max(np.ptp(channel), model["smallest_std"])
        else:
            scaled[:] = channel / (255 if how["scheme"] == "rgb_to_0_1" else 1)
    return out, mask


def resample(image: np.ndarray, spacing: np.ndarray, how: dict, nnunet: bool) -> tuple[np.ndarray, list[int]]:
    """The image at the target spacing, and the spline order of each axis."""
    target = np.array([own if mm is None else mm for own, mm in zip(spacing, how["spacing_mm"], strict=True)])
    sizes = zip(image.shape[1:], spacing, target, strict=True)
    shape = [max(1, round(own / mm * n if nnunet else n * own / mm)) for n, own, mm in sizes]
    orders = [how["image_order"]] * 3
    separate = separate_axis(spacing, target, how["separate_axis_ratio"])
    if separate is not None:
        orders[separate] = how["separate_axis_order"]
    if tuple(shape) == image.shape[1:]:
        return image, orders
    out = np.stack([zoom(channel, shape, orders) for channel in image])
    for resampled, channel in zip(out, image, strict=True):
        if separate is None:
            resampled[:] = resampled.clip(channel.min(), channel.max())
            continue
        source = zoom(np.arange(channel.shape[separate], dtype=float)[:, None, None], [shape[separate], 1, 1], [0] * 3)
        slices = np.moveaxis(channel, separate, 0)
        for part, i in zip(np.moveaxis(resampled, separate, 0), source.ravel().astype(int), strict=True):
            part[:] = part.clip(slices[i].min(), slices[i].max())
    return out, orders


def one_hot(labels: np.ndarray, shape: tuple[int, ...], orders: list[int], model: dict) -> np.ndarray:
    """The first stage's labels on the network's grid, a channel for each value."""
    values = model["first_stage"]["values"]
    whole = [(labels == value).astype(float) for value in values]
    shares = np.stack([zoom(mask, shape, [min(order, 1) for order in orders]) for mask in whole])
    if labels.shape == shape:
        return shares
    if model["rules"] == "nnunet":
        reaching = shares >= 0.5 - 1e-6
        winner = np.where(reaching.any(axis=0), len(values) - reaching[::-1].argmax(axis=0), 0)
    else:
        winner = np.concatenate([1 - shares.sum(axis=0, keepdims=True) + 1e-6, shares]).argmax(axis=0)
    return np.stack([(winner == k + 1).astype(float) for k in range(len(values))])


def separate_axis(spacing: np.ndarray, target: np.ndarray, ratio: float) -> int | None:
    for mm in (spacing, target):
        if mm.max() > ratio * mm.min():
            return int(mm.argmax()) if (mm == mm.max()).sum() == 1 else None
    return None


def zoom(volume: np.ndarray, shape: tuple[int, ...] | list[int], orders: list[int]) -> np.ndarray:
    for axis, (n, order) in enumerate(zip(shape, orders, strict=True)):
        factors = [n / volume.shape[a] if a == axis else 1 for a in range(3)]
        if n != volume.shape[axis]:
            lines = np.moveaxis(volume, axis, 0).reshape(volume.shape[axis], -1).T
            lines = np.stack(
                [ndimage.zoom(v, factors[axis], order=order, mode="nearest", grid_mode=True) for v in lines]
            )
            rest = [volume.shape[a] for a in range(3) if a != axis]
            volume = np.moveaxis(lines.T.reshape(n, *rest), 0, axis)
    return volume


def tiled(session: onnxruntime.InferenceSession, image: np.ndarray, model: dict) -> np.ndarray:
    """Logits (K, Z, Y, X), averaged over mirrored passes and Gaussian-weighted tiles."""
    patch = [*[1] * (3 - len(model["tiles"]["patch"])), *model["tiles"]["patch"]]
    missing = [max(0, p - n) for p, n in zip(patch, image.shape[1:], strict=True)]
    padded = np.pad(image, [(0, 0), *((m // 2, m - m // 2) for m in missing)])
    nnunet = model["rules"] == "nnunet"
    weight = np.ones(patch)
    for axis, p in enumerate(patch):
        peak = p // 2 if nnunet else (p - 1) / 2
        along = np.exp(-0.5 * ((np.arange(p) - peak) / (p * model["tiles"]["sigma"])) ** 2)
        weight = weight * along.reshape([-1 if a == axis else 1 for a in range(3)])
    if nnunet:
        weight = (10 * weight).astype(np.float16).astype(float)
        weight[weight == 0] = weight[weight > 0].min()
    total, weights = np.zeros((len(model["outputs"]), *padded.shape[1:])), np.zeros(padded.shape[1:])
    step = model["tiles"]["step"]
    for start in itertools.product(*(starts(n, p, step) for n, p in zip(padded.shape[1:], patch, strict=True))):
        place = tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))
        total[:, *place] += weight * mirrored(session, padded[:, *place], model)
        weights[place] += weight
        if nnunet:
            total, weights = (values.astype(np.float16).astype(float) for values in (total, weights))
    inside = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, image.shape[1:], strict=True))
    return (total / weights)[:, *inside]


def starts(n: int, patch: int, step: float) -> list[int]:
    if n <= patch:
        return [0]
    intervals = math.ceil((n - patch) / max(1, step * patch))
    return [round(i * (n - patch) / intervals) for i in range(intervals + 1)]


def mirrored(session: onnxruntime.InferenceSession, tile: np.ndarray, model: dict) -> np.ndarray:
    how, flat = model["mirroring"], len(model["tiles"]["patch"]) == 2
    passes = []
    for axes in itertools.chain(*(itertools.combinations(how["axes"], n) for n in range(len(how["axes"]) + 1))):
        flips = tuple(a - len(model["tiles"]["patch"]) for a in axes)
        batch = np.flip(tile, flips)[None].astype(np.float32)
        if how["exchanged_inputs"] and how["exchange_axis"] in axes:
            batch = batch[:, how["exchanged_inputs"]]
        (logits,) = session.run([model["output"]], {model["input"]: batch[:, :, 0] if flat else batch})
        logits = logits[0][:, None] if flat else logits[0]
        logits = logits[how["exchanged_outputs"]] if how["exchange_axis"] in axes else logits
        passes.append(np.flip(logits, flips))
    return np.mean(passes, axis=0)


def activate(logits: np.ndarray, model: dict) -> np.ndarray:
    if model["activation"] == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    odds = np.exp(logits - logits.max(axis=0))
    return odds / odds.sum(axis=0)


def decide(probabilities: np.ndarray, model: dict) -> np.ndarray:
    values = np.array([output["value"] for output in model["outputs"]])
    if model["activation"] == "softmax":
        return values[probabilities.argmax(axis=0)]
    labels = np.zeros(probabilities.shape[1:], np.int64)
    for probability, value in zip(probabilities, values, strict=True):
        labels[probability > model["threshold"]] = value
    return labels
