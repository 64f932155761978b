"""How a fold is trained: one frozen record, written beside the checkpoints as training.json."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from unetrpp.core.files import Record
from unetrpp.patches.sampling import Sampling

STANDARD_EPOCHS, STANDARD_ITERATIONS = 1000, 250  # as in nnU-Net 2.8.1
STANDARD_TRAINER = "standard"

# In fewer steps than these, SGD with momentum 0.99 (which averages the last hundred gradients) learns far less than
# Muon; docs/training.md.
SHORT_RUN_STEPS = 10_000

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]


class TrainingConfig(Record, frozen=True, kw_only=True):
    """The recipe of one fold. Its defaults are for a run of 250,000 steps; docs/training.md compares them with nnU-Net's.

    Fields without an option of unetrpp_train are marked "no option": the recipe or a benchmark sets them, and
    training.json records them.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset(
        {"rate_changes", "heads", "sampling", "padding", "schedule", "second_moment", "drop_path", "ema", "given"}
    )

    format: int = 1
    fold: int | Literal["all"]
    trainer: str = STANDARD_TRAINER  # or a registered entry point of group unetrpp.trainers
    cases: str = ""  # digest of the fold's training and validation cases
    epochs: Count = STANDARD_EPOCHS
    iterations: Count = STANDARD_ITERATIONS  # steps per epoch
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    learning_rate: Positive = 1e-2  # --lr; recipe.py for the others
    momentum: float = 0.99  # of SGD; no option: as in nnU-Net 2.8.1, smaller in short runs of the tests
    second_moment: float = 0.999  # AdamW's second beta; no option
    schedule: Literal["poly", "linear", "cosine", "stable"] = "poly"  # of the rate after the warm-up: schedule.py
    warmup: Annotated[int, Meta(ge=0)] = 0  # steps of linearly rising learning rate; recipe.py for the others
    weight_decay: Annotated[float, Meta(ge=0)] = 3e-5  # recipe.py for the others
    drop_path: Annotated[float, Meta(ge=0, lt=1)] = (
        0.0  # largest share of dropped residual branches: networks/drop_path.py
    )
    ema: Annotated[float, Meta(gt=0, lt=1)] | None = None  # decay of the mean of weights that is validated and kept
    # No option: `--recipe nnunet` and the arm decay_all of benchmarks/ablation.py. True as in nnU-Net and the released
    # UNETR++; False exempts norms, biases, layer scales, temperatures and position embeddings.
    decay_everything: bool = False
    gradient_clip: float = 12.0  # largest norm; no option: as in nnU-Net 2.8.1
    # No options: `--recipe nnunet` sets each of these to its second value, which is nnU-Net's (recipe.py).
    rate_changes: Literal["every_step", "every_epoch"] = "every_step"
    heads: Literal["planned", "random"] = "planned"  # at first: by the plans' initial logits, or at random
    sampling: Sampling = "class_first"  # of forced patches: patches/sampling.py
    padding: Literal["ignored", "background"] = "ignored"  # how the loss counts voxels outside the case
    seed: Annotated[int, Meta(ge=0)] = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    augmentation: Literal["device", "workers"] = "device"  # workers: batchgenerators' transforms in processes
    max_hours: Positive | None = None  # the schedule ends when they are spent, even if steps are left
    patience: Count | None = None  # epochs without a better smoothed Dice on validation patches
    pretrained: str | None = None  # the checkpoint that this training started from; details are in pretrained.json
    pretrained_hash: str | None = None
    learn_attention: bool = False  # learn the focal gammas, then prune (docs/focal_attention.md)
    # How attention is learned; no options: defaults, and the arm unpruned of benchmarks/ablation.py.
    learn_share: float = 0.15  # share of the run after which the modules are judged
    gamma_rate: float = 10.0  # learning rate of the gammas, as a multiple of the others'
    least_gamma: float = 0.05  # a module with a smaller gamma is removed
    least_contrast: float = 0.05  # so is one whose coefficients have a smaller std / mean
    recipe: str = "standard: SGD for long runs"
    given: tuple[str, ...] = ()  # fields that options set, with which `unetrpp` names the command of the other folds

    @property
    def steps(self) -> int:
        return self.epochs * self.iterations

    @property
    def fold_number(self) -> int:
        """The fold as a number for seeding; ``all`` is -1."""
        return -1 if self.fold == "all" else self.fold

    @property
    def validation_iterations(self) -> int:
        """Batches of validation patches after an epoch: one for five training steps."""
        return max(1, self.iterations // 5)
