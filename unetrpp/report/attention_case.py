"""The inputs of an attention report, checked: the case, its label, and a model that has focal modules."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset, with_references
from unetrpp.dataset.labels import LabelScheme, present_values
from unetrpp.inference.inputs import case_id
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, same_grid
from unetrpp.io.images import Volume, read_label
from unetrpp.model.folder import ModelFolder


def require_modules(model: ModelFolder, fold: str) -> None:
    """Refuse a fold without focal modules.

    Raises:
        UserError: the fold's network has neither gates nor squeeze-and-excitations, or all are fixed at 0.
    """
    if not any(model.architecture(fold).focal_gammas().values()):
        raise UserError(
            f"fold {fold} of {model.path} has no focal gate and no squeeze-and-excitation to show; plan with "
            "--attention focal or all, or train with --learn-attention"
        )


def find_case(
    given: Sequence[str], label: Path | None, model: ModelFolder, workspace: Path | None
) -> tuple[str, list[Path], Path | None]:
    """Name, image files and label of a case of the model's dataset, or of an image given by its files, one per channel.

    Raises:
        UserError: there is no such file or case.
    """
    paths = [Path(name) for name in given]
    if all(path.is_file() for path in paths):
        if workspace is not None:
            raise UserError(
                "--workspace is where a case is looked up by its name, not one given by its files; leave it out"
            )
        return case_id(paths[0]), paths, label
    if len(given) > 1:
        missing = next(path for path in paths if not path.is_file())
        raise UserError(f"{missing} does not exist; give one file per channel, or the name of one case")
    home = model.workspace(workspace)
    dataset, folder = home.find_raw(model.dataset)
    raw = with_references(read_dataset(folder, dataset), home.preprocessed(dataset) / "labels")
    case = next((case for case in raw.cases if case.id == given[0]), None)
    if case is None:
        raise UserError(f"{given[0]!r} is neither a file nor a training case of {folder}; check the name")
    return case.id, list(case.images), label or case.label


def label_on_grid(path: Path | None, image: Volume, labels: LabelScheme, case: str) -> np.ndarray | None:
    """The label's values (Z, Y, X), which lie on the image's grid; None without a label.

    Raises:
        UserError: it lies on another grid, or holds an unknown value.
    """
    if path is None:
        return None
    label = read_label(path)
    differences = same_grid(label.geometry, image.geometry, GRID_LIMIT_VOXELS)
    if differences:
        raise UserError(
            f"image and label lie on different grids: {differences[0]}; give the label of this image", case=case
        )
    unknown = sorted(set(present_values(label.array)) - set(labels.known_values))
    if unknown:
        raise UserError(f"{path} holds label {unknown[0]}, which is not in dataset.json; remap the file", case=case)
    values: np.ndarray = label.array[0]
    return values
