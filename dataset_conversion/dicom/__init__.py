"""What `datasets/dicom.py` needs: a tree of files as series and segmentations, and what is made from them."""
