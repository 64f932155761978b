"""Images in and out: reading, writing, geometry, formats, DICOM."""
