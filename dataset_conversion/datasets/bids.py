"""BIDS: raw images by subject and session, and labels in derivatives.

Source: <https://bids-specification.readthedocs.io>; most datasets of <https://openneuro.org>.
Licence: the dataset's (dataset_description.json).

Expected, with the derivatives inside of the dataset, beside it, or where --derivatives says (labels beside the raw images are
found, too):

    sub-M2001/ses-1253/anat/sub-M2001_ses-1253_acq-spc3_run-3_T2w.nii.gz
    derivatives/lesion_masks/sub-M2001/ses-1253/anat/sub-M2001_ses-1253_acq-spc3_run-3_T2w_desc-lesion_mask.nii.gz

A case is an image of the first --suffix, and has its name without the suffix. Further ones are channels: the only image of
that suffix in the session, or the one with the same acq-, run- ... Entities choose among several: --suffix acq-spc3_T2w.
A label belongs to the image whose entities it repeats; --labels desc-lesion_mask chooses by parts of the name, in any order.
Where only one suffix or one kind of label is possible it need not be given; otherwise all that were found are listed.

Label values: a `dseg` has those of its table (`*_dseg.tsv` with index and name, or `LabelMap` of `*_dseg.json`), beside it
or in a folder above. Other labels are masks: one class each, with the values 1, 2, ... in the order of --labels, of which a
later one counts where they overlap. NAME=PARTS names the class; else it is called by label- or desc-.

Groups: the subject, where one has several cases.

Traps:
- Clones of git-annex or DataLad hold links or pointers of some 100 bytes until `git annex get` or `datalad get`; these cases
  are named with that repair.
- Labels in a template's space (space-MNI...) lie on another grid than raw images; take the images in that space, too.
- probseg, probabilities of tissues, are no labels. Surfaces (GIFTI, CIFTI) are not read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, escaped, listed
from unetrpp.dataset_conversion.bids.names import Name, Tree, Wanted, looks_like_label, names_below, parsed
from unetrpp.dataset_conversion.bids.pairing import Found, complete_cases, labels_without_image
from unetrpp.dataset_conversion.bids.tables import table_of
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import DEEPEST
from unetrpp.dataset_conversion.source import Mask, Source, SourceCase, scheme_of
from unetrpp.io.listing import entries

if TYPE_CHECKING:
    from unetrpp.core.command_line import Parser

ABOUT = About(
    title="BIDS: raw images by subject and session, with dseg or masks in derivatives",
    modality="MR, CT, PET or any other",
    cases="any number of cases",
    size="any size",
    origin="https://openneuro.org and others",
    licence="that of the data",
)
NOT_RAW = ("derivatives", "sourcedata")
MOST_LISTED = 12  # suffixes or kinds of labels in a message


def add_options(parser: "Parser") -> None:
    what = (
        "the images, one a channel: a suffix, with entities where several match (default: the only one, or the labels')"
    )
    parser.add_argument("--suffix", nargs="+", default=(), metavar="PARTS", help=what)
    what = "the labels by parts of their names, such as desc-lesion_mask; several masks are one class each (default: the only kind)"
    parser.add_argument("--labels", nargs="+", default=(), metavar="[NAME=]PARTS", help=what)
    what = "the folder with the labels, relative to SRC (default: derivatives, in the dataset or beside it)"
    parser.add_argument("--derivatives", type=Path, metavar="DIR", help=what)


def read(
    folder: Path, *, suffix: Sequence[str] = (), labels: Sequence[str] = (), derivatives: Path | None = None
) -> Source:
    """The cases of a BIDS dataset.

    Raises:
        UserError: there are no subjects, images or labels of the kind wanted, or several kinds and none was chosen.
    """
    root = _root(folder)
    places = _derivatives(root, None if derivatives is None else folder / derivatives)
    tree = _tree(root, places)
    classes = [parsed(text, named=True) for text in labels] or [_only_kind(tree, root)]
    found = {wanted: [name for name in tree.labels if name.has(wanted.parts)] for wanted in classes}
    if absent := [wanted for wanted, names in found.items() if not names]:
        raise UserError(f"{root} has no label {'_'.join(sorted(absent[0].parts))}; it has {_kinds(tree)}")
    channels = [parsed(text) for text in suffix] or [_only_suffix(tree, found)]
    cases, left_out = complete_cases(tree, channels, found)
    if not cases:
        raise _no_case(tree, channels[0], found, left_out)
    drawn = [name for case in cases for name in case.labels.values()]
    table = table_of(drawn, [root, *places]) if len(classes) == 1 else None
    if table is None and (without := [w for w in classes if w.suffix == "dseg"]):
        raise UserError(
            f"no table names the values of {without[0].name}; write a dseg.tsv with the columns index and name into the folder of the "
            "derivatives, and give --labels that kind alone"
        )
    return Source(
        channel_names=tuple(wanted.name for wanted in channels),
        labels=scheme_of(table or {wanted.name: value for value, wanted in enumerate(classes, 1)}),
        cases=tuple(_source_case(case, is_map=table is not None) for case in cases),
        left_out=left_out | labels_without_image(tree, channels[0], found),
        groups=_groups(cases),
        notes=(_chosen(tree, channels, found),),
    )


def _root(folder: Path) -> Path:
    """The raw dataset: ``folder`` or the only one below it that holds subjects, not a folder of derivatives or of source data.

    Raises:
        UserError: there is none, or several.
    """
    level = [folder]
    for _ in range(DEEPEST + 1):
        found = [place for place in level if any(p.name.startswith("sub-") and p.is_dir() for p in entries(place))]
        if len(found) > 1:
            names = listed([escaped(place.relative_to(folder).as_posix()) for place in found])
            raise UserError(f"{folder} holds several BIDS datasets ({names}); give one of the folders")
        if found:
            return found[0]
        below = [path for place in level for path in entries(place) if path.is_dir()]
        level = [path for path in below if path.name.casefold() not in NOT_RAW]
    raise UserError(f"{folder} has no folders sub-...; give the folder of a BIDS dataset")


def _derivatives(root: Path, given: Path | None) -> list[Path]:
    if given is not None:
        if not given.is_dir():
            raise UserError(
                f"--derivatives {given} is not a folder; give the folder with the labels, relative to the dataset"
            )
        return [given]
    places = [root / "derivatives", root.parent / "derivatives"]
    return [place for place in places if place.is_dir()][:1]


def _tree(root: Path, places: Sequence[Path]) -> Tree:
    raw = [n for n in names_below(root) if n.path.relative_to(root).parts[0].startswith("sub-")]
    return Tree(tuple(raw), tuple(name for place in places for name in names_below(place)))


def _only_kind(tree: Tree, root: Path) -> Wanted:
    """
    Raises:
        UserError: there is no kind of label, or there are several.
    """
    kinds = {tree.kind(name) for name in tree.labels if looks_like_label(name)}
    if len(kinds) == 1:
        return parsed(kinds.pop(), named=True)
    if not kinds:
        raise UserError(
            f"{root} has no labels in its derivatives; complete the download, or give --derivatives with their folder"
        )
    raise UserError(f"which labels? choose with --labels among {_kinds(tree)}")


def _kinds(tree: Tree) -> str:
    return _counts(Counter(tree.kind(name) for name in tree.labels if looks_like_label(name))) or "none"


def _counts(found: Counter[str]) -> str:
    return listed([f"{escaped(name)} ({counted(n, 'file')})" for name, n in found.most_common()], MOST_LISTED)


def _only_suffix(tree: Tree, labels: Mapping[Wanted, Sequence[Name]]) -> Wanted:
    """The suffix in the labels' names, or the only one of raw images.

    Raises:
        UserError: there are several.
    """
    drawn_on = {word for names in labels.values() for name in names for word in {*name.words} & tree.suffixes}
    possible = drawn_on or tree.suffixes
    if len(possible) == 1:
        return parsed(possible.pop())
    counts = Counter(name.suffix for name in tree.raw if name.suffix in possible)
    if not counts:
        raise UserError("there are no raw images; complete the download")
    raise UserError(f"which images? choose with --suffix among {_counts(counts)}")


def _no_case(
    tree: Tree, first: Wanted, labels: Mapping[Wanted, Sequence[Name]], left_out: Mapping[str, str]
) -> UserError:
    drawn = {word for names in labels.values() for name in names for word in {*name.words} & tree.suffixes}
    if drawn and first.suffix not in drawn:
        others = listed(sorted(drawn))
        return UserError(
            f"the labels are named after {others} images, not {first.suffix}; give --suffix with one of these"
        )
    if not left_out:
        return UserError(f"there is no image {first.name}; check --suffix, or complete the download")
    case, reason = next(iter(left_out.items()))
    return UserError(f"none of {counted(len(left_out), 'case')} is complete: {case} {reason}")


def _source_case(case: Found, *, is_map: bool) -> SourceCase:
    images = tuple(name.path for name in case.images)
    if is_map:
        return SourceCase(case.id, images, next(iter(case.labels.values())).path)
    masks = (Mask(wanted.name, value, name.path) for value, (wanted, name) in enumerate(case.labels.items(), 1))
    return SourceCase(case.id, images, masks=tuple(masks))


def _groups(cases: Sequence[Found]) -> dict[str, str] | None:
    subjects = {case.id: case.images[0].entities["sub"] for case in cases}
    return subjects if len(set(subjects.values())) < len(subjects) else None


def _chosen(tree: Tree, channels: Sequence[Wanted], labels: Mapping[Wanted, Sequence[Name]]) -> str:
    taken = [f"{counted(len(tree.images(w)), 'image')} {w.name}" for w in channels]
    taken += [
        f"{counted(len(names), 'label')} {'_'.join(sorted(w.parts))} as {w.name!r}" for w, names in labels.items()
    ]
    return f"found {', '.join(taken)}; other files of the subjects were not asked for"
