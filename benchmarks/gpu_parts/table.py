"""The results as a text table, and as JSON to send in: versions and devices, and nothing about persons."""

import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence

import torch

from benchmarks.gpu_parts.cells import Outcome, Row
from unetrpp import __version__
from unetrpp.core.machine import usable_cores
from unetrpp.core.text import GIGABYTE, text_table

FORMAT = 1
UNITS = {  # of the names of values: by their ends
    "_gb": "{:.2f} GB",
    "_ms": "{:.2f} ms",
    "_a_s": "{:.1f}/s",
    "_s": "{:.1f} s",
}


def shown(values: dict[str, float]) -> str:
    """
    >>> shown({"ms": 31.23, "busy": 0.934, "reserved_gb": 2.4, "batches_a_s": 40.0, "batch": 2.0})
    '31.2 ms, busy 93%, reserved 2.40 GB, batches 40.0/s, batch 2'
    """
    return ", ".join(_shown(name, value) for name, value in values.items())


def _shown(name: str, value: float) -> str:
    if name == "ms":
        return f"{value:.1f} ms"
    if name.endswith("busy"):
        return f"{name.replace('_', ' ')} {value:.0%}"
    for end, form in UNITS.items():
        if name.endswith(end):
            return f"{name.removesuffix(end).replace('_', ' ')} {form.format(value)}"
    return f"{name} {value:g}"


def table(rows: Sequence[Row]) -> str:
    header = ("part", "what", "measured", "verdict")
    lines = [(row.part, row.what, shown(row.values), verdict(row)) for row in rows if row.outcome != "skipped"]
    text = text_table([header, *lines], "l")
    skipped = [f"{row.part}: {row.what}" for row in rows if row.outcome == "skipped"]
    if skipped:
        text += "\n\nnot measured, because there was no time left (--minutes gives more): " + "; ".join(skipped)
    counts = Counter(row.outcome for row in rows)
    words: dict[Outcome, str] = {"met": "goals met", "missed": "missed", "failed": "failed", "skipped": "not measured"}
    return f"{text}\n\n" + ", ".join(f"{counts[outcome]} {word}" for outcome, word in words.items())


def verdict(row: Row) -> str:
    name = "" if row.outcome == "no goal" else row.outcome.upper()
    return ": ".join(part for part in (name, row.why) if part)


def environment(device: torch.device) -> dict[str, object]:
    """Versions, and the device and the processor that were measured. No names of the machine, of users or of folders."""
    found: dict[str, object] = {
        "unetrpp": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "allocator": os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF"),
        "device": str(device),
    }
    if device.type != "cuda":
        return found
    properties = torch.cuda.get_device_properties(device)
    return found | {
        "gpu": properties.name,
        "gpu_memory_gb": round(properties.total_memory / GIGABYTE, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        **driver(),
    }


def driver() -> dict[str, object]:
    """What nvidia-smi says of the first GPU that CUDA may use; memory and work of others make the figures worse."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    names = ("driver_version", "memory.used", "utilization.gpu", "power.limit", "clocks.max.sm")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    call = [tool, f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    call += [f"--id={visible.split(',')[0]}"] if visible else []
    answer = subprocess.run(call, capture_output=True, text=True, check=False).stdout.splitlines()
    return dict(zip(names, answer[0].split(", "), strict=False)) if answer else {}


def as_json(rows: Sequence[Row], found: dict[str, object], minutes: float) -> dict[str, object]:
    return {"format": FORMAT, "environment": found, "minutes": minutes, "rows": rows}
