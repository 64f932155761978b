"""What commands give with ``--json`` that is not what one function returns (docs/json.md)."""

from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.parallel import CaseError
from unetrpp.evaluation.cross_validation import CrossValidation
from unetrpp.evaluation.operating_points import OperatingPoint
from unetrpp.evaluation.summary import Summary
from unetrpp.export.deployment import Deployment
from unetrpp.inference.calibration import Calibration
from unetrpp.inference.selection import Selection
from unetrpp.networks.cost import Cost


@dataclass(frozen=True)
class Scored:
    """Of unetrpp_evaluate PREDICTIONS REFERENCES."""

    summary: Summary  # the content of summary.json; without cases where none was scored, and then there is no such file
    errors: tuple[CaseError, ...]


@dataclass(frozen=True)
class ModelScores:
    """Of unetrpp_evaluate --model."""

    cross_validation: CrossValidation  # the content of crossval_summary.json
    calibration: (
        Calibration | None
    )  # the content of calibration.json; None where there is none, or one that is out of date
    thresholds: dict[str, OperatingPoint]  # by class of --recall and --precision


@dataclass(frozen=True)
class Chosen:
    """Of unetrpp_find_best."""

    file: Path  # inference.json
    selection: Selection  # its content


@dataclass(frozen=True)
class Page:
    """Of unetrpp_report."""

    page: Path


@dataclass(frozen=True)
class AttentionPage:
    """Of unetrpp_attention_report."""

    page: Path
    modules: list[list[str]]  # rows of its table, the header first


@dataclass(frozen=True)
class Exported:
    """Of unetrpp_export."""

    files: tuple[str, ...]  # paths, or the address on the hub
    deployment: Deployment | None = None  # of --onnx: the content of model.json


@dataclass(frozen=True)
class Imported:
    """Of unetrpp_import."""

    models: tuple[Path, ...]  # model folders


@dataclass(frozen=True)
class NetworkCost:
    """Of unetrpp_cost, one for every line of its table."""

    configuration: str
    network: str
    patch: tuple[int, ...]
    cost: Cost


@dataclass(frozen=True)
class Demo:
    """Of unetrpp_demo."""

    model: Path
    report: Path
    predictions: Path
    overlays: Path
    mean_dice: float | None
