"""Segmentations of 3D Slicer (.seg.nrrd) beside their images.

The expected tree, of any depth:

  CASE/IMAGE.nrrd  CASE/Segmentation.seg.nrrd     one image and one segmentation a folder; the folder is the case
  CASE.nrrd        CASE.seg.nrrd                  or several pairs a folder, by name

Images are NRRD, NIfTI or MetaImage. Where folders or files of one name occur several times, the folders above become a part of
the case's name. --channel says what the images are, such as CT, which decides their normalisation.

--segment says which segments become which class, in any capitals; the classes get the values 1, 2, ... in this order, and where
two overlap, the later one counts. Several names may become one class:

  unetrpp_convert seg-nrrd FOLDER --channel CT --segment 'right lung=lung' 'left lung=lung' '*vertebra*=spine'

Without --segment, all names that were found are listed with their number of cases.

Traps that are taken care of: overlapping segments lie in several layers, the first axis of the file; values repeat in every
layer, so that names count, not values; Slicer crops a segmentation to what was drawn, so it is placed by its position. A
segmentation on another grid than its image is refused. dataset.json holds the names of classes only: Slicer's terminology,
colours and tags are left out.

The format: https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.errors import UserError
from unetrpp.core.text import composed, counted, escaped
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import not_used
from unetrpp.dataset_conversion.masks import Canvas, Painted
from unetrpp.dataset_conversion.segment_choice import Choice, read_choice
from unetrpp.dataset_conversion.source import Source, SourceCase, scheme_of
from unetrpp.io.formats import strip_ending
from unetrpp.io.images import read_geometry
from unetrpp.io.listing import images_below
from unetrpp.io.slicer_segments import Segment, draw, read_segments

if TYPE_CHECKING:
    from unetrpp.core.command_line import Parser

ABOUT = About(
    title="3D Slicer: .seg.nrrd beside the images",
    modality="any modality, one channel",
    cases="any number of cases",
    size="any size",
    origin="saved in 3D Slicer (https://www.slicer.org)",
    licence="that of the data",
)
ENDING = ".seg.nrrd"
SEVERAL = "is one of several images of one segmentation, or that segmentation; keep one image"
ALONE = "has no segmentation; save one beside it as NAME.seg.nrrd, or remove the image"


@dataclass(frozen=True)
class SlicerLabel:
    """Segments on the grid of an image, painted in their order."""

    file: Path
    image: Path
    parts: tuple[tuple[str, int, Segment], ...]  # class, value, segment

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file, self.image)

    def read(self) -> Painted:
        """
        Raises:
            UserError: a file is damaged, or the segments are not on the image's grid.
        """
        geometry = read_geometry(self.image)
        canvas = Canvas(geometry.shape_zyx, max(value for _, value, _ in self.parts))
        masks = draw(self.file, [segment for _, _, segment in self.parts], geometry)
        for (name, value, _), mask in zip(self.parts, masks, strict=True):
            canvas.paint(name, value, mask)
        return Painted(canvas.label[None], geometry, canvas.remarks())


def add_options(parser: "Parser") -> None:
    # argparse would put SRC last, where --segment would swallow it.
    parser.usage = "unetrpp_convert seg-nrrd SRC --channel NAME --segment NAME[=CLASS] [NAME[=CLASS] ...] [options]"
    what = "segments by name (* and ? stand for any characters), and the class that each becomes (default: its name)"
    parser.add_argument("--segment", nargs="+", metavar="NAME[=CLASS]", help=what)
    parser.add_argument("--channel", metavar="NAME", help="what the images are, such as CT or MR")
    what = "a case does not have the classes that it has no segment for (default: such a case is left out)"
    parser.add_argument("--allow-missing-segments", action="store_true", help=what)


def read(
    folder: Path,
    *,
    segment: Sequence[str] | None = None,
    channel: str | None = None,
    allow_missing_segments: bool = False,
) -> Source:
    """The pairs of an image and a segmentation below a folder.

    Raises:
        UserError: there are none, or ``channel`` or ``segment`` is not given, or names what no case has.
    """
    pairs, known = _pairs(folder)
    if not pairs:
        file, why = next(iter(known.items()), (None, "give the folder of the cases"))
        first = f"{escaped(file.relative_to(folder).as_posix())} {why}" if file else why
        raise UserError(f"{folder} holds no {ENDING} file with its image beside it: {first}")
    if not channel:
        raise UserError("what are the images? give --channel NAME, such as CT (for Hounsfield units) or MR")
    found: dict[str, list[Segment]] = {}
    left_out: dict[str, str] = {}
    for case, (_, file) in pairs.items():
        try:
            found[case] = read_segments(file)
        except UserError as error:
            left_out[case] = str(error)
    choice = read_choice(segment, "--segment", {case: [s.name for s in of_case] for case, of_case in found.items()})
    problems = {case: choice.problem(of_case, allow_missing_segments) for case, of_case in found.items()}
    left_out |= {case: why for case, why in problems.items() if why}
    cases = [_case(case, pairs[case], choice, found[case]) for case in found if problems[case] is None]
    explained: dict[Path, str | None] = {file: None for case in left_out for file in pairs[case]}
    return Source(
        channel_names=(channel,),
        labels=scheme_of(choice.classes),
        cases=tuple(cases),
        left_out=left_out,
        unused=not_used(folder, cases, ALONE, {**known, **explained}),
        notes=("segments become classes by name; terminology, colours and tags stay in the .seg.nrrd files",),
    )


def _case(case: str, pair: tuple[Path, Path], choice: Choice, segments: Sequence[Segment]) -> SourceCase:
    image, file = pair
    parts = tuple((wanted.name, wanted.value, segment) for wanted, segment in choice.of(segments))
    return SourceCase(case, (image,), SlicerLabel(file, image, parts))


def _pairs(folder: Path) -> tuple[dict[str, tuple[Path, Path]], dict[Path, str]]:
    """Case -> its image and its segmentation, and why others are in no pair."""
    by_folder: dict[Path, list[Path]] = {}
    for path in images_below(folder):
        by_folder.setdefault(path.parent, []).append(path)
    named: list[Path] = []  # what gives each case its name: its folder or its image
    pairs: list[tuple[Path, Path]] = []
    known: dict[Path, str] = {}
    for place, files in by_folder.items():
        of_name, several = _by_name(files)
        rest = [path for path in files if path not in several and all(path not in pair for pair in of_name)]
        labels, images = (list(filter(_is_segmentation, rest)), [path for path in rest if not _is_segmentation(path)])
        alone = [(images[0], labels[0])] if len(labels) == len(images) == 1 else []
        pairs += of_name + alone
        named += [image for image, _ in of_name] + [image if place == folder else place for image, _ in alone]
        known |= several | ({} if alone else dict.fromkeys(labels, _unpaired(len(images))))
    return dict(zip(_case_names(folder, named), pairs, strict=True)), known


def _by_name(files: Sequence[Path]) -> tuple[list[tuple[Path, Path]], dict[Path, str]]:
    """Images and segmentations of one name, and why some of them are in no pair."""
    of_stem: dict[str, tuple[list[Path], list[Path]]] = {}
    for path in files:
        of_stem.setdefault(_stem(path), ([], []))[_is_segmentation(path)].append(path)
    both = [found for found in of_stem.values() if all(found)]
    several = {path: SEVERAL for images, labels in both if len(images) > 1 for path in (*images, *labels)}
    return [(images[0], labels[0]) for images, labels in both if len(images) == 1], several


def _unpaired(images: int) -> str:
    return (
        f"has no image of its name, and its folder holds {counted(images, 'other image')}; give it its image's name, or one folder "
        "to each case"
    )


def _is_segmentation(path: Path) -> bool:
    return path.name.lower().endswith(ENDING)


def _stem(path: Path) -> str:
    name = path.name[: -len(ENDING)] if _is_segmentation(path) else strip_ending(path.name)
    return composed(name).casefold()


def _case_names(folder: Path, paths: Sequence[Path]) -> list[str]:
    """The name of each file or folder, with the folders above it where several have that name.

    Raises:
        UserError: two names are the same even so.
    """
    short = [path.name if path.is_dir() else strip_ending(path.name) for path in paths]
    counts = Counter(name.casefold() for name in short)
    names = [
        name if counts[name.casefold()] == 1 else "_".join((*path.relative_to(folder).parent.parts, name))
        for name, path in zip(short, paths, strict=True)
    ]
    twice = [name for name, n in Counter(name.casefold() for name in names).items() if n > 1]
    if twice:
        raise UserError(f"two cases in {folder} would be called {twice[0]}; rename a folder or a file of one of them")
    return names
