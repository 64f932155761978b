"""The store: preprocessed training cases on disk, written whole and read patch by patch.

A case is four files: CASE.image.b2nd, CASE.label.b2nd, CASE.foreground.b2nd (blosc2 arrays) and CASE.json, which is
written last. A case is complete when its JSON exists, and current when the JSON holds the expected digests.
In the store of a cascade's second stage, previous/CASE.b2nd is the first stage's segmentation with its digest.
"""

from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import blosc2
import numpy as np

from unetrpp.core.digest import digest as make_digest
from unetrpp.core.errors import UserError, system_refusal
from unetrpp.core.files import Record, link_or_copy, read_json, write_bytes, write_json, write_together
from unetrpp.preprocessing.case import PreprocessedCase
from unetrpp.preprocessing.grid import CaseProperties

OUTSIDE = -1  # label of voxels outside the case
ANNOTATED = -1  # stands for "any annotated voxel" among the indexed classes, where the dataset has an ignore label
BLOCK = (16, 32, 32)  # voxels that are decompressed together; small, so that a patch decompresses little beyond itself
INDEX_FLOOR, INDEX_SHARE = 10_000, 0.01  # foreground voxels kept per class: at most 10,000 + 1%
ENDINGS = ("image.b2nd", "label.b2nd", "foreground.b2nd", "json")
HINT = "run unetrpp_plan_and_preprocess again"


class StoredRecord(Record, frozen=True, kw_only=True):
    """The JSON of one case."""

    later_fields = frozenset({"image_digest"})

    format: int = 1
    digest: str  # of the plans' preprocessing section
    inputs_digest: str  # of the image and label files
    image_digest: str = ""  # of the stored image's voxels; release 0.1.0 did not write it
    channels: int
    offsets: dict[int, tuple[int, int]]  # class index -> its range in the foreground index
    properties: CaseProperties


class Store:
    """A folder of preprocessed cases."""

    def __init__(self, folder: Path):
        self.folder = folder

    def cases(self) -> list[str]:
        """Ids of the complete cases."""
        return sorted(p.name.removesuffix(".json") for p in self.folder.glob("*.json") if not p.name.startswith("."))

    def is_current(self, case: str, digest: str, inputs_digest: str) -> bool:
        """Whether the case is complete and was preprocessed with these plans from these files."""
        path = self._path(case, "json")
        if not path.exists():
            return False
        try:
            record = read_json(path, StoredRecord)
        except UserError:  # written by another release: preprocess it again
            return False
        return (record.digest, record.inputs_digest) == (digest, inputs_digest)

    def write(
        self,
        case: PreprocessedCase,
        digest: str,
        inputs_digest: str,
        chunk: tuple[int, int, int],
        *,
        ignore_index: int | None = None,
        dtype: Literal["float32", "float16"] = "float32",
    ) -> None:
        """Write a labelled case. An older one of the same name stops being complete before its files change.

        Args:
            digest: of the plans' preprocessing section.
            inputs_digest: of the image and label files.
            chunk: largest chunk (z, y, x) of the arrays, usually the patch: reading a patch touches only its chunks.
            ignore_index: training index of the ignore label; the annotated voxels are then indexed too.
            dtype: of the stored image.
        """
        if case.label is None:
            raise ValueError(f"{case.properties.case} has no label; only training cases are stored")
        name = case.properties.case
        self._path(name, "json").unlink(missing_ok=True)
        index, offsets = foreground_index(case.label, ignore_index)
        chunks = tuple(min(c, n) for c, n in zip(chunk, case.label.shape, strict=True))
        image = np.ascontiguousarray(case.image, dtype)
        arrays = {
            "image.b2nd": _packed(image, (1, *chunks)),
            "label.b2nd": _packed(case.label, chunks),
            "foreground.b2nd": _packed(index, (min(max(len(index), 1), 1 << 16),)),
        }
        write_together({self._path(name, ending): content for ending, content in arrays.items()})
        record = StoredRecord(
            digest=digest,
            inputs_digest=inputs_digest,
            image_digest=make_digest(image.data),
            channels=len(case.image),
            offsets=offsets,
            properties=case.properties,
        )
        write_json(self._path(name, "json"), record)

    def adopt(self, case: str, other: "Store") -> bool:
        """Share a complete case of another store with the same preprocessing; False if its files are damaged or missing."""
        try:
            other.open(case).read((0, 0, 0), (1, 1, 1))
            self._path(case, "json").unlink(missing_ok=True)
            for ending in ENDINGS:  # the JSON last
                link_or_copy(other._path(case, ending), self._path(case, ending))
        except (UserError, RuntimeError, OSError):  # blosc2 raises RuntimeError when it cannot decompress
            return False
        return True

    def open(self, case: str) -> "StoredCase":
        """
        Raises:
            UserError: the case is not in the store, or not complete.
        """
        return StoredCase(self.folder, read_json(self._path(case, "json"), StoredRecord, hint=HINT))

    def image_digest(self, case: str, *, with_first_stage: bool = False) -> str:
        """Of a case as a network gets it: image, grid and, in a cascade, the first stage's segmentation."""
        image = self.open(case).image_digest
        return make_digest(image, self.first_stage_digest(case)) if with_first_stage else image

    def write_first_stage(self, case: str, indices: np.ndarray, digest: str, chunk: tuple[int, int, int]) -> None:
        """Write the first stage's segmentation: training indices (Z, Y, X) on the grid of the stored case."""
        chunks = tuple(min(c, n) for c, n in zip(chunk, indices.shape, strict=True))
        write_bytes(first_stage_path(self.folder, case), _packed(indices, chunks, digest))

    def has_first_stage(self, case: str, digest: str) -> bool:
        """Whether the first stage's segmentation is stored under ``digest``."""
        return self.first_stage_digest(case) == digest

    def first_stage_digest(self, case: str) -> str | None:
        """The digest that the first stage's segmentation is stored under; None where there is none."""
        try:
            array = blosc2.open(str(first_stage_path(self.folder, case)), mode="r")
        except (FileNotFoundError, RuntimeError, ValueError):
            return None
        return str(array.schunk.vlmeta["digest"])

    def remove_others(self, cases: Collection[str]) -> list[str]:
        """Delete the complete cases that are not among ``cases``; returns their ids."""
        others = sorted(set(self.cases()) - set(cases))
        for case in others:
            self.remove(case)
        return others

    def remove(self, case: str) -> None:
        """Delete a case with its first stage's segmentation; the JSON goes first, so it is never half complete."""
        for ending in reversed(ENDINGS):
            self._path(case, ending).unlink(missing_ok=True)
        first_stage_path(self.folder, case).unlink(missing_ok=True)

    def _path(self, case: str, ending: str) -> Path:
        return self.folder / f"{case}.{ending}"


class StoredCase:
    """One complete case of a store; its arrays are opened when they are first read."""

    def __init__(self, folder: Path, record: StoredRecord):
        self._folder = folder
        self._record = record
        self.properties = record.properties
        self.case = record.properties.case
        self.shape = record.properties.shape
        self.channels = record.channels

    @property
    def digest(self) -> str:
        """Of all that the stored case was made from: image, label and preprocessing."""
        return make_digest(self._record.digest, self._record.inputs_digest)

    @property
    def image_digest(self) -> str:
        """Of the image as networks get it, and of its grid. A corrected label does not change it."""
        return make_digest(self._record.image_digest or self.digest, self.properties)

    @property
    def preprocessing_digest(self) -> str:
        """Of the preprocessing section of the plans."""
        return self._record.digest

    @property
    def inputs_digest(self) -> str:
        """Of the image and label files."""
        return self._record.inputs_digest

    @property
    def classes(self) -> tuple[int, ...]:
        """Indices of the foreground classes that are present."""
        return tuple(sorted(index for index in self._record.offsets if index > 0))

    def foreground(self, class_index: int) -> np.ndarray:
        """Voxel indices (n, 3), int32, of one class in ascending order; at most 10,000 + 1% of them."""
        start, stop = self._record.offsets.get(class_index, (0, 0))
        return np.stack(np.unravel_index(self._index[start:stop], self.shape), axis=1).astype(np.int32)

    @property
    def has_annotated(self) -> bool:
        """Whether there are indexed annotated voxels: the dataset has an ignore label that does not cover all voxels."""
        start, stop = self._record.offsets.get(ANNOTATED, (0, 0))
        return start < stop

    def draw_voxel(self, rng: np.random.Generator, class_index: int) -> np.ndarray:
        """A random voxel (z, y, x) of a class that is present, or of all annotated voxels (``ANNOTATED``)."""
        return np.array(np.unravel_index(self._index[rng.integers(*self._record.offsets[class_index])], self.shape))

    def read(self, start: tuple[int, int, int], size: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """A patch: image (C, *size) float32 and label (*size) int16. Outside the case the image is 0 and the label -1.

        ``start`` may be negative and ``start + size`` may exceed the shape.
        """
        image = np.zeros((self.channels, *size), np.float32)
        label = np.full(size, OUTSIDE, np.int16)
        for source, target in _overlap(start, size, self.shape):
            image[:, *target] = self._image[:, *source]
            label[target] = self._label[source]
        return image, label

    def read_first_stage(self, start: tuple[int, int, int], size: tuple[int, int, int]) -> np.ndarray:
        """The same patch of the first stage's segmentation, (*size) int16; 0 outside the case."""
        indices = np.zeros(size, np.int16)
        for source, target in _overlap(start, size, self.shape):
            indices[target] = self._first_stage[source]
        return indices

    @cached_property
    def _image(self) -> blosc2.NDArray:
        return self._open("image")

    @cached_property
    def _label(self) -> blosc2.NDArray:
        return self._open("label")

    @cached_property
    def _index(self) -> np.ndarray:
        index: np.ndarray = self._open("foreground")[:]
        return index

    @cached_property
    def _first_stage(self) -> blosc2.NDArray:
        return _opened(first_stage_path(self._folder, self.case), "delete it and start the training again")

    def _open(self, part: str) -> blosc2.NDArray:
        path = self._folder / f"{self.case}.{part}.b2nd"
        return _opened(path, f"delete {self.case}.json beside it and {HINT}")


def first_stage_path(store: Path, case: str) -> Path:
    return store / "previous" / f"{case}.b2nd"


def _opened(path: Path, hint: str) -> blosc2.NDArray:
    try:
        array: blosc2.NDArray = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
        return array
    except (FileNotFoundError, RuntimeError, ValueError) as error:
        raise system_refusal(error, path) or UserError(f"{path} is missing or damaged ({error}); {hint}") from None


def _overlap(
    start: tuple[int, ...], size: tuple[int, ...], shape: tuple[int, ...]
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """The overlap of a patch and its case, as an index into the case and into the patch; nothing if there is none."""
    low = [max(first, 0) for first in start]
    high = [min(first + length, extent) for first, length, extent in zip(start, size, shape, strict=True)]
    if all(a < b for a, b in zip(low, high, strict=True)):
        bounds = list(zip(low, high, start, strict=True))
        yield tuple(slice(a, b) for a, b, _ in bounds), tuple(slice(a - first, b - first) for a, b, first in bounds)


def foreground_index(
    label: np.ndarray, ignore_index: int | None, seed: int = 0
) -> tuple[np.ndarray, dict[int, tuple[int, int]]]:
    """Flat voxel indices of every foreground class of (Z, Y, X), one class after another, and each class's range.

    With an ignore label the annotated voxels (background included) are indexed too, under ``ANNOTATED``. Which voxels of a
    large class are kept depends on neither the case's name nor the other classes.
    """
    flat = label.reshape(-1)
    kind = np.int32 if flat.size <= np.iinfo(np.int32).max else np.int64
    occupied = np.flatnonzero(flat).astype(kind)
    values = flat[occupied]
    parts, offsets, position = [np.empty(0, kind)], {}, 0
    groups = {int(c): occupied[values == c] for c in np.flatnonzero(np.bincount(values)) if c != ignore_index}
    if ignore_index is not None:
        groups[ANNOTATED] = np.flatnonzero(flat != ignore_index).astype(kind)
    for index, voxels in groups.items():
        kept = _thinned(voxels, seed)
        parts.append(kept)
        offsets[index] = (position, position + len(kept))
        position += len(kept)
    return np.concatenate(parts), offsets


def _thinned(voxels: np.ndarray, seed: int) -> np.ndarray:
    limit = INDEX_FLOOR + int(INDEX_SHARE * len(voxels))
    if len(voxels) <= limit:
        return voxels
    return np.sort(np.random.default_rng(seed).choice(voxels, limit, replace=False, shuffle=False))


def _packed(array: np.ndarray, chunks: tuple[int, ...], digest: str | None = None) -> bytes:
    """``array`` as a blosc2 frame that is fast to read and write (LZ4, level 1, shuffled bytes)."""
    parameters = blosc2.CParams(codec=blosc2.Codec.LZ4, clevel=1, typesize=array.itemsize, nthreads=1)
    blocks = None if array.ndim < 3 else (*chunks[:-3], *map(min, chunks[-3:], BLOCK))
    packed = blosc2.asarray(np.ascontiguousarray(array), chunks=chunks, blocks=blocks, cparams=parameters)
    if digest is not None:
        packed.schunk.vlmeta["digest"] = digest
    frame: bytes = packed.to_cframe()
    return frame
