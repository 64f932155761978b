"""The napari plugin: segment image layers with a model. ``napari.yaml`` says what it contributes; ``panel`` alone needs napari."""
