"""Groups on a Ray cluster: one task of Ray per group, so that what shares a trunk stays together.

The only module that imports ray. A task is given again to another worker when its node or its
process is lost; what it gives comes back to this process, which alone writes results.
"""

import importlib
import logging
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from taskvectors.errors import TaskVectorsError, require_package
from taskvectors.experiments.experiment import WorkDir
from taskvectors.experiments.runner import Done, Execute, Job, Models, outcome_of

logger = logging.getLogger(__name__)

RETRIES = 5
"""How often a group is given to another worker after its own was lost."""
CPUS = 1
"""Of a group. It computes in so many threads."""


def on_ray(address: str, *, gpus: int) -> Execute:
    """Runs jobs on a cluster.

    Args:
        address: Of the cluster, as `ray.init` takes it.
        gpus: GPUs that a group takes, where the cluster has any.

    Raises:
        TaskVectorsError: ray is not installed, or there is no such cluster.
    """
    require_package("ray", "ray", "running on a cluster")
    ray: Any = importlib.import_module("ray")
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise TaskVectorsError(
            f"--ray: no cluster answers at {address!r}: {first} Start one with `ray start --head` "
            "and give its address, or `auto` on one of its machines"
        ) from error
    shared = f"taskvectors-{uuid.uuid4().hex}"
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    work: Any = ray.remote(
        num_cpus=CPUS, num_gpus=gpus if has_gpus else 0, max_retries=RETRIES, retry_exceptions=False
    )(_work)
    logger.info(
        "On the cluster %s: %s; %d CPU a group%s",
        address,
        _told(ray.cluster_resources()),
        CPUS,
        f", {gpus} GPU" if has_gpus else "",
    )

    def execute(jobs: Sequence[Job]) -> Iterator[Done]:
        waiting = {work.remote(job, shared): job for job in jobs}
        try:
            while waiting:
                (first, *_), _ = ray.wait(list(waiting), num_returns=1)
                job = waiting.pop(first)
                try:
                    done: Done = ray.get(first)
                except (ray.exceptions.RayTaskError, ray.exceptions.RayActorError):
                    raise  # a bug in the group itself
                except ray.exceptions.RayError as error:
                    done = Done(unit=job.unit, found=None, error=_lost(error))
                yield done
        finally:  # Ctrl-C, or a bug in one of them: the others are of no use any more
            for left in waiting:
                ray.cancel(left, force=True)

    return execute


def _work(job: Job, shared: str) -> Done:
    """Run a job on a worker, in a folder of its own.

    What groups share lies in a temporary folder of this name on each node.
    """
    import torch

    torch.set_num_threads(CPUS)
    with tempfile.TemporaryDirectory(prefix="taskvectors-") as folder:
        work_dir = WorkDir(
            folder=Path(folder),
            shared=Path(tempfile.gettempdir()) / shared,
            load=_models().load,
        )
        return outcome_of(job, work_dir)


@cache
def _models() -> Models:
    """Models of this worker process, which runs one group after another."""
    return Models()


def _lost(error: Exception) -> str:
    reason = str(error).partition("\n")[0]
    return (
        f"its worker was lost {RETRIES + 1} times ({reason}); the same command tries it again, on "
        "machines with more memory if that was the reason"
    )


def _told(resources: dict[str, float]) -> str:
    names = [name for name in ("CPU", "GPU") if resources.get(name)]
    return ", ".join(f"{resources[name]:g} {name}" for name in names)
