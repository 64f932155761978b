"""The networks of a model folder as ONNX files for other programs, each compared with PyTorch before it is kept."""

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_bytes, write_json
from unetrpp.export.card import model_card
from unetrpp.export.deployment import FILE, INPUT, OUTPUT, Deployment, ExportedNetwork, describe
from unetrpp.inference.sliding_window import predicting
from unetrpp.inference.weights import load_network
from unetrpp.model.folder import Checkpoint, ModelFolder
from unetrpp.networks.epa import use_reference_operators

BATCH = 2  # of the random patches that a network is traced and compared with
TOLERANCE = 1e-3  # of the largest logit, or of 1: rounding of deep networks stays a tenth of it
CHATTER = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
USE = f"Any ONNX runtime runs the networks. {FILE} has every step and number from the image to the labels.\n"


def export_onnx(
    path: Path, target: Path, folds: str | Sequence[str] = "all", checkpoint: Checkpoint = "final"
) -> Deployment:
    """Write ``fold_k.onnx`` of every chosen fold, model.json and the model card into a new folder ``target``.

    Networks take float32 (batch, C, *patch) of any batch and give logits at full resolution. The folder appears when it
    is complete.

    Raises:
        UserError: no model folder, an untrained fold, a cascade's second stage, a missing package, a network that cannot be
            expressed in ONNX, or the folder exists.
    """
    _require_packages()
    model = ModelFolder.open(path)
    chosen = model.choose_folds(folds, checkpoint)
    if model.configuration.first_stage is not None:
        raise UserError(
            f"{path} is a cascade's second stage, which needs another network's segmentation; "
            "give a model of one stage, such as 3d_fullres"
        )
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise UserError(f"{target} exists already; remove it or give another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export.") as folder:
        made = Path(folder) / target.name
        networks = [_export_fold(model, fold, checkpoint, made) for fold in tqdm(chosen, "export", disable=None)]
        deployment = describe(model, chosen, checkpoint, networks)
        write_json(made / FILE, deployment)
        write_bytes(made / "MODEL_CARD.md", model_card(model, chosen, checkpoint, USE).encode())
        if target.exists():
            target.rmdir()
        made.replace(target)
    return deployment


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
    network = load_network(model, fold, checkpoint, torch.device("cpu"))
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
    """``network`` in evaluation mode, without deep supervision, as an ONNX file for any batch of patches like these.

    EPA is written step by step as published: fewer and commoner operators than the rearranged form.

    Raises:
        UserError: PyTorch cannot express it in ONNX.
    """
    use_reference_operators(network)
    batch = {0: torch.export.Dim("batch", min=1)}
    try:
        with predicting([network]), _quiet():
            program = torch.onnx.export(
                network,
                (patches,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=(batch,),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"PyTorch {torch.__version__} cannot write this network as ONNX ({reason}); try another version of it"
        ) from error
    assert program is not None
    _forget_sources(program.model)
    return program.model_proto.SerializeToString()


def run_onnx(content: bytes, patches: np.ndarray) -> np.ndarray:
    """Logits (B, K, *patch) of float32 ``patches`` (B, C, *patch), computed on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: patches})[0]


def _forget_sources(model: Any) -> None:
    """Take out what the exporter notes at every node: lines of source code and their place on this machine."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of packages that nobody needs here and of its own deprecated calls."""
    loggers = [logging.getLogger(name) for name in CHATTER]
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
