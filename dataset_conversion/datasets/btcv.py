"""BTCV: 30 abdominal CT with 13 organs, all scored, and the 20 test scans of the challenge.

"Multi-Atlas Labeling Beyond the Cranial Vault" (MICCAI 2015), Synapse project syn3193805, file Abdomen/RawData.zip, after
registration. --protocol btcv has the 24 training and 6 held-out scans of UNETR's and Swin UNETR's lists. The same scans with
8 organs and another division are `unetrpp_convert synapse`.

    RawData/Training/img/img0001.nii.gz ... img0010, img0021 ... img0040      30 scans; there are no 0011 to 0020
    RawData/Training/label/label0001.nii.gz ...
    RawData/Testing/img/img0061.nii.gz ... img0080                            20 scans without labels: test cases

Labels: 1 spleen, 2 right kidney, 3 left kidney, 4 gallbladder, 5 esophagus, 6 liver, 7 stomach, 8 aorta, 9 inferior vena cava,
10 portal vein and splenic vein, 11 pancreas, 12 right adrenal gland, 13 left adrenal gland.

Traps:
- Figures "on BTCV" are of different cases: UNETR++ and UNETR report the challenge's server, which scores the 20 scans of
  Testing; others score the 6 held-out scans, or cross-validate.
- Labels of at most 8 organs, and slices preprocessed for TransUNet, are refused, as `unetrpp_convert synapse --help` says.
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

PROTOCOLS = ("btcv",)
ABOUT = About(
    title="BTCV (Beyond the Cranial Vault, abdomen): CT with 13 organs",
    modality="CT",
    cases="30 labelled, 20 for the challenge's server",
    size="about 1.5 GB (not verified)",
    origin="https://www.synapse.org/#!Synapse:syn3193805 (Abdomen/RawData.zip)",
    licence="after registration, terms of the Synapse project",
    name="BTCV",
)


def add_options(parser: "Parser") -> None:
    add_protocols(parser, *PROTOCOLS)


def read(folder: Path, *, protocol: str | None = None, validate_on_test: bool = False) -> Source:
    """The 30 labelled scans, and the others as test cases.

    Raises:
        UserError: another layout or numbering, or the protocol does not fit.
    """
    found = read_abdomen(folder, testing=True)
    return with_protocol(found, protocol, known=PROTOCOLS, validate_on_test=validate_on_test)
