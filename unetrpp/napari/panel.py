"""The panel: choose a model and image layers, segment, see progress, cancel. Alone here, napari is imported with the module."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit, ProgressBar, PushButton, TextEdit
from napari.layers import Image
from napari.qt.threading import GeneratorWorkerSignals, WorkerBase
from napari.utils.notifications import show_error

from unetrpp.core.errors import UserError, in_words, limit_of
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.sliding_window import OnProgress
from unetrpp.io.formats import is_picture
from unetrpp.model.folder import ModelFolder
from unetrpp.napari.layers import UNCERTAINTY, place_of, result_layers, volume_of
from unetrpp.napari.segmenting import Result, open_model, segment

if TYPE_CHECKING:
    from napari.viewer import Viewer

T = TypeVar("T")


class Cancelled(Exception):
    """The user has cancelled the work."""


class Worker(WorkerBase):  # type: ignore[misc]  # napari ships no types
    """Work in a thread. It gets a function to call with what is done and what there is, which raises once it is cancelled."""

    def __init__(self, do: Callable[[OnProgress], object]):
        super().__init__(SignalsClass=GeneratorWorkerSignals)
        self.do = do

    def work(self) -> object:
        return self.do(self._progress)

    def _progress(self, done: int, total: int) -> None:
        if self.abort_requested:
            raise Cancelled
        self.yielded.emit((done, total))


class SegmentationPanel(Container):  # type: ignore[misc]
    """Segments the chosen image layers of a viewer.

    Attributes:
        worker: what runs in the background, or ran last.
        model: that is open.
    """

    def __init__(self, napari_viewer: "Viewer"):
        self.viewer = napari_viewer
        self.worker: Worker | None = None
        self.model: ModelFolder | None = None
        self._predictor: Predictor | None = None
        self._unpacked = Path(tempfile.mkdtemp(prefix="unetrpp_"))
        self._finalizer = weakref.finalize(self, shutil.rmtree, self._unpacked, ignore_errors=True)
        self.file = FileEdit(
            label="model",
            mode="r",
            filter="plans.json or zip (plans.json *.zip)",
            tooltip="a model's plans.json, or a zip",
        )
        self.file.line_edit.read_only = True  # else every letter that is typed would be opened
        self.channels = Container(label="layers")
        self.mirroring = CheckBox(
            value=True, text="mirroring", tooltip="the mean over mirrored passes; up to 8 times slower"
        )
        self.uncertainty = CheckBox(text="uncertainty", tooltip="also a layer that shows where the model is unsure")
        self.run = PushButton(text="Segment", enabled=False)
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.bar = ProgressBar(value=0, max=1)
        self.told = TextEdit()
        self.told.read_only = True
        chosen = [self.file, self.channels, self.mirroring, self.uncertainty]
        super().__init__(widgets=[*chosen, self.run, self.cancel, self.bar, self.told])
        self._connect(napari_viewer)

    def _connect(self, viewer: "Viewer") -> None:
        self.native.destroyed.connect(self._leave)
        self.file.changed.connect(self._open)
        self.run.changed.connect(self._segment)
        self.cancel.changed.connect(self._cancel)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._refresh)
        viewer.layers.selection.events.active.connect(self._follow)

    def _open(self, path: Path) -> None:
        self.model, self._predictor = None, None
        self.channels.clear()
        self._start(lambda progress: open_model(path, self._unpacked), self._opened)

    def _opened(self, model: ModelFolder) -> None:
        """Offer a choice of layers for each channel of the model."""
        self.model, names = model, model.plans.channel_names
        self.channels.extend([ComboBox(label=name, choices=self._image_layers, nullable=True) for name in names])
        for choice, layer in zip(self.channels, self._image_layers(), strict=False):
            choice.value = layer
        self._follow()
        self.told.value = f"{model.dataset}, {model.path.name}: {', '.join(t.name for t in model.plans.labels.targets)}"

    def _image_layers(self, _: object = None) -> list[Image]:
        """Those of the viewer; an uncertainty is no channel of an image."""
        layers = [layer for layer in self.viewer.layers if isinstance(layer, Image)]
        return [layer for layer in layers if UNCERTAINTY not in layer.metadata]

    def _refresh(self, _: object = None) -> None:
        for choice in self.channels:
            choice.reset_choices()
        self._follow()

    def _follow(self, _: object = None) -> None:
        """A model of one channel takes the layer that is current."""
        active = self.viewer.layers.selection.active
        if len(self.channels) == 1 and active in self._image_layers():
            self.channels[0].value = active

    def _chosen(self) -> list[Image]:
        """
        Raises:
            UserError: a channel has no layer, or two have the same.
        """
        layers = [choice.value for choice in self.channels]
        if layers and layers[0] is not None and layers[0].rgb:
            return layers[:1]
        missing = [choice.label for choice in self.channels if choice.value is None]
        if missing:
            raise UserError(f"no layer is chosen for channel {missing[0]!r}; open its image and choose it")
        twice = next((layer.name for i, layer in enumerate(layers) if layer in layers[:i]), None)
        if twice is not None:
            raise UserError(f"layer {twice!r} is chosen for two channels; choose one layer for each")
        return layers

    def _segment(self) -> None:
        if self.model is None:
            return
        try:
            layers = self._chosen()
        except UserError as error:
            show_error(str(error))
            return
        show = partial(self._show, layers[0].name, place_of(layers[0]))
        chosen = {"mirroring": self.mirroring.value, "uncertainty": self.uncertainty.value}
        self._start(partial(self._result, self.model, layers, **chosen), show)

    def _result(
        self,
        model: ModelFolder,
        layers: Sequence[Image],
        on_progress: OnProgress,
        *,
        mirroring: bool,
        uncertainty: bool,
    ) -> Result:
        """In the worker's thread."""
        volume = volume_of(layers, pictures=is_picture(model.plans.file_ending))
        predictor = self._loaded(model, mirroring=mirroring)
        return segment(predictor, volume, layers[0].name, uncertainty=uncertainty, on_progress=on_progress)

    def _loaded(self, model: ModelFolder, *, mirroring: bool) -> Predictor:
        """The networks, loaded once for several images."""
        if self._predictor is None or self._predictor.options.mirroring != mirroring:
            self._predictor = Predictor(model.path, mirroring=mirroring)
        return self._predictor

    def _show(self, name: str, place: dict[str, object], result: Result) -> None:
        self.told.value = "\n".join(result.lines)
        for data, attributes, kind in result_layers(result.segmentation, name, place):
            getattr(self.viewer, f"add_{kind}")(data, **attributes)

    def _start(self, do: Callable[[OnProgress], T], then: Callable[[T], None]) -> None:
        self.worker = Worker(do)
        self.worker.returned.connect(then)
        self.worker.yielded.connect(self._progress)
        self.worker.errored.connect(self._fail)
        self.worker.finished.connect(self._finish)
        self.file.enabled = self.run.enabled = False
        self.cancel.enabled = True
        self.worker.start()

    def _cancel(self) -> None:
        if self.worker is not None:
            self.worker.quit()

    def _leave(self) -> None:
        """The panel was closed: its work ends, and has nothing left to show it on."""
        worker, self.worker = self.worker, None
        if worker is not None and worker.is_running:
            worker.quit()
            for signal in (worker.returned, worker.yielded, worker.errored, worker.finished):
                signal.disconnect()

    def _progress(self, done_of_total: tuple[int, int]) -> None:
        self.bar.value, self.bar.max = 0, done_of_total[1]
        self.bar.value = done_of_total[0]

    def _fail(self, error: Exception) -> None:
        """One sentence where the user can do something about it; anything else as napari shows errors of plugins."""
        if isinstance(error, UserError | OSError) or limit_of(error) is not None:
            show_error(in_words(error))
        elif not isinstance(error, Cancelled):
            raise error

    def _finish(self) -> None:
        if self.worker is not None and self.worker.abort_requested:
            self.told.value = "cancelled"
        self.bar.value = 0
        self.file.enabled, self.run.enabled, self.cancel.enabled = True, self.model is not None, False
