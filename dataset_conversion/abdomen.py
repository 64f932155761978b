"""Abdomen/RawData of the challenge "Beyond the Cranial Vault", which two benchmarks use: Synapse and BTCV."""

from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import listed_values, present_values
from unetrpp.dataset_conversion.finding import by_case, folder_with, listed_folder, not_used, of_named_cases, paired
from unetrpp.dataset_conversion.source import Source, SourceCase, scheme_of
from unetrpp.io.images import read_label

ORGANS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior vena cava", "portal vein and splenic vein", "pancreas", "right adrenal gland", "left adrenal gland",
)  # fmt: skip
SLICES = ("train_npz", "test_vol_h5")  # folders of TransUNet's preprocessed download, and of others made like it
DEEPEST = 3  # folders above them
# Two numberings of the eight organs that are scored on Synapse.
TRANSUNET = "aorta, gallbladder, left kidney, right kidney, liver, pancreas, spleen, stomach"
CASCADE = "spleen, right kidney, left kidney, gallbladder, liver, stomach, aorta, pancreas"
LABELS_READ = 3  # to tell 13 organs from 8


def read_abdomen(folder: Path, *, testing: bool) -> Source:
    """The labelled scans of Training, and those of Testing, which have no labels, where ``testing`` wants them.

    Raises:
        UserError: the layout is another one, or the labels number eight organs.
    """
    _refuse_slices(folder)
    root = folder_with(folder, "Training/img", "Training/label")
    images, twice = _by_number(root, "Training/img", "img")
    labels, twice_labelled = _by_number(root, "Training/label", "label")
    cases, lacking = paired({case: (file,) for case, file in images.items()}, labels)
    _require_thirteen(cases)
    unlabelled, twice_testing = _by_number(root, "Testing/img", "img")
    known: dict[Path, str | None] = {
        **twice,
        **twice_labelled,
        **twice_testing,
        **of_named_cases(lacking, images, labels),
    }
    if testing:
        cases += [SourceCase(case, (file,), test=True) for case, file in sorted(unlabelled.items())]
    else:
        known |= dict.fromkeys(unlabelled.values())
    return Source(
        channel_names=("CT",),
        labels=scheme_of({organ: value for value, organ in enumerate(ORGANS, 1)}),
        cases=tuple(cases),
        reference="https://www.synapse.org/#!Synapse:syn3193805",
        left_out=lacking,
        unused=not_used(
            root, cases, "is neither imgNNNN in an img folder nor labelNNNN in Training/label; remove it", known
        ),
    )


def _by_number(root: Path, place: str, name: str) -> tuple[dict[str, Path], dict[Path, str]]:
    """imgNNNN -> file; the image and the label of a case have the number in common."""
    found, twice = by_case(listed_folder(root, place), rf"{name}(?P<case>\d{{4}})\.nii(\.gz)?")
    return {f"img{number}": file for number, file in found.items()}, twice


def _refuse_slices(folder: Path) -> None:
    """
    Raises:
        UserError: these are slices that were preprocessed for 2D networks.
    """
    below = (path for depth in range(DEEPEST + 1) for path in sorted(folder.glob("/".join("*" * (depth + 1)))))
    found = next((path for path in (folder, *below) if path.name.casefold().startswith(SLICES)), None)
    if found is not None:
        raise UserError(
            f"{found} holds slices preprocessed for 2D networks: windowed to 0-1, without voxel sizes, with 8 organs in a "
            "numbering of their own; give the folder RawData of the original download"
        )


def _require_thirteen(cases: list[SourceCase]) -> None:
    """
    Raises:
        UserError: the labels hold no organ above 8: every abdomen has some of the vessels and glands from 9 to 13.
    """
    read: list[str] = []
    for label in (case.label for case in cases if isinstance(case.label, Path)):
        try:
            values = present_values(read_label(label).array)
        except UserError:
            continue  # named when the case is converted
        if values[-1] > 8:
            return
        read.append(f"{label.name} ({listed_values(values, 9)})")
        if len(read) == LABELS_READ:
            break
    if read:
        raise UserError(
            f"{', '.join(read)} number at most 8 organs, not the 13 of the download; TransUNet's preprocessing has {TRANSUNET} "
            f"as 1 to 8, CASCADE's {CASCADE}, and the files do not tell which: give RawData with its own labels"
        )
