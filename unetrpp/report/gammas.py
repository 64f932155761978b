"""The focal gammas of a fold over the epochs in which they were learned, as one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unetrpp.core.files import write_atomically


def draw_gammas(epochs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Every module's gamma over the epochs of metrics.jsonl; the curves of dropped modules end at the judgement."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    plot = figure.subplots()
    dropped = {v["module"] for e in epochs for v in e.get("judgement", ()) if not v["kept"]}
    for i, place in enumerate(epochs[0]["gammas"]):
        points = [(e["epoch"], e["gammas"][place]) for e in epochs if place in e["gammas"]]
        x, y = zip(*points, strict=True)
        name, style = (f"{place} (dropped)", "dotted") if place in dropped else (place, "solid")
        plot.plot(x, y, label=name, linestyle=style, color=f"C{i % 10}", marker="." if len(x) < 30 else "")
    for entry in epochs:
        if "judgement" in entry:
            plot.axvline(entry["epoch"], color="gray", linewidth=1)
            plot.annotate("judged", (entry["epoch"], 1), xycoords=("data", "axes fraction"), va="top", fontsize="small")
    plot.set(xlabel="epoch", ylabel="focal gamma", ylim=(0, None))
    plot.grid(alpha=0.3)
    plot.legend(fontsize="small", ncols=2)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=90))
