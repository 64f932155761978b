"""Names of channels that the files tell: colours of photographs, the modality of DICOM, and no guess from intensities."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.dicom_files import write_series
from tests.helpers.source_folder import write
from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.channels import inferred_channels
from unetrpp.dataset_conversion.source import SourceCase

RNG = np.random.default_rng(13)


def picture(path, *shape):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, shape).astype(np.uint8)).save(path)
    return path


def series(path, modality):
    write_series(path, RNG.integers(0, 200, (3, 6, 8)).astype(np.uint16), Modality=modality)
    return path


def cases(*images):
    return [
        SourceCase(f"c{i}", of_case if isinstance(of_case, tuple) else (of_case,)) for i, of_case in enumerate(images)
    ]


def test_photographs_are_in_colour_or_gray(tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"no image")
    colour, gray = picture(tmp_path / "a.png", 4, 5, 3), picture(tmp_path / "b.png", 4, 5)
    assert inferred_channels(cases(tmp_path / "damaged.png", colour)) == ("R", "G", "B")
    assert inferred_channels(cases(gray, gray)) == ("gray",)
    with pytest.raises(
        UserError, match=r"no image of 1 can be read, the first because of damaged.png cannot be read as an image"
    ):
        inferred_channels(cases(tmp_path / "damaged.png"))


def test_dicom_series_say_their_modality(tmp_path):
    ct, pet, mr = (series(tmp_path / name, name) for name in ("CT", "PT", "MR"))
    assert inferred_channels(cases(ct, ct)) == ("CT",)
    assert inferred_channels(cases((ct, pet))) == ("CT", "PET")
    with pytest.raises(UserError, match=r"several modalities \(c0 is CT and c1 is MR\)"):
        inferred_channels(cases(ct, mr))
    with pytest.raises(UserError, match="two channels are MR; name them with --channel"):
        inferred_channels(cases((mr, mr)))


def test_nothing_is_guessed_from_intensities(tmp_path):
    write(tmp_path / "ct.nii.gz", np.linspace(-1000, 2000, 60).reshape(3, 4, 5).astype(np.float32))
    with pytest.raises(UserError, match="do not say what their channels are; give --channel"):
        inferred_channels(cases(tmp_path / "ct.nii.gz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="do not say what their channels are"):
        inferred_channels(cases(tmp_path / "empty"))
