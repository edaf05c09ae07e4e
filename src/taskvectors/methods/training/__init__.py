"""Training through the trunk: settings, trunks, the loop, and what is trained with them."""

from taskvectors.methods.training.peak_memory import PeakMemory
from taskvectors.methods.training.recipe import Recipe
from taskvectors.methods.training.trainer import Trainer, TrainState, TrunkTrainer, check_gradient
from taskvectors.methods.training.trunks import Merit, TrainingTrunks, residual_rms
from taskvectors.methods.training.vectors import Trained, train_vectors

__all__ = [
    "Merit",
    "PeakMemory",
    "Recipe",
    "TrainState",
    "Trained",
    "Trainer",
    "TrainingTrunks",
    "TrunkTrainer",
    "check_gradient",
    "residual_rms",
    "train_vectors",
]
