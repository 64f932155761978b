"""The files of one case in a raw dataset: copied or linked where they can be, rewritten otherwise."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_atomically
from unetrpp.core.text import counted
from unetrpp.dataset.labels import LabelScheme, listed_values, present_values
from unetrpp.dataset_conversion.masks import Painted, Remarks, painted
from unetrpp.dataset_conversion.source import Made, SourceCase, files_of
from unetrpp.io.formats import copy_image, ending_of, files_of_image, remove_sidecar
from unetrpp.io.images import (
    Volume,
    as_label,
    has_alpha,
    read_channels,
    read_file,
    read_label,
    write_colours,
    write_image,
    write_segmentation,
)

# Repairs where no option names channels or labels.
OF_LAYOUT = "check that it is a file of this dataset, and download it again"
OF_LABEL = "correct the file, or the list of classes that came with it, or download it again"


class WrittenImages(NamedTuple):
    """The images of one case in the raw dataset, and what their sources had."""

    files: list[Path]
    alpha: bool = False  # an opaque alpha channel was left out
    gray: bool = False  # red, green and blue are equal everywhere


def write_images(
    case: SourceCase,
    folder: Path,
    ending: str,
    channel_names: Sequence[str],
    *,
    link: bool = False,
    by_options: bool = True,
) -> WrittenImages:
    """One file per channel; a photograph keeps its colours in one file, as is usual with nnU-Net.

    Args:
        link: make links to the files instead of copies.
        by_options: the user named the channels, with the options of `unetrpp_convert folder`.

    Raises:
        UserError: the files cannot be read, do not have the channels that are named, or cannot stay as they are with ``link``.
    """
    files = [image for image in case.images if isinstance(image, Path)]
    if len(files) < len(case.images):
        if link:
            made = next(image for image in case.images if not isinstance(image, Path))
            raise _no_link(made.files[0], "the raw dataset needs it changed")
        volumes = [read_item(image) for image in case.images]
        firsts = [files_of(image)[0] for image in case.images]
        _require_channels(firsts, [len(volume.array) for volume in volumes], channel_names, by_options=by_options)
        return _written(volumes, folder, case.id, ending)
    found = [read_channels(file) for file in files]
    alpha = [has_alpha(file) for file in files]
    _require_channels(
        files, [channels for channels, _ in found], channel_names, alpha=any(alpha), by_options=by_options
    )
    as_they_are = all(
        ending_of(file) == ending and (channels == 1 or dimensions == 2)
        for file, (channels, dimensions) in zip(files, found, strict=True)
    )
    # A file of several channels can be copied only where it holds all channels of the case.
    if not (as_they_are and len(files) in (1, len(channel_names))):
        if link:
            raise _no_link(files[0], f"the raw dataset has one {ending} file a channel")
        return _split_channels(files, folder, case.id, ending)._replace(alpha=any(alpha))
    copies = [folder / f"{case.id}_{i:04d}{ending}" for i in range(len(files))]
    gray = True
    for file, copy, transparent in zip(files, copies, alpha, strict=True):
        volume = read_file(file)  # refuses a damaged file
        gray = gray and _is_gray(volume)
        if transparent and link:
            raise _no_link(file, "its alpha channel has to be left out")
        if transparent:
            write_colours(copy, volume)
        else:
            _copy_or_link(file, copy, link)
    return WrittenImages(copies, any(alpha), gray)


def _copy_or_link(source: Path, target: Path, link: bool) -> None:
    """Copy an image, or make links to its file and its sidecar.

    Raises:
        UserError: links cannot be made here.
    """
    if not link:
        copy_image(source, target)
        return
    file, *others = files_of_image(source)
    beside = {other: target.with_name(target.name.removesuffix(ending_of(target)) + other.suffix) for other in others}
    if not others:
        remove_sidecar(target)
    for original, place in {**beside, file: target}.items():
        try:
            write_atomically(place, partial(_link, original.resolve()))
        except (OSError, NotImplementedError) as error:
            raise UserError(f"{place} cannot be made a link ({error}); leave out --link") from None


def _link(file: Path, place: Path) -> None:
    place.symlink_to(file)


def _no_link(file: Path, why: str) -> UserError:
    return UserError(f"{file.name} cannot be a link, because {why}; leave out --link")


def read_item(item: Path | Made) -> Volume:
    """The image or label of a case, whether a file holds it or it is made.

    Raises:
        UserError: a file cannot be read.
    """
    return read_file(item) if isinstance(item, Path) else item.read()


def _require_channels(
    files: Sequence[Path], channels: Sequence[int], names: Sequence[str], *, alpha: bool = False, by_options: bool
) -> None:
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
        f"{'is' if len(names) == 1 else 'are'} named ({','.join(names)}); "
        f"{'correct --channel or the files' if by_options else OF_LAYOUT}"
    )


def _is_gray(volume: Volume) -> bool:
    """Whether an image of three channels has the same values in all of them."""
    return len(volume.array) == 3 and bool((volume.array[1:] == volume.array[:1]).all())


def _split_channels(files: Sequence[Path], folder: Path, case: str, ending: str) -> WrittenImages:
    return _written((read_file(file) for file in files), folder, case, ending)


def _written(volumes: Iterable[Volume], folder: Path, case: str, ending: str) -> WrittenImages:
    """Every channel as a file; only one volume is held at a time."""
    written: list[Path] = []
    gray = True
    for volume in volumes:
        gray = gray and _is_gray(volume)
        for channel in volume.array:
            written.append(folder / f"{case}_{len(written):04d}{ending}")
            write_image(written[-1], Volume(channel[None], volume.geometry))
    return WrittenImages(written, gray=gray)


def write_label(
    case: SourceCase, path: Path, labels: LabelScheme, one_class: bool, *, link: bool = False, by_options: bool = True
) -> Remarks:
    """Copy, link or rewrite a label as ``path``, in the smallest integer type that holds its values.

    Args:
        one_class: every value above 0 becomes the one class.
        link: make a link to the file instead of a copy.
        by_options: the user chose the classes, with the options of `unetrpp_convert folder`.

    Returns:
        What a user should know about it, such as which masks overlap.

    Raises:
        UserError: a file cannot be read, or holds values that are not declared.
    """
    if case.label is None:
        volume: Volume = painted(case.masks)
        write_segmentation(path, volume.array[0], volume.geometry)
        return _remarks(volume)
    file, *_ = files_of(case.label)
    made = None if isinstance(case.label, Path) else case.label.read()
    volume = read_label(file) if made is None else as_label(file, made)
    array = labels.one_class(volume.array[0]) if one_class else volume.array[0]
    _require_declared(file, array, labels, by_options)
    if isinstance(case.label, Path) and not one_class and path.name.endswith(ending_of(case.label)):
        _copy_or_link(case.label, path, link)
        return Remarks()
    write_segmentation(path, array.astype(np.min_scalar_type(int(array.max()))), volume.geometry)
    return Remarks() if made is None else _remarks(made)


def _remarks(volume: Volume) -> Remarks:
    return volume.remarks if isinstance(volume, Painted) else Remarks()


def _require_declared(file: Path, array: np.ndarray, labels: LabelScheme, by_options: bool) -> None:
    unknown = sorted(set(present_values(array)) - set(labels.known_values))
    if not unknown:
        return
    here = present_values(array)
    advice = _advice(unknown, here, labels) if by_options else OF_LABEL
    raise UserError(
        f"{file.name} holds the label{'s' if len(unknown) > 1 else ''} {listed_values(unknown)}, but only "
        f"{listed_values(labels.known_values)} are declared; {advice}"
    )


def _advice(unknown: Sequence[int], present: Sequence[int], labels: LabelScheme) -> str:
    """The options of `unetrpp_convert folder` that take undeclared values."""
    several = len(unknown) > 1
    advice = f"declare {'them' if several else 'it'}, take all values with --labels-from-files, or remap the file"
    if len(labels.values) == 2 and unknown[0] > 0:
        if not several and labels.values[1] not in present:
            advice += (
                f", or give --label {labels.names[1]}={unknown[0]} in place of {labels.names[1]}={labels.values[1]}"
            )
        advice += ", or give --foreground-from-instances if the values number objects"
    return advice
