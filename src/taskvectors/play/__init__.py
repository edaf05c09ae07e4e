"""The playground: a vector at work and a learner that grows, in the browser.

`Playground` and `train_live` do the work and know no page; `page.py` alone knows gradio.
"""

from taskvectors.play.library import load_vectors
from taskvectors.play.live import LivePoint, live_config, train_live
from taskvectors.play.playground import Asked, Look, Playground

__all__ = [
    "Asked",
    "LivePoint",
    "Look",
    "Playground",
    "live_config",
    "load_vectors",
    "train_live",
]
