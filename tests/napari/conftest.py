"""napari's tests need no screen, and no file of the user's."""

import os

# Set before Qt and napari are imported.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("NAPARI_CONFIG", "")  # neither read nor write the settings of the user
