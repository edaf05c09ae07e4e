"""What we hold: the task vector as a value, its arithmetic, save and load, and `inject`."""

from taskvectors.vectors.injection import inject
from taskvectors.vectors.origin import VectorOrigin
from taskvectors.vectors.site import Site, sites_at
from taskvectors.vectors.task_vector import TaskVector

__all__ = ["Site", "TaskVector", "VectorOrigin", "inject", "sites_at"]
