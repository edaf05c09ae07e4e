"""Small in-context learners trained from scratch, with and without the TVP-loss."""

from taskvectors.learners.config import Curriculum, TrainingConfig
from taskvectors.learners.family import Episode, Extent, TaskFamily, Trial
from taskvectors.learners.model import Learner, LearnerShape, is_learner
from taskvectors.learners.tasks import family_names, load_family
from taskvectors.learners.training import train

__all__ = [
    "Curriculum",
    "Episode",
    "Extent",
    "Learner",
    "LearnerShape",
    "TaskFamily",
    "TrainingConfig",
    "Trial",
    "family_names",
    "is_learner",
    "load_family",
    "train",
]
