"""A model as a service over HTTP: an image in, its segmentation and what is known of it back. Needs the extra `serve`."""
