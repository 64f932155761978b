"""UNETR++ and focal attention as a self-configuring segmentation pipeline.

Importing this package costs nothing: the public names below are loaded when they are first used (PEP 562).
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# public name -> module that defines it
_PUBLIC = {
    "Geometry": "unetrpp.io.geometry",
    "Plans": "unetrpp.plans.plans",
    "Predictor": "unetrpp.inference.predictor",
    "Volume": "unetrpp.io.images",
    "build_network": "unetrpp.networks.build",
    "read_image": "unetrpp.io.images",
}

__all__ = ["Geometry", "Plans", "Predictor", "Volume", "__version__", "build_network", "read_image"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'unetrpp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
