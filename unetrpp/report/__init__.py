"""Pages and pictures for people: reports of a model and of its attention, overlays, learning curves."""
