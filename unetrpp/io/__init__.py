"""Reading and writing images: formats, geometry, integrity checks, NIfTI headers, DICOM."""
