"""Packaging: the folders at the root become one package. pyproject.toml holds everything else, such as the commands."""

from setuptools import setup

# The real folders are at the repository's root; in site-packages all of them are below `unetrpp`.
# tests/test_packaging.py compares this list with the folders on disk.
PACKAGE_DIR = {
    "unetrpp": "unetrpp",
    "unetrpp.dataset_conversion": "dataset_conversion",
    "unetrpp.planners": "planners",
    "unetrpp.trainers": "trainers",
}
PACKAGES = [
    "unetrpp",
    "unetrpp.augmentation",
    "unetrpp.cli",
    "unetrpp.core",
    "unetrpp.dataset",
    "unetrpp.evaluation",
    "unetrpp.export",
    "unetrpp.export.nnunet",
    "unetrpp.inference",
    "unetrpp.io",
    "unetrpp.io.readers",
    "unetrpp.losses",
    "unetrpp.model",
    "unetrpp.napari",
    "unetrpp.networks",
    "unetrpp.networks.cpu_kernels",
    "unetrpp.patches",
    "unetrpp.plans",
    "unetrpp.plotting",
    "unetrpp.preprocessing",
    "unetrpp.report",
    "unetrpp.service",
    "unetrpp.dataset_conversion",
    "unetrpp.dataset_conversion.annotations",
    "unetrpp.dataset_conversion.bids",
    "unetrpp.dataset_conversion.datasets",
    "unetrpp.dataset_conversion.dicom",
    "unetrpp.dataset_conversion.own_folder",
    "unetrpp.planners",
    "unetrpp.planners.measure",
    "unetrpp.planners.report",
    "unetrpp.planners.rules",
    "unetrpp.trainers",
]

setup(
    packages=PACKAGES,
    package_dir=PACKAGE_DIR,
    include_package_data=False,  # only what stands here
    package_data={
        "unetrpp": ["py.typed", "__init__.pyi"],
        "unetrpp.evaluation": ["protocols/*.json"],
        "unetrpp.napari": ["napari.yaml"],
        "unetrpp.report": ["templates/*.html", "templates/*.js"],
        "unetrpp.export": ["templates/*.md"],
    },
)
