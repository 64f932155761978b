"""The files of one case in a raw dataset: copied where they can be, rewritten otherwise."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted
from unetrpp.dataset.labels import LabelScheme, listed_values, present_values
from unetrpp.dataset_conversion.masks import Overlaps, painted
from unetrpp.dataset_conversion.source import SourceCase
from unetrpp.io.formats import copy_image, ending_of
from unetrpp.io.images import (
    Volume,
    has_alpha,
    read_channels,
    read_file,
    read_label,
    write_colours,
    write_image,
    write_segmentation,
)


class WrittenImages(NamedTuple):
    """The images of one case in the raw dataset, and what their sources had."""

    files: list[Path]
    alpha: bool = False  # an opaque alpha channel was left out
    gray: bool = False  # red, green and blue are equal everywhere


def write_images(case: SourceCase, folder: Path, ending: str, channel_names: Sequence[str]) -> WrittenImages:
    """One file per channel; a photograph keeps its colours in one file, as is usual with nnU-Net.

    Raises:
        UserError: the files cannot be read, or do not have the channels that are named.
    """
    found = [read_channels(file) for file in case.images]
    alpha = [has_alpha(file) for file in case.images]
    _require_channels(case.images, [channels for channels, _ in found], channel_names, any(alpha))
    as_they_are = all(
        ending_of(file) == ending and (channels == 1 or dimensions == 2)
        for file, (channels, dimensions) in zip(case.images, found, strict=True)
    )
    # A file of several channels can be copied only where it holds all channels of the case.
    if not (as_they_are and len(case.images) in (1, len(channel_names))):
        return _split_channels(case, folder, ending)._replace(alpha=any(alpha))
    copies = [folder / f"{case.id}_{i:04d}{ending}" for i in range(len(case.images))]
    gray = True
    for file, copy, transparent in zip(case.images, copies, alpha, strict=True):
        volume = read_file(file)  # refuses a damaged file
        gray = gray and _is_gray(volume)
        if transparent:
            write_colours(copy, volume)
        else:
            copy_image(file, copy)
    return WrittenImages(copies, any(alpha), gray)


def _require_channels(files: Sequence[Path], channels: Sequence[int], names: Sequence[str], alpha: bool) -> None:
    """
    Raises:
        UserError: the files have other channels than are named.
    """
    count = sum(channels)
    if count == len(names):
        return
    each = " and ".join(f"{file.name} ({n})" for file, n in zip(files, channels, strict=True))
    what = f"{files[0].name} has" if len(files) == 1 else f"{each} have together"
    beside = " beside its alpha channel, which is no channel" if alpha else ""
    raise UserError(
        f"{what} {counted(count, 'channel')}{beside}, but {len(names)} "
        f"{'is' if len(names) == 1 else 'are'} named ({','.join(names)}); correct --channel or the files"
    )


def _is_gray(volume: Volume) -> bool:
    """Whether an image of three channels has the same values in all of them."""
    return len(volume.array) == 3 and bool((volume.array[1:] == volume.array[:1]).all())


def _split_channels(case: SourceCase, folder: Path, ending: str) -> WrittenImages:
    written: list[Path] = []
    gray = True
    for file in case.images:
        volume = read_file(file)
        gray = gray and _is_gray(volume)
        for channel in volume.array:
            written.append(folder / f"{case.id}_{len(written):04d}{ending}")
            write_image(written[-1], Volume(channel[None], volume.geometry))
    return WrittenImages(written, gray=gray)


def write_label(case: SourceCase, path: Path, labels: LabelScheme, one_class: bool) -> Overlaps:
    """Copy or rewrite a label as ``path``, in the smallest integer type that holds its values.

    Returns:
        Which masks overlap.

    Raises:
        UserError: a file cannot be read, or holds values that are not declared.
    """
    if case.label is None:
        volume, overlaps = painted(case.masks)
        write_segmentation(path, volume.array[0], volume.geometry)
        return overlaps
    volume = read_label(case.label)
    array = labels.one_class(volume.array[0]) if one_class else volume.array[0]
    _require_declared(case.label, array, labels)
    if not one_class and path.name.endswith(ending_of(case.label)):
        copy_image(case.label, path)
        return Overlaps()
    write_segmentation(path, array.astype(np.min_scalar_type(int(array.max()))), volume.geometry)
    return Overlaps()


def _require_declared(file: Path, array: np.ndarray, labels: LabelScheme) -> None:
    unknown = sorted(set(present_values(array)) - set(labels.known_values))
    if unknown:
        several = len(unknown) > 1
        advice = f"declare {'them' if several else 'it'}, take all values with --labels-from-files, or remap the file"
        if len(labels.values) == 2 and unknown[0] > 0:
            if not several and labels.values[1] not in present_values(array):
                advice += (
                    f", or give --label {labels.names[1]}={unknown[0]} in place of {labels.names[1]}={labels.values[1]}"
                )
            advice += ", or give --foreground-from-instances if the values number objects"
        raise UserError(
            f"{file.name} holds the label{'s' if several else ''} {listed_values(unknown)}, but only "
            f"{listed_values(labels.known_values)} are declared; {advice}"
        )
