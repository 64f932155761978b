"""How a fold is trained: one frozen record, written beside the checkpoint as training.json."""

from typing import Literal

from unetrpp.core.files import Record

STANDARD_EPOCHS, STANDARD_ITERATIONS = 1000, 250  # nnU-Net's
STANDARD_TRAINER = "standard"

# Below this many steps nnU-Net's SGD (momentum 0.99 averages the last hundred gradients) has no time to pay; docs/training.md.
SHORT_RUN_STEPS = 10_000


class TrainingConfig(Record, frozen=True, kw_only=True):
    """The recipe of one fold. Its defaults are nnU-Net's, for a run of 250,000 steps."""

    format: int = 1
    fold: int | Literal["all"]
    trainer: str = STANDARD_TRAINER  # or a registered entry point of group unetrpp.trainers
    cases: str = ""  # digest of the fold's training and validation cases
    epochs: int = STANDARD_EPOCHS
    iterations: int = STANDARD_ITERATIONS  # steps an epoch
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 1e-2
    momentum: float = 0.99
    warmup: int = 0  # steps of linearly rising learning rate
    weight_decay: float = 3e-5
    decay_everything: bool = False  # as in the released UNETR++; else norms, biases, gammas and positions are exempt
    gradient_clip: float = 12.0
    seed: int = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    augmentation: Literal["device", "workers"] = "device"  # workers: batchgenerators' chain in processes
    max_hours: float | None = None  # the schedule ends when this is spent, if steps are left
    patience: int | None = None  # epochs without a better smoothed Dice on validation patches
    pretrained: str | None = None  # the checkpoint that this training started from; pretrained.json says what fitted
    pretrained_hash: str | None = None
    learn_attention: bool = (
        False  # learn the focal gammas and prune (docs/focal_attention.md); the fields below say how
    )
    learn_share: float = 0.15  # of the run, until the modules are judged
    gamma_rate: float = 10.0  # the gammas' learning rate, as a multiple of the others'
    least_gamma: float = 0.05  # of a module that is kept
    least_contrast: float = 0.05  # std / mean of its coefficients
    recipe: str = "standard: nnU-Net's SGD for long runs"

    @property
    def steps(self) -> int:
        return self.epochs * self.iterations

    @property
    def fold_number(self) -> int:
        """For seeding; ``all`` counts as -1."""
        return -1 if self.fold == "all" else self.fold

    @property
    def validation_iterations(self) -> int:
        """Patches of validation cases looked at after an epoch: one batch for five training steps."""
        return max(1, self.iterations // 5)

    def progress(self, step: int, hours: float = 0.0) -> float:
        """Share of the run that is done, by steps or by hours, whichever is further."""
        return max(step / self.steps, hours / self.max_hours if self.max_hours else 0.0)

    def learning_rate_at(self, step: int, hours: float = 0.0) -> float:
        """Linear warm-up, then poly decay: lr * (1 - progress) ** 0.9.

        >>> TrainingConfig(fold=0, epochs=1, iterations=10, learning_rate=1.0).learning_rate_at(5)
        0.5358867312681466
        """
        rising = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.learning_rate * rising * max(0.0, 1 - self.progress(step, hours)) ** 0.9
