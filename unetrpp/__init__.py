"""UNETR++ and focal attention as a self-configuring segmentation pipeline.

Importing this package loads nothing else: the public names below are imported when they are first used (PEP 562).
``__init__.pyi`` beside this file tells type checkers and editors what they are.
"""

import importlib

__version__ = "0.1.0"

# public name -> module that defines it
_PUBLIC = {
    "Ensemble": "unetrpp.inference.ensemble",
    "Geometry": "unetrpp.io.geometry",
    "ModelFolder": "unetrpp.model.folder",
    "Planner": "unetrpp.planners.planner",
    "Predictor": "unetrpp.inference.predictor",
    "Segmentation": "unetrpp.inference.segmentation",
    "Trainer": "unetrpp.trainers.trainer",
    "UserError": "unetrpp.core.errors",
    "Volume": "unetrpp.io.images",
    "calibrate_model": "unetrpp.evaluation.calibration",
    "choose_thresholds": "unetrpp.evaluation.operating_points",
    "compare_models": "unetrpp.evaluation.model_comparison",
    "build_network": "unetrpp.networks.build",
    "convert_dataset": "unetrpp.dataset_conversion.conversion",
    "convert_folder": "unetrpp.dataset_conversion.folder",
    "evaluate": "unetrpp.evaluation.evaluate",
    "evaluate_model": "unetrpp.evaluation.cross_validation",
    "export_model": "unetrpp.export.model_zip",
    "export_onnx": "unetrpp.export.onnx",
    "find_best": "unetrpp.evaluation.find_best",
    "import_model": "unetrpp.export.model_zip",
    "import_nnunet": "unetrpp.export.nnunet.models",
    "import_released": "unetrpp.export.released",
    "plan_and_preprocess": "unetrpp.planners.pipeline",
    "predict": "unetrpp.inference.predict",
    "read_image": "unetrpp.io.images",
    "read_plans": "unetrpp.plans.plans",
    "train": "unetrpp.trainers.folds",
    "write_attention_report": "unetrpp.report.attention_report",
    "write_plan_report": "unetrpp.planners.report.write",
    "write_prediction_report": "unetrpp.report.prediction_report",
    "write_report": "unetrpp.report.model_report",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'unetrpp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
