"""Names of label values in the files of 3D Slicer and Connectome Workbench, and none elsewhere."""

import nibabel
import numpy as np
import SimpleITK as sitk

from unetrpp.io.label_names import label_names

XML = """<?xml version="1.0"?><CaretExtension><VolumeInformation Index="0"><LabelTable>
<Label Key="0" Red="0" Green="0" Blue="0" Alpha="0">???</Label>
<Label Key="7" Red="1" Green="0" Blue="0" Alpha="1">CEREBELLUM_LEFT</Label>
</LabelTable></VolumeInformation></CaretExtension>"""
ARRAY = np.zeros((3, 4, 5), np.uint8)


def test_segments_of_slicer(tmp_path):
    image = sitk.GetImageFromArray(ARRAY)
    for key, value in {
        "Segment0_Name": "Liver, left",
        "Segment0_LabelValue": "4",
        "Segment1_Name": "Tumour",
        "Segment1_LabelValue": "2",
        "Segment1_ID": "Segment_2",
    }.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(tmp_path / "a.seg.nrrd"), True)
    assert label_names(tmp_path / "a.seg.nrrd") == {4: "Liver, left", 2: "Tumour"}


def test_the_label_table_of_workbench(tmp_path):
    for name in ("a.nii", "a.nii.gz"):
        image = nibabel.Nifti1Image(ARRAY, np.eye(4))
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"of another program"))
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(30, XML.encode()))
        nibabel.save(image, tmp_path / name)
        assert label_names(tmp_path / name) == {0: "???", 7: "CEREBELLUM_LEFT"}


def test_files_without_names(tmp_path):
    for name in ("a.nii.gz", "a.nrrd", "a.mha", "a.tif"):
        sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(tmp_path / name))
        assert label_names(tmp_path / name) == {}
    (tmp_path / "b.nii.gz").write_bytes(b"no image")
    assert label_names(tmp_path / "b.nii.gz") == {}
