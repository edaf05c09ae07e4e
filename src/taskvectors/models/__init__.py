"""Where we look: loading models, their families, and their sites.

The only folder that knows transformers' module paths and that registers hooks.
"""

from taskvectors.models.families import FAMILIES, Family
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.loading import EMBEDDED, load_model
from taskvectors.models.meta_model import known_shapes, load_meta_model
from taskvectors.models.sites import COMPONENTS, EMBED, Component, capture, patch

__all__ = [
    "COMPONENTS",
    "EMBED",
    "EMBEDDED",
    "FAMILIES",
    "Component",
    "Family",
    "LanguageModel",
    "capture",
    "known_shapes",
    "load_meta_model",
    "load_model",
    "patch",
]
