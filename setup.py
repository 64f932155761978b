"""Packaging: the folders at the root become one package, and every console command is one line here."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent

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
    "unetrpp.networks",
    "unetrpp.networks.cpu_kernels",
    "unetrpp.patches",
    "unetrpp.plans",
    "unetrpp.preprocessing",
    "unetrpp.report",
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

COMMANDS = [
    "unetrpp = unetrpp.__main__:main",
    "unetrpp_convert = unetrpp.dataset_conversion.convert:main",
    "unetrpp_plan_and_preprocess = unetrpp.planners.plan_and_preprocess:main",
    "unetrpp_plan_report = unetrpp.planners.plan_report:main",
    "unetrpp_train = unetrpp.trainers.train:main",
    "unetrpp_predict = unetrpp.cli.predict:main",
    "unetrpp_evaluate = unetrpp.cli.evaluate:main",
    "unetrpp_find_best = unetrpp.cli.find_best:main",
    "unetrpp_report = unetrpp.cli.report:main",
    "unetrpp_attention_report = unetrpp.cli.attention_report:main",
    "unetrpp_export = unetrpp.cli.export_model:main",
    "unetrpp_import = unetrpp.cli.import_model:main",
    "unetrpp_cost = unetrpp.cli.cost:main",
    "unetrpp_demo = unetrpp.cli.demo:main",
    "unetrpp_doctor = unetrpp.cli.doctor:main",
]

DICOM = ["highdicom>=0.25"]
ONNX = ["onnx>=1.17", "onnxscript>=0.2", "onnxruntime>=1.20"]


def version() -> str:
    """The version, which only unetrpp/__init__.py states."""
    for line in (ROOT / "unetrpp" / "__init__.py").read_text(encoding="utf8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("unetrpp/__init__.py has no __version__ line")


setup(
    name="unetrpp",
    version=version(),
    description="Self-configuring medical image segmentation with UNETR++ and focal attention",
    long_description=(ROOT / "README.md").read_text(encoding="utf8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
    python_requires=">=3.11",
    packages=PACKAGES,
    package_dir=PACKAGE_DIR,
    package_data={
        "unetrpp": ["py.typed", "__init__.pyi"],
        "unetrpp.evaluation": ["protocols/*.json"],
        "unetrpp.report": ["templates/*.html"],
        "unetrpp.export": ["templates/*.md"],
    },
    install_requires=[
        "torch>=2.5",
        "numpy>=1.26",
        "scipy>=1.11",
        "SimpleITK>=2.3",
        "nibabel>=5.2",
        "tifffile>=2024.2",
        "pillow>=10.3",
        "batchgenerators>=0.25.1",
        "acvl-utils>=0.2.3",
        "threadpoolctl>=3.0",
        "matplotlib>=3.10",
        "msgspec>=0.18",
        "Jinja2>=3.1",
        "pydicom>=3.0",
        "psutil>=5.9",
        "packaging>=23",
        "blosc2>=3.0",
        "tqdm>=4.66",
    ],
    extras_require={
        "tensorboard": ["tensorboard>=2.15"],
        "dicom": DICOM,
        "onnx": ONNX,
        "test": [
            *DICOM,
            *ONNX,
            "pytest>=8",
            "pytest-xdist>=3.6",
            "batchgeneratorsv2>=0.3.6",
            "surface-distance>=0.1",
            "scikit-learn>=1.3",
            "hypothesis>=6.100",
            "distributed>=2025.1",
            "ruff>=0.6",
            "mypy>=1.11",
            "import-linter>=2.0",
        ],
    },
    entry_points={"console_scripts": COMMANDS},
)
