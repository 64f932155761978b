"""Checks of matplotlib figures: whether text is cut or overlaps."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def visible_texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def require_no_cut_text(figure: Figure) -> None:
    """Draw the figure and check that every text lies inside it and that no two texts of one kind overlap."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    whole = figure.bbox
    names = {text: text.get_window_extent(renderer) for text in drawn_texts(figure)}
    for text, box in names.items():
        inside = box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1 and box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1
        assert inside, f"{text.get_text()!r} is cut: {box} in {whole}"
    for axes in figure.axes:
        labels = [names[text] for text in axes.get_yticklabels() if text in names]
        require_apart(labels)
        require_apart([names[text] for text in axes.get_xticklabels() if text in names])
        frame = axes.get_window_extent(renderer)
        assert all(box.x1 <= frame.x0 + 1 or box.x0 >= frame.x1 - 1 for box in labels), "a name crosses the axis"
    for legend in [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()))]:
        require_apart([names[text] for text in legend.get_texts()])
        box = legend.get_window_extent(renderer)
        assert not any(
            box.expanded(0.95, 0.95).overlaps(axes.get_window_extent(renderer)) for axes in figure.axes if axes.axison
        )


def drawn_texts(figure: Figure) -> list[Text]:
    """The visible texts; labels of ticks that lie outside their axis are not drawn."""
    hidden = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not axes.axison or not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    return [text for text in visible_texts(figure) if text not in hidden]


def require_apart(boxes: list[Bbox]) -> None:
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert not one.expanded(0.9, 0.9).overlaps(other.expanded(0.9, 0.9)), f"{one} overlaps {other}"
