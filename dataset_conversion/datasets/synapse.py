"""Synapse multi-organ: 30 abdominal CT with 13 organs, as TransUNet, nnFormer and UNETR++ divide them.

The labelled scans of "Multi-Atlas Labeling Beyond the Cranial Vault" (MICCAI 2015), Synapse project syn3193805, file
Abdomen/RawData.zip, after registration. The benchmark trains on 18 scans and scores 8 organs on 12 others:
--protocol synapse. The same scans with all 13 organs scored are BTCV (`unetrpp_convert btcv`).

    RawData/Training/img/img0001.nii.gz ... img0010, img0021 ... img0040      30 scans; there are no 0011 to 0020
    RawData/Training/label/label0001.nii.gz ...
    RawData/Testing/img/img0061.nii.gz ... img0080                            20 scans without labels, not converted

Labels: 1 spleen, 2 right kidney, 3 left kidney, 4 gallbladder, 5 esophagus, 6 liver, 7 stomach, 8 aorta, 9 inferior vena cava,
10 portal vein and splenic vein, 11 pancreas, 12 right adrenal gland, 13 left adrenal gland. Scored: 1, 2, 3, 4, 6, 7, 8, 11.

Traps:
- TransUNet's preprocessed download (train_npz, test_vol_h5) is refused: its intensities are windowed to 0-1, it has no voxel
  sizes, and its 8 organs are numbered 1 aorta, 2 gallbladder, 3 left kidney, 4 right kidney, 5 liver, 6 pancreas, 7 spleen,
  8 stomach. Preprocessors after CASCADE number them 1 spleen, 2 right kidney, 3 left kidney, 4 gallbladder, 5 liver,
  6 stomach, 7 aorta, 8 pancreas. Labels of at most 8 values are refused, because they do not tell which they are.
- Published figures are of the 12 cases on which the published code also chose its checkpoints; docs/benchmarks.md.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.dataset_conversion.abdomen import read_abdomen
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.protocols import add_options as add_protocols
from unetrpp.dataset_conversion.protocols import with_protocol
from unetrpp.dataset_conversion.source import Source

if TYPE_CHECKING:
    from unetrpp.core.command_line import Parser

PROTOCOLS = ("synapse",)
ABOUT = About(
    title="Synapse multi-organ: abdominal CT with 13 organs, divided as in TransUNet, nnFormer and UNETR++",
    modality="CT",
    cases="30 labelled",
    size="about 1.5 GB (not verified)",
    origin="https://www.synapse.org/#!Synapse:syn3193805 (Abdomen/RawData.zip)",
    licence="after registration, terms of the Synapse project",
    name="Synapse",
)


def add_options(parser: "Parser") -> None:
    add_protocols(parser, *PROTOCOLS)


def read(folder: Path, *, protocol: str | None = None, validate_on_test: bool = False) -> Source:
    """The 30 labelled scans.

    Raises:
        UserError: another layout or numbering, or the protocol does not fit.
    """
    found = read_abdomen(folder, testing=False)
    return with_protocol(found, protocol, known=PROTOCOLS, validate_on_test=validate_on_test)
