"""How students are trained: losses, one step, epochs, and the teacher features that they read."""

from crdkit.training._checkpoint import Checkpoints
from crdkit.training._checks import require_trainable
from crdkit.training._features import TeacherFeatures, feature_dtype
from crdkit.training.config import TrainingConfig
from crdkit.training.epochs import EpochLog
from crdkit.training.loop import train

__all__ = [
    "Checkpoints",
    "EpochLog",
    "TeacherFeatures",
    "TrainingConfig",
    "feature_dtype",
    "require_trainable",
    "train",
]
