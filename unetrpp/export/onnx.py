"""The networks of a model folder as ONNX files for other programs, each compared with PyTorch before it is written."""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from unetrpp.core.devices import find_device
from unetrpp.core.digest import file_digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, to_json, write_bytes, write_folder_atomically, write_json
from unetrpp.core.leftovers import remove_leftovers
from unetrpp.core.progress import progress_bar
from unetrpp.export.bundle import FILE as METADATA
from unetrpp.export.bundle import bundle_metadata
from unetrpp.export.card import FILE as CARD
from unetrpp.export.card import model_card
from unetrpp.export.deployment import FILE, FIRST_STAGE, INPUT, OUTPUT, Deployment, ExportedNetwork, describe
from unetrpp.inference.sliding_window import predicting
from unetrpp.inference.weights import load_network
from unetrpp.model.folder import Checkpoint, ModelFolder
from unetrpp.model.folds import Folds, spell_folds
from unetrpp.networks.epa import use_reference_operators

if TYPE_CHECKING:
    import onnx_ir

LOG = logging.getLogger(__name__)
BATCH = 2  # of the random patches that a network is traced and compared with
TOLERANCE = 1e-3  # relative to the largest logit, or to 1; the rounding errors of deep networks are a tenth of it
NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
USE = f"Any ONNX runtime runs the networks. {FILE} has every step and number from the image to the labels.\n"


def export_onnx(
    model: Path | str,
    output: Path | str,
    *,
    folds: Folds | None = None,
    checkpoint: Checkpoint = "final",
    overwrite: bool = False,
) -> Deployment:
    """Write ``fold_k.onnx`` of every chosen fold and three texts into a new folder, as `unetrpp_export --onnx` does.

    The texts are model.json, metadata.json in the shape of MONAI's bundles, and a model card.

    Of a cascade's second stage, ``first_stage`` in that folder is the export of its first.

    Networks take float32 (batch, C, *patch) with any batch size and give logits at full resolution. The folder appears
    when it is complete. The same call again leaves it as it is.

    Args:
        model: a model folder.
        output: the folder, which must be new or empty.
        folds: as :func:`unetrpp.predict` takes them.
        checkpoint: final, best or latest.
        overwrite: replace a folder of an earlier export.

    Raises:
        UserError: no model folder, an untrained fold, a missing package, a network that cannot be expressed in ONNX, or the
            folder exists and is no such export.
    """
    _require_packages()
    target = Path(output)
    exported_before = (target / FILE).is_file()  # no other folder is ever deleted
    opened = ModelFolder.open(Path(model))
    chosen = opened.choose_folds(folds, checkpoint)
    LOG.info("%s: folds exported: %s", opened.path.resolve().name, spell_folds(chosen))
    if not overwrite and (done := _find_written(target, opened, chosen, checkpoint)) is not None:
        return done

    def fill(folder: Path) -> Deployment:
        return _write(opened, chosen, checkpoint, folder)

    hint = (
        "remove it, give another folder, or replace it with --overwrite" if exported_before else "give another folder"
    )
    return write_folder_atomically(target, fill, replace=overwrite and exported_before, hint=hint)


def _write(model: ModelFolder, folds: Sequence[str], checkpoint: Checkpoint, folder: Path) -> Deployment:
    """All files of the export; those of a first stage, of which prediction takes the final checkpoint, in a folder of their own."""
    networks = []
    with progress_bar("export", len(folds), unit="fold") as bar:
        for fold in folds:
            networks.append(_export_fold(model, fold, checkpoint, folder))
            bar.update()
    if (first := model.first_stage) is not None:
        (folder / FIRST_STAGE).mkdir()
        _write(first, first.source_folds(folds), "final", folder / FIRST_STAGE)
    deployment = describe(model, folds, checkpoint, networks)
    write_json(folder / FILE, deployment)
    for name, content in _texts(model, folds, checkpoint, deployment).items():
        write_bytes(folder / name, content)
    return deployment


def _find_written(folder: Path, model: ModelFolder, folds: Sequence[str], checkpoint: Checkpoint) -> Deployment | None:
    """model.json, where ``folder`` is a whole export of just this: an earlier one may have been killed after its last step."""
    remove_leftovers(folder.parent)
    try:
        found = read_json(folder / FILE, Deployment)
    except UserError:
        return None
    networks = {network.file: network.sha256 for network in found.networks}
    same = found == describe(model, folds, checkpoint, found.networks) and [n.fold for n in found.networks] == [*folds]
    texts = _texts(model, folds, checkpoint, found)
    whole = {path.name for path in folder.iterdir()} - {FIRST_STAGE} == {FILE, *texts, *networks}
    if (first := model.first_stage) is not None:
        whole = whole and _find_written(folder / FIRST_STAGE, first, first.source_folds(folds), "final") is not None
    elif (folder / FIRST_STAGE).exists():
        return None
    if not (same and whole and all((folder / name).read_bytes() == content for name, content in texts.items())):
        return None
    return found if all(file_digest(folder / name).hex() == expected for name, expected in networks.items()) else None


def _texts(
    model: ModelFolder, folds: Sequence[str], checkpoint: Checkpoint, deployment: Deployment
) -> dict[str, bytes]:
    """By name: the files beside the networks and model.json."""
    return {
        CARD: model_card(model, folds, checkpoint, USE).encode(),
        METADATA: to_json(bundle_metadata(model, deployment)),
    }


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError(
            '--onnx needs the packages onnx, onnxscript and onnxruntime; pip install "unetrpp[onnx]"'
        ) from None


def _export_fold(model: ModelFolder, fold: str, checkpoint: Checkpoint, folder: Path) -> ExportedNetwork:
    network = load_network(model, fold, checkpoint, find_device("cpu"))
    architecture = model.architecture(fold)
    random = torch.Generator().manual_seed(0)
    patches = torch.randn(BATCH, architecture.in_channels, *architecture.patch, generator=random)
    with predicting([network]), torch.no_grad():
        expected = network(patches[:1]).numpy()
    content = to_onnx(network, patches)
    found = run_onnx(content, patches[:1].numpy())
    difference, limit = float(np.abs(found - expected).max()), TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= limit:
        raise UserError(
            f"the logits of fold {fold} differ by {difference:.2g} from PyTorch's, more than {limit:.2g}, so nothing was "
            "written; try other versions of torch and onnxruntime"
        )
    name = f"fold_{fold}.onnx"
    write_bytes(folder / name, content)
    digest = hashlib.sha256(content).hexdigest()
    return ExportedNetwork(fold=fold, file=name, sha256=digest, largest_difference=difference)


def to_onnx(network: nn.Module, patches: Tensor) -> bytes:
    """``network`` in evaluation mode, without deep supervision, as an ONNX file for any batch size.

    EPA is exported in its published form, step by step, which needs fewer and more common operators than the rearranged
    one.

    Args:
        patches: (B, C, *patch); only their shape matters.

    Raises:
        UserError: PyTorch cannot express it in ONNX, or wants a newer onnxscript.
    """
    use_reference_operators(network)
    batch = {0: torch.export.Dim("batch", min=1)}
    try:
        with predicting([network]), _without_warnings():
            program = torch.onnx.export(
                network,
                (patches,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=(batch,),
                verbose=False,
            )
    except ModuleNotFoundError as error:  # such as onnx_ir, which the exporter of newer versions needs
        raise UserError(
            f"PyTorch {torch.__version__} needs the module {error.name} for ONNX; pip install -U onnxscript"
        ) from error
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"PyTorch {torch.__version__} cannot write this network as ONNX ({reason}); try another version of it"
        ) from error
    assert program is not None
    _remove_sources(program.model)
    content: bytes = program.model_proto.SerializeToString()
    return content


def run_onnx(content: bytes, patches: np.ndarray) -> np.ndarray:
    """Logits (B, K, *patch) of float32 ``patches`` (B, C, *patch), computed on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run([OUTPUT], {INPUT: patches})[0]
    return logits


def _remove_sources(model: "onnx_ir.Model") -> None:
    """Remove what the exporter records at every node: lines of source code and their paths on this machine."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide the exporter's warnings about packages that are not needed here and about its own deprecated calls."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
