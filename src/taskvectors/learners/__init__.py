"""Small in-context learners trained from scratch, with and without the TVP-loss.

A family of tasks of your own comes in through `taskvectors.learners.register(Family(...))`, or
through an entry point of the group `taskvectors.families`.
"""

from taskvectors.learners.config import Curriculum, TrainingConfig, VariantsConfig
from taskvectors.learners.families import FAMILIES, Family, load_family, preset_of, variants_config
from taskvectors.learners.family import Batch, CurriculumStage, EvalBatch, TaskFamily
from taskvectors.learners.model import Learner, is_learner
from taskvectors.learners.shape import LearnerShape
from taskvectors.learners.training import train

register = FAMILIES.register

__all__ = [
    "FAMILIES",
    "Batch",
    "Curriculum",
    "CurriculumStage",
    "EvalBatch",
    "Family",
    "Learner",
    "LearnerShape",
    "TaskFamily",
    "TrainingConfig",
    "VariantsConfig",
    "is_learner",
    "load_family",
    "preset_of",
    "register",
    "train",
    "variants_config",
]
