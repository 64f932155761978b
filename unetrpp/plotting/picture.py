"""A matplotlib figure that a notebook shows where it is a cell's value, whether or not pyplot is in use."""

import io

from matplotlib.figure import Figure

DPI = 100  # of the pictures that notebooks show


class Picture(Figure):
    """A figure of matplotlib's object interface: no window, no global state. A script saves it with ``savefig``."""

    def _repr_png_(self) -> bytes:
        """What IPython shows."""
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=DPI)
        return content.getvalue()
