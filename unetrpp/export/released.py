"""A checkpoint of the released UNETR++ code as a model folder that predicts."""

import shutil
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_folder_atomically, write_json
from unetrpp.core.leftovers import remove_leftovers
from unetrpp.core.workspace import Workspace, as_folder_name
from unetrpp.dataset.description import read_description
from unetrpp.model import checkpoint
from unetrpp.model.folder import ModelFolder
from unetrpp.networks.presets import preset as published_network
from unetrpp.networks.released import convert_state, read_official
from unetrpp.plans.plans import Decision, Plans, read_plans

CHECKPOINT = Path("fold_all", "checkpoint_final.pt")
RECORDS = ("dataset.json", "fingerprint.json")  # beside the plans, in the preprocessed dataset


def import_released(
    file: Path | str,
    *,
    preset: str,
    plans: Path | str,
    configuration: str | None = None,
    workspace: Path | str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write ``results/<dataset>/released_<preset>__<configuration>``; as `unetrpp_import --preset` does.

    A checkpoint holds no spacing, intensities or labels: they come from ``plans``. The planned network is replaced by the
    published one. The same call again leaves the model folder as it is.

    Args:
        file: the checkpoint.
        preset: its network: synapse, acdc, tumor or lung.
        plans: the plans' JSON, with dataset.json and fingerprint.json beside it.
        configuration: of the plans; by default 3d_fullres, or the only 3D one.
        workspace: by default $UNETRPP_WORKSPACE, else ./unetrpp_workspace.
        overwrite: replace a model of the same name.

    Returns:
        The model folder.

    Raises:
        UserError: no such file, the checkpoint does not fit the preset or the dataset, a record is missing, or another
            model of this name exists already.
    """
    source, plans_path = Path(file), Path(plans)
    if not source.is_file():
        raise UserError(f"{source} does not exist; check the path")
    planned = read_plans(plans_path)
    _require_records(planned, plans_path)
    name = configuration or _three_dimensional(planned, plans_path)
    changed = with_preset(planned, preset, name, source)
    state = convert_state(read_official(source), changed.configurations[name].architecture)
    home = Workspace.find(None if workspace is None else Path(workspace))
    target = home.model(Workspace.dataset_of(plans_path) or as_folder_name(changed.dataset), changed.name, name)

    def fill(folder: Path) -> None:
        for record in RECORDS:
            shutil.copyfile(plans_path.parent / record, folder / record)
        write_json(folder / "plans.json", changed)
        checkpoint.save(folder / CHECKPOINT, {"network": state})
        ModelFolder.open(folder)

    if overwrite or not _is_imported(target, changed, state, plans_path.parent):
        write_folder_atomically(target, fill, replace=overwrite, hint="remove it or import with --overwrite")
    return target


def _is_imported(target: Path, plans: Plans, state: dict[str, Tensor], records: Path) -> bool:
    """Whether ``target`` is just this model: an earlier import may have been killed after its last step."""
    remove_leftovers(target.parent)
    try:
        same = read_plans(target / "plans.json") == plans
        found = checkpoint.load(target / CHECKPOINT, torch.device("cpu"))["network"]
        same &= all((target / record).read_bytes() == (records / record).read_bytes() for record in RECORDS)
    except (UserError, OSError):
        return False
    return same and found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


def _require_records(plans: Plans, path: Path) -> None:
    """
    Raises:
        UserError: a record is missing beside the plans, or dataset.json is of other labels or channels than they are.
    """
    for record in RECORDS:
        if not (path.parent / record).is_file():
            raise UserError(f"{path.parent} has no {record}; give a plans file that lies in its preprocessed dataset")
    if differing := plans.differences(read_description(path.parent / "dataset.json", plans.dataset)):
        raise UserError(
            f"{path} was made for other {' and '.join(differing)} than dataset.json beside it has now; plan again first"
        )


def with_preset(plans: Plans, preset_name: str, configuration: str, source: Path) -> Plans:
    """Plans with this configuration alone, and with the published network for the dataset's channels and labels."""
    planned = plans.configuration(configuration)
    architecture = msgspec.structs.replace(
        published_network(preset_name), in_channels=len(plans.channel_names), out_channels=plans.labels.outputs
    )
    why = f"weights of {source.name}, which were trained with that code; spacing and intensities are those of the plans {plans.name!r}"
    decision = Decision(about="network", value=f"released {preset_name}", why=why)
    changed = msgspec.structs.replace(
        planned, architecture=architecture, decisions=(decision, *planned.decisions), first_stage=None
    )
    return msgspec.structs.replace(plans, name=f"released_{preset_name}", configurations={configuration: changed})


def _three_dimensional(plans: Plans, path: Path) -> str:
    names = [name for name, c in plans.configurations.items() if c.architecture.dimensions == 3]
    if "3d_fullres" in names or len(names) == 1:
        return "3d_fullres" if "3d_fullres" in names else names[0]
    raise UserError(
        f"{path} has {len(names)} 3D configurations, none named 3d_fullres; choose one with --configuration"
    )
