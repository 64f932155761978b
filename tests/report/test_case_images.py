"""Images of a case: read as they are, and refused where they lie on different grids."""

import msgspec
import numpy as np
import pytest

from tests.helpers.pictures import TURNED, asymmetric_case, reference_of
from unetrpp.core.errors import UserError
from unetrpp.io.images import Volume, write_image, write_segmentation
from unetrpp.report.case_images import read_case_images


def test_all_parts_are_read_and_have_to_be_on_one_grid(tmp_path):
    case = asymmetric_case()
    image, prediction, reference, entropy = (tmp_path / f"{name}.nii.gz" for name in "iprm")
    write_image(image, case.image)
    write_segmentation(prediction, case.prediction, TURNED)
    write_segmentation(reference, reference_of(case), TURNED)
    write_image(entropy, Volume(case.maps["entropy"][None].astype(np.float32), TURNED))
    found = read_case_images([image], prediction, reference, maps={"entropy": entropy})
    np.testing.assert_array_equal(found.image.array, case.image.array)
    np.testing.assert_array_equal(found.prediction, case.prediction)
    np.testing.assert_array_equal(found.reference, reference_of(case))
    np.testing.assert_allclose(found.maps["entropy"], case.maps["entropy"], rtol=1e-6)
    assert read_case_images([image], prediction).reference is None
    moved = msgspec.structs.replace(TURNED, origin_xyz_mm=(4.0, 9.0, 7.0))
    write_segmentation(reference, reference_of(case), moved)
    with pytest.raises(UserError, match=r"r\.nii\.gz and the image are on different grids"):
        read_case_images([image], prediction, reference)
