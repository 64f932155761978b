"""Colours of classes, folds and table cells."""

from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb

ACCENT, MUTED = "#0f766e", "#64748b"
UNDEFINED = "#e5e5e5"  # of a table cell without a value

# Any two differ by at least 23 in CIE 1976 L*a*b*, and all stand out on grey images. The first eight differ by 32.
PALETTE = (
    *("#ff3b30", "#00c2ff", "#ffd60a", "#34c759", "#ff5ce1", "#ff9500", "#7d7aff", "#00e5b0"),
    *("#b46978", "#78782d", "#00ff00", "#b400ff", "#ff0078", "#ffe1a5", "#e1c3ff", "#b4f02d"),
    *("#1e8778", "#b45a2d", "#4b78c3", "#c3f087", "#78f0f0", "#a55aa5", "#96a500", "#ff78b4"),
    *("#ff7878", "#78b478", "#b48700", "#3c8700", "#f0a587", "#b45aff", "#ff00f0", "#2dff69"),
    *("#e196ff", "#f0e169", "#ff783c", "#4bc300", "#e11e96", "#ffb45a", "#f0a5c3", "#a5784b"),
)
LINES = ("solid", "dashdot", (0, (6, 1)))  # of the first 40 classes, the next 40, ...

LineStyle = str | tuple[int, tuple[int, ...]]

# From low (orange) over pale to high (blue): readable under black text, and by people who cannot tell red from green.
_SHADES = LinearSegmentedColormap.from_list("shades", ["#f4a582", "#fdf0e3", "#d1e5f0", "#92c5de"])


def color(i: int) -> tuple[float, float, float]:
    """The colour (red, green, blue) of class ``i``; they repeat after 40, with another :func:`line_style`."""
    return to_rgb(PALETTE[i % len(PALETTE)])


def line_style(i: int) -> LineStyle:
    """The style of class ``i``'s lines where its colour alone would not tell it from an earlier class."""
    return LINES[i // len(PALETTE) % len(LINES)]


def shade(value: float | None, low: float, high: float) -> str:
    """The colour (#rrggbb) of a table cell between ``low``, the worst value, and ``high``, the best one."""
    if value is None:
        return UNDEFINED
    return to_hex(_SHADES(0.5 if low == high else (value - low) / (high - low)))
