"""The panel on an offscreen Qt, with the real napari: its segmentations are those of the command, and what it shows and refuses."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.model import make_model, make_model_2d, write_images
from tests.helpers.tiny import configuration
from unetrpp.core.errors import UserError
from unetrpp.export.model_zip import export_model
from unetrpp.inference.predict import predict
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import read_label
from unetrpp.napari.files import read

pytest.importorskip("napari", reason='napari is an extra: pip install "unetrpp[napari]"')
panels = pytest.importorskip("unetrpp.napari.panel")
components = pytest.importorskip("napari.components")
notifications = pytest.importorskip("napari.utils.notifications")
widgets = pytest.importorskip("qtpy.QtWidgets")

pytestmark = pytest.mark.filterwarnings("default")  # of napari and what it needs, in versions that a user may have


@pytest.fixture(scope="module")
def application():
    return widgets.QApplication.instance() or widgets.QApplication([])


@pytest.fixture
def panel(application):
    return panels.SegmentationPanel(components.ViewerModel())


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A model, and the image of one case."""
    folder = tmp_path_factory.mktemp("napari")
    make_model(folder)
    write_images(folder / "images", 1)
    return folder


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """The errors that napari was told to show."""
    shown: list[str] = []
    monkeypatch.setattr(panels, "show_error", shown.append)
    return shown


def wait(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 300  # on a machine that does much else
    while not done():
        widgets.QApplication.processEvents()
        time.sleep(0.005)
        assert time.monotonic() < end


def finish(panel) -> None:
    """Wait until the work in the background is done, and shown."""
    wait(lambda: not panel.cancel.enabled)


def opened(panel, path: Path):
    panel.file.value = path
    finish(panel)
    return panel


def add(panel, path: Path) -> None:
    for data, attributes, _ in read(str(path)):
        panel.viewer.add_image(data, **attributes)


def click(button) -> None:
    button.native.click()


def segmented(panel):
    click(panel.run)
    finish(panel)
    return panel.viewer.layers


def test_the_segmentation_is_that_of_the_command(panel, home, tmp_path):
    image, model = home / "images" / "case_0_0000.nii.gz", home / "unetrpp__3d_fullres"
    add(panel, image)
    opened(panel, model / "plans.json")
    assert panel.told.value == "balls, unetrpp__3d_fullres: ball"
    panel.uncertainty.value = True
    layers = segmented(panel)
    assert [layer.name for layer in layers] == ["case_0_0000", "case_0_0000 uncertainty", "case_0_0000 segmentation"]
    done = predict(input=image, output=tmp_path, model=model, device="cpu", uncertainty=True)
    (written,) = done.segmented.values()
    np.testing.assert_array_equal(layers[2].data, read_label(written).array[0])
    expected = Predictor(model, device="cpu")(image, uncertainty=True)
    np.testing.assert_array_equal(layers[1].data, expected.entropy)
    assert panel.told.value.splitlines()[1] == "no expected Dice: the model was not calibrated"
    assert panel.channels[0].value is layers[0]  # not the uncertainty, which was added later
    assert (panel.run.enabled, panel.cancel.enabled, panel.bar.value) == (True, False, 0)


def test_a_zip_without_mirroring(panel, home, tmp_path):
    add(panel, home / "images" / "case_0_0000.nii.gz")
    opened(panel, export_model(home / "unetrpp__3d_fullres", tmp_path / "model.zip"))
    panel.mirroring.value = False
    layers = segmented(panel)
    predictor = Predictor(home / "unetrpp__3d_fullres", device="cpu", mirroring=False)
    np.testing.assert_array_equal(layers[1].data, predictor(home / "images" / "case_0_0000.nii.gz").array)


def test_the_model_takes_the_current_layer(panel, home):
    opened(panel, home / "unetrpp__3d_fullres" / "plans.json")
    assert panel.channels[0].value is None
    layers = [panel.viewer.add_image(np.zeros((4, 5, 6)), name=name) for name in "ab"]
    assert panel.channels[0].value is layers[1]
    panel.viewer.layers.selection.active = layers[0]
    assert panel.channels[0].value is layers[0]
    panel.viewer.layers.remove(layers[0])
    assert panel.channels[0].choices == (None, layers[1])


def test_a_viewer_as_napari_gives_it_to_plugins(application, home):
    """Napari wraps it, so that plugins see nothing private and change it in the main thread alone."""
    proxies = pytest.importorskip("napari.utils._proxies")
    model = components.ViewerModel()
    panel = panels.SegmentationPanel(proxies.PublicOnlyProxy(model))
    add(panel, home / "images" / "case_0_0000.nii.gz")
    opened(panel, home / "unetrpp__3d_fullres" / "plans.json")
    panel.mirroring.value = False
    segmented(panel)
    assert [layer.name for layer in model.layers] == ["case_0_0000", "case_0_0000 segmentation"]


def test_photographs_in_colours(panel, tmp_path):
    opened(panel, make_model_2d(tmp_path) / "plans.json")
    assert [choice.label for choice in panel.channels] == ["R", "G", "B"]
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    panel.viewer.add_image(pixels, rgb=True, name="photo", scale=(0.2, 0.2))
    panel.channels[0].value = panel.viewer.layers[0]
    labels = segmented(panel)[1]
    assert labels.data.shape == (20, 30)
    np.testing.assert_array_equal(labels.scale, (0.2, 0.2))


def test_one_layer_a_channel(panel, tmp_path, told):
    plan = configuration()
    channels = ("T1", "T2")
    model = two_channels(tmp_path, plan, channels)
    first = panel.viewer.add_image(np.random.default_rng(0).normal(size=(12, 24, 24)), name="first")
    opened(panel, model / "plans.json")
    assert [choice.value for choice in panel.channels] == [first, None]
    click(panel.run)
    panel.channels[1].value = first
    click(panel.run)
    assert told == [
        "no layer is chosen for channel 'T2'; open its image and choose it",
        "layer 'first' is chosen for two channels; choose one layer for each",
    ]
    second = panel.viewer.add_image(np.random.default_rng(1).normal(size=(12, 24, 24)), name="second")
    panel.channels[1].value = second
    assert segmented(panel)[-1].data.shape == (12, 24, 24)


def two_channels(folder: Path, plan, channels: tuple[str, str]) -> Path:
    import msgspec

    from unetrpp.networks.design import unet_architecture

    normalization = plan.preprocessing.normalization * 2
    preprocessing = msgspec.structs.replace(plan.preprocessing, normalization=normalization)
    architecture = unet_architecture(2, 2, (8, 16, 16), [(2, 2, 2)], kernels=[(3, 3, 3)] * 2, width=0.25)
    plan = msgspec.structs.replace(plan, preprocessing=preprocessing, architecture=architecture)
    return make_model(folder, 1, plan, channels=channels)


def test_cancelling_stops_between_tiles(panel, home):
    panel.viewer.add_image(np.random.default_rng(0).normal(size=(60, 96, 96)), name="large")
    opened(panel, home / "unetrpp__3d_fullres" / "plans.json")
    seen: list[tuple[int, int]] = []
    click(panel.run)

    def stop(done_of_total: tuple[int, int]) -> None:
        seen.append(done_of_total)
        if len(seen) == 3:
            assert panel.bar.value == done_of_total[0]
            assert panel.bar.max == done_of_total[1]
            click(panel.cancel)

    panel.worker.yielded.connect(stop)
    finish(panel)
    assert [layer.name for layer in panel.viewer.layers] == ["large"]
    assert panel.told.value == "cancelled"
    done, total = seen[-1]
    assert done < total / 4
    assert panel.run.enabled


def test_work_that_ends_before_it_can_stop_is_cancelled_all_the_same(panel, home):
    opened(panel, home / "unetrpp__3d_fullres" / "plans.json")
    panel.file.value = home / "unetrpp__3d_fullres"  # opening a folder does not ask whether to go on
    click(panel.cancel)
    finish(panel)
    assert panel.told.value == "cancelled"
    assert (panel.model, panel.run.enabled) == (None, False)


def test_a_panel_that_is_closed_ends_its_work(application, home):
    closed = panels.SegmentationPanel(components.ViewerModel())
    closed.viewer.add_image(np.random.default_rng(0).normal(size=(60, 96, 96)), name="large")
    opened(closed, home / "unetrpp__3d_fullres" / "plans.json")
    click(closed.run)
    worker = closed.worker
    wait(lambda: closed.bar.value > 0)
    closed.native.deleteLater()
    widgets.QApplication.sendPostedEvents(None, 52)  # QEvent.DeferredDelete
    wait(lambda: not worker.is_running)
    assert worker.abort_requested
    assert closed.worker is None
    assert [layer.name for layer in closed.viewer.layers] == ["large"]


def test_errors_are_one_sentence(panel, home, tmp_path, told):
    opened(panel, tmp_path / "plans.json")
    assert told.pop().startswith(f"{tmp_path} is not a model folder (it has no plans.json)")
    assert not panel.run.enabled
    opened(panel, home / "unetrpp__3d_fullres" / "plans.json")
    panel.viewer.add_image(np.full((4, 5, 6), np.nan), name="empty")
    segmented(panel)
    assert told == ["empty: channel 'MRI' holds 120 voxels that are NaN or infinite; replace them"]
    assert panel.run.enabled


def test_other_errors_are_left_to_napari(panel):
    with pytest.raises(ZeroDivisionError):
        panel._fail(ZeroDivisionError())


def test_napari_shows_the_sentence(panel, application):
    with notifications.notification_manager:
        before = len(notifications.notification_manager.records)
        panel._fail(UserError("the rule; the repair", case="case_1"))
        (record,) = notifications.notification_manager.records[before:]
    assert (record.message, str(record.severity)) == ("case_1: the rule; the repair", "error")


def test_unpacked_zips_go_with_the_panel(application):
    alone = panels.SegmentationPanel(components.ViewerModel())
    folder = alone._unpacked
    assert folder.is_dir()
    alone._finalizer()
    assert not folder.exists()
