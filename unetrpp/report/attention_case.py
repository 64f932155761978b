"""What an attention report is about: a case of the workspace or files, its label, and a model that has modules."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset.labels import LabelScheme, present_values
from unetrpp.inference.inputs import case_id
from unetrpp.io.geometry import same_grid
from unetrpp.io.images import GRID_TOLERANCE_MM, Volume, read_label
from unetrpp.model.folder import ModelFolder


def require_modules(model: ModelFolder, fold: str) -> None:
    """
    Raises:
        UserError: the fold's network has neither gates nor squeeze-and-excitations, or all are fixed at 0.
    """
    if not any(model.architecture(fold).focal_gammas().values()):
        raise UserError(
            f"fold {fold} of {model.path} has no focal gate and no squeeze-and-excitation to look at; plan with "
            "--attention auto or all, or train with --learn-attention"
        )


def find_case(
    given: Sequence[str], label: Path | None, model: ModelFolder, workspace: Path | None
) -> tuple[str, list[Path], Path | None]:
    """Name, image files and label of a case of the model's dataset, or of files (one a channel).

    Raises:
        UserError: there is neither such a file nor such a case.
    """
    paths = [Path(name) for name in given]
    if all(path.is_file() for path in paths):
        return case_id(paths[0]), paths, label
    if len(given) > 1:
        missing = next(path for path in paths if not path.is_file())
        raise UserError(f"{missing} does not exist; give one file a channel, or the name of one case")
    dataset, folder = Workspace.find(workspace).find_raw(model.plans.dataset)
    case = next((case for case in read_dataset(folder, dataset).cases if case.id == given[0]), None)
    if case is None:
        raise UserError(f"{given[0]!r} is neither a file nor a training case of {folder}; check the name")
    return case.id, list(case.images), label or case.label


def label_on_grid(path: Path | None, image: Volume, labels: LabelScheme, case: str) -> np.ndarray | None:
    """The user's values (Z, Y, X) on the image's grid; None without a label.

    Raises:
        UserError: it lies on another grid, or holds an unknown value.
    """
    if path is None:
        return None
    label = read_label(path)
    differences = same_grid(label.geometry, image.geometry, GRID_TOLERANCE_MM)
    if differences:
        raise UserError(f"image and label lie on different grids: {differences[0]}", case=case)
    unknown = sorted(set(present_values(label.array)) - set(labels.known_values))
    if unknown:
        raise UserError(f"{path} holds label {unknown[0]}, which is not in dataset.json; remap the file", case=case)
    return label.array[0]
