"""nnU-Net's side of benchmarks/predict.py: the same U-Net, tiles and images through nnUNetPredictor. Prints JSON.

Runs in an environment with nnunetv2, which lacks unetrpp, so plans are read as plain JSON.

    PYTHON_WITH_NNUNETV2 benchmarks/predict_peer.py MODEL_FOLDER FILE [FILE ...] [--mirroring]
"""

import argparse
import contextlib
import io
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

Seconds = dict[str, float]
SCHEMES = {"zscore": "ZScoreNormalization", "ct": "CTNormalization"}


def peer_plans(ours: dict[str, Any], name: str) -> dict[str, Any]:
    """nnU-Net's plans with our patch, spacing, normalisation and U-Net."""
    plan = ours["configurations"][name]
    spacing, levels = plan["preprocessing"]["spacing_mm"], plan["architecture"]["levels"]
    channels = plan["preprocessing"]["normalization"]
    network = {
        "n_stages": len(levels),
        "features_per_stage": [level["channels"] for level in levels],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [level["kernel"] for level in levels],
        "strides": [level["stride"] for level in levels],
        "n_conv_per_stage": [level["encoder_blocks"] for level in levels],
        "n_conv_per_stage_decoder": [level["decoder_blocks"] for level in levels[:-1]],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    resampling = {"force_separate_z": None, "order_z": 0}
    configuration = {
        "data_identifier": "benchmark",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan["batch_size"],
        "patch_size": plan["architecture"]["patch"],
        "median_image_size_in_voxels": plan["architecture"]["patch"],
        "spacing": spacing,
        "normalization_schemes": [SCHEMES[channel["scheme"]] for channel in channels],
        "use_mask_for_norm": [channel["masked"] for channel in channels],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling | {"is_seg": False, "order": 3},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling | {"is_seg": False, "order": 1},
        "batch_dice": False,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    return {
        "dataset_name": ours["dataset"],
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": plan["architecture"]["patch"],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {name: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(i): channel["statistics"] for i, channel in enumerate(channels)
        },
    }


def build(model: Path, mirroring: bool) -> nnUNetPredictor:
    """nnU-Net's predictor with random weights, which take as long as trained ones."""
    ours = json.loads((model / "plans.json").read_text())
    name = next(iter(ours["configurations"]))
    plans = PlansManager(peer_plans(ours, name))
    configuration = plans.get_configuration(name)
    labels = dict(zip(ours["labels"]["names"], ours["labels"]["values"], strict=True))
    channels = {str(i): channel for i, channel in enumerate(ours["channel_names"])}
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        len(channels),
        len(labels),
        deep_supervision=False,
    )
    predictor = nnUNetPredictor(use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False)
    description = {"channel_names": channels, "labels": labels, "file_ending": ours["file_ending"]}
    axes = tuple(ours["configurations"][name]["mirror_axes"])
    predictor.manual_initialization(
        network, plans, configuration, [network.state_dict()], description, "nnUNetTrainer", axes
    )
    return predictor


def clocked(run: Callable[[], object]) -> Seconds:
    """Wall seconds, and CPU seconds with those of finished child processes."""

    def cpu() -> float:
        used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(u.ru_utime + u.ru_stime for u in used)

    start = time.perf_counter(), cpu()
    with contextlib.redirect_stdout(io.StringIO()):
        run()
    return {"wall": time.perf_counter() - start[0], "cpu": cpu() - start[1]}


class ForwardClock:
    def __init__(self, network: torch.nn.Module):
        self.wall = self.cpu = 0.0
        self.passes = 0
        network.register_forward_pre_hook(self._start)
        network.register_forward_hook(self._stop)

    def _start(self, *_: object) -> None:
        self._begin = time.perf_counter(), time.process_time()

    def _stop(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._begin[0]
        self.cpu += time.process_time() - self._begin[1]
        self.passes += 1


def measure(predictor: nnUNetPredictor, files: list[Path]) -> dict[str, Any]:
    """Forward passes alone, its sequential mode, and its multi-process mode with and without the start of the workers.

    The time to start is computed from the difference between a run of all cases and one of a single case.
    """

    def run(mode: str, count: int | None = None) -> Seconds:
        with tempfile.TemporaryDirectory() as out:
            inputs = [[str(file)] for file in files[:count]]
            outputs = [str(Path(out) / str(i)) for i in range(len(inputs))]
            return clocked(lambda: getattr(predictor, mode)(inputs, outputs))

    run("predict_from_files_sequential", 1)  # warm up
    clock = ForwardClock(predictor.network)
    sequential = run("predict_from_files_sequential")
    forward = {"wall": clock.wall, "cpu": clock.cpu, "passes": clock.passes}
    parallel, single = run("predict_from_files"), run("predict_from_files", 1)
    started = {key: (parallel[key] - single[key]) * len(files) / (len(files) - 1) for key in parallel}
    return {
        "forward": forward,
        "sequential mode": sequential,
        "multi-process mode": parallel,
        "multi-process mode without its start": started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--mirroring", action="store_true")
    arguments = parser.parse_args()
    print(json.dumps(measure(build(arguments.model, arguments.mirroring), arguments.files)))


if __name__ == "__main__":
    main()
