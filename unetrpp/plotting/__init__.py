"""Pictures with matplotlib: charts, slices of images with labels on them, colours of classes."""
