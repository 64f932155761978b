"""A checkpoint of the released UNETR++ code as a model folder that predicts."""

import shutil
import tempfile
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.model import checkpoint
from unetrpp.model.folder import ModelFolder
from unetrpp.networks.presets import preset
from unetrpp.networks.released import convert_state, read_official
from unetrpp.plans.plans import Decision, Plans, read_plans

RECORDS = ("dataset.json", "fingerprint.json")  # beside the plans, in the preprocessed dataset


def import_official(
    source: Path, preset_name: str, plans_path: Path, results: Path, configuration: str | None, overwrite: bool
) -> Path:
    """Write ``results/<dataset>/released_<preset>__<configuration>`` and return it.

    A checkpoint knows no spacing, intensities or labels: ``plans_path`` brings them, with dataset.json and
    fingerprint.json beside it. Its network is replaced by the published one.

    Raises:
        UserError: the checkpoint fits neither preset nor dataset, a record is missing, or the model is there already.
    """
    plans = read_plans(plans_path)
    name = configuration or _three_dimensional(plans, plans_path)
    changed = with_preset(plans, preset_name, name, source)
    architecture = changed.configurations[name].architecture
    state = convert_state(read_official(source), architecture)
    target = results / plans.dataset / f"{changed.name}__{name}"
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists already; remove it or import with --overwrite")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".import.") as folder:
        made = Path(folder) / target.name
        made.mkdir()
        for record in RECORDS:
            if not (plans_path.parent / record).is_file():
                raise UserError(f"{plans_path.parent} has no {record}; give the plans in their preprocessed dataset")
            shutil.copyfile(plans_path.parent / record, made / record)
        write_json(made / "plans.json", changed)
        checkpoint.save(made / "fold_all" / "checkpoint_final.pt", {"network": state})
        ModelFolder.open(made)
        if target.exists():
            shutil.rmtree(target)
        made.replace(target)
    return target


def with_preset(plans: Plans, preset_name: str, configuration: str, source: Path) -> Plans:
    """Plans of this one configuration, with the published network for the dataset's channels and labels."""
    planned = plans.configuration(configuration)
    architecture = msgspec.structs.replace(
        preset(preset_name), in_channels=len(plans.channel_names), out_channels=plans.labels.outputs
    )
    why = (
        f"weights of {source.name}, which were trained with it; spacing and intensities are of the plans {plans.name!r}"
    )
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
