"""The figure of docs/napari.md: the panel with the sample, segmented by a model of the synthetic dataset.

    python benchmarks/reports/napari_picture.py unetrpp_workspace/results/synthetic/unetrpp__3d_fullres docs/images/napari.png

Needs the extra "napari" and a screen with OpenGL, such as Xvfb's with Mesa.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

SIZE, SLICE = (1200, 760), 11


def wait(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not done():
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open_sample("unetrpp", "synthetic")
    viewer.layers.selection.active = viewer.layers["synthetic"]
    _, panel = viewer.window.add_plugin_dock_widget("unetrpp", "Segment")
    panel.file.value = arguments.model / "plans.json"
    wait(lambda: not panel.cancel.enabled, 600)
    panel.mirroring.value = False  # as in the model's validation
    panel.run.native.click()
    wait(lambda: not panel.cancel.enabled, 600)
    viewer.dims.set_current_step(0, SLICE)
    viewer.reset_view(margin=0)
    wait(lambda: False, 1)
    viewer.screenshot(str(arguments.picture), canvas_only=False, flash=False)
    with Image.open(arguments.picture) as picture:
        picture.convert("RGB").save(arguments.picture, optimize=True)
    print(panel.told.value)
    viewer.close()


if __name__ == "__main__":
    main()
