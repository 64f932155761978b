"""Readers of the file formats, one module each: ``read`` gives the array (C, Z, Y, X) and its Geometry."""
