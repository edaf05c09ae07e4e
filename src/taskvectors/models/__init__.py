"""Where we look: loading models, their families, and their sites.

The only folder that knows transformers' module paths and that registers hooks.
"""

from taskvectors.models.language_model import LanguageModel
from taskvectors.models.loading import as_model, load_model
from taskvectors.models.meta_model import known_shapes, load_meta_model
from taskvectors.models.sites import COMPONENTS, EMBED, Component, capture, patch
from taskvectors.models.sources import EMBEDDED
from taskvectors.models.structure import Engine

__all__ = [
    "COMPONENTS",
    "EMBED",
    "EMBEDDED",
    "Component",
    "Engine",
    "LanguageModel",
    "as_model",
    "capture",
    "known_shapes",
    "load_meta_model",
    "load_model",
    "patch",
]
