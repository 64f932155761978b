"""Seconds and memory of the UNETR++ presets, compared with a plain reference without any optimisation.

    python benchmarks/network.py [--presets synapse acdc] [--batch 2] [--rounds 3] [--device cpu] [--precision fp32]
    python benchmarks/network.py --presets synapse --device cuda --precision bf16 --compile

Both get the same weights, and their outputs are compared first. Then they run in turn, in every round in new processes;
ratios are medians over the rounds. On a CPU our process keeps freed memory, as unetrpp_train and unetrpp_predict do; on
a GPU cuDNN times its kernels for both, as in training. --compile compiles ours only.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 5e-3  # of the largest logit, in float32: the released code itself is off by up to 1e-3


def networks(preset_name: str) -> tuple[nn.Module, nn.Module]:
    """Ours and the reference, with equal weights, deep supervision on."""
    from benchmarks.reference_unetrpp import ReferenceUNETRPP
    from unetrpp.networks.build import build_network
    from unetrpp.networks.presets import preset
    from unetrpp.networks.released import convert_state

    torch.manual_seed(0)
    architecture = preset(preset_name)
    reference = ReferenceUNETRPP(architecture)
    ours = build_network(architecture)
    ours.load_state_dict(convert_state(reference.state_dict(), architecture))
    return ours, reference


def batch_of(preset_name: str, batch: int, device: str) -> Tensor:
    from unetrpp.networks.presets import preset

    architecture = preset(preset_name)
    return torch.randn(batch, architecture.in_channels, *architecture.patch, device=device)


def largest_difference(preset_name: str) -> float:
    """Largest difference of the heads in evaluation mode, as a share of the largest logit."""
    ours, reference = networks(preset_name)
    x = batch_of(preset_name, 1, "cpu")
    with torch.no_grad():
        pairs = list(zip(ours.eval()(x), reference.eval()(x), strict=True))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def measure(
    who: str, preset_name: str, *, batch: int, device: str, precision: str, compiled: bool = False
) -> dict[str, float]:
    """Best of three steps after one to warm up: seconds of forward, of forward and backward, and peak memory in MB."""
    from unetrpp.core.devices import try_kernels
    from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory

    try_kernels(torch.device(device))
    if who == "ours" and device == "cpu":
        keep_freed_memory()
    network = dict(zip(("ours", "reference"), networks(preset_name), strict=True))[who].to(device).train()
    if compiled:
        network.compile()
    x = batch_of(preset_name, batch, device)
    forward, both = [], []
    for step in range(4):
        if step == 1 and device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        network.zero_grad(set_to_none=True)
        start = _now(device)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = sum((y**2).mean() for y in network(x))
        middle = _now(device)
        loss.backward()
        forward.append(middle - start)
        both.append(_now(device) - start)
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    )
    return {"forward": min(forward[1:]), "both": min(both[1:]), "mb": peak / 2**20}


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def run(arguments: argparse.Namespace, who: str, preset_name: str) -> dict[str, float]:
    call = [sys.executable, __file__, "--worker", who, "--presets", preset_name, "--batch", str(arguments.batch)]
    call += ["--device", arguments.device, "--precision", arguments.precision]
    call += ["--compile"] if arguments.compile and who == "ours" else []
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["synapse", "acdc", "tumor", "lung"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true", help="torch.compile for ours")
    parser.add_argument("--worker", choices=["ours", "reference"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.worker:
        (name,) = arguments.presets
        step = {"batch": arguments.batch, "device": arguments.device, "precision": arguments.precision}
        print(json.dumps(measure(arguments.worker, name, **step, compiled=arguments.compile)))
        return
    on = torch.cuda.get_device_name() if arguments.device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    how = ", ours compiled" if arguments.compile else ""
    print(f"torch {torch.__version__}, batch {arguments.batch}, {arguments.precision}, {on}{how}")
    print(
        "preset    difference   forward s: reference  ours  ratio   forward+backward s: reference  ours  ratio   peak MB"
    )
    for name in arguments.presets:
        difference = largest_difference(name)
        if difference > TOLERANCE:
            raise SystemExit(f"{name}: ours differs from the reference by {difference:.1e} of the largest logit")
        rounds = [(run(arguments, "reference", name), run(arguments, "ours", name)) for _ in range(arguments.rounds)]
        cells = []
        for key in ("forward", "both"):
            r, o = (median(pair[i][key] for pair in rounds) for i in (0, 1))
            cells.append(f"{r:6.2f} {o:6.2f} {median(a[key] / b[key] for a, b in rounds):5.2f}")
        memory = " ".join(f"{median(pair[i]['mb'] for pair in rounds):6.0f}" for i in (0, 1))
        print(f"{name:9s} {difference:8.1e}   {cells[0]}   {cells[1]}   {memory}", flush=True)


if __name__ == "__main__":
    main()
