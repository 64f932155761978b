"""The inputs and outputs of a network, and what they mean."""

from dataclasses import dataclass

from unetrpp.dataset.labels import LabelScheme
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.plans import Configuration


@dataclass(frozen=True)
class NetworkSpec:
    """The architecture of a network, and the meaning of its input and output channels."""

    architecture: Architecture
    labels: LabelScheme
    second_stage: bool = False  # of a cascade: the last input channels are a segmentation

    @classmethod
    def of(cls, plan: Configuration) -> "NetworkSpec":
        return cls(plan.architecture, plan.preprocessing.labels, plan.first_stage is not None)

    @property
    def segmented(self) -> tuple[str, ...]:
        """The foreground classes of the first stage, one input channel each, after those of the image."""
        return tuple(self.labels.names[i] for i in self.labels.foreground) if self.second_stage else ()

    @property
    def image_channels(self) -> int:
        return self.architecture.in_channels - len(self.segmented)

    @property
    def inputs(self) -> tuple[int, tuple[str, ...]]:
        """The number of image channels, and the classes that have an input channel."""
        return self.image_channels, self.segmented

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the output channels mean: the classes, or the regions with the classes that they hold."""
        names = self.labels.names
        regions = (f"{r.name} ({' + '.join(names[i] for i in r.members)})" for r in self.labels.regions)
        return tuple(regions) or names
