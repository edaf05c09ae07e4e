"""Which model types run here, on which engine, and how exactly: measured, type by type.

Of each type a tiny random model is built and goes through what a real one goes through at its first
use. What comes out depends on the versions of transformers and torch alone, so it is kept by them.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from taskvectors._version import __version__
from taskvectors.files import write_whole
from taskvectors.models.identity import verify
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.sites import COMPONENTS, Component, check_site
from taskvectors.models.structure import Engine
from taskvectors.models.tiny import build_tiny
from taskvectors.progress import track

Kind = Literal["text", "multimodal"]


@dataclass(frozen=True, kw_only=True)
class SurveyRow:
    """What was measured of one model type."""

    model_type: str
    kind: Kind
    """`multimodal` where the text model sits inside a larger one."""
    engine: Engine | None
    """None where the type is not served."""
    sites: tuple[Component, ...] = ()
    """Components of every block that can be read and edited."""
    some_sites: tuple[Component, ...] = ()
    """Those of some blocks only, as in hybrids."""
    largest_error: float | None = None
    """Largest difference of float32 logits between a branch and the full pass."""
    reason: str = ""
    """Why it is not served; why it is not served by a faster engine."""


def model_types() -> dict[str, Kind]:
    """All types of the installed transformers that can stand for a causal language model."""
    from transformers.models.auto import modeling_auto

    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    outer = modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
    return {name: "multimodal" if name in outer else "text" for name in sorted({*causal, *outer})}


def survey_type(model_type: str, kind: Kind) -> SurveyRow:
    """Build a tiny model of a type and find its engine; whatever it raises is the reason.

    Args:
        model_type: As the config names it.
        kind: Whether the text model sits inside a larger one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of models that nobody asked for
        try:
            hf = build_tiny(model_type)
        except Exception as error:  # any model of transformers may raise anything
            return _refused(model_type, kind, f"no tiny model can be built here: {_said(error)}")
        try:
            model = LanguageModel.wrap(hf, source=model_type)
            found = verify(model)
        except Exception as error:  # as above
            return _refused(model_type, kind, _said(error))
    has = {name: sum(_has(model, n, name) for n in range(model.n_layers)) for name in COMPONENTS}
    return SurveyRow(
        model_type=model_type,
        kind=kind,
        engine=found.engine,
        sites=tuple(name for name, count in has.items() if count == model.n_layers),
        some_sites=tuple(name for name, count in has.items() if 0 < count < model.n_layers),
        largest_error=found.error,
        reason="; ".join(f"{engine}: {why}" for engine, why in found.reasons.items()),
    )


def _refused(model_type: str, kind: Kind, reason: str) -> SurveyRow:
    return SurveyRow(model_type=model_type, kind=kind, engine=None, reason=reason)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _has(model: LanguageModel, layer: int, name: Component) -> bool:
    try:
        check_site(model, layer, name)
    except Exception:
        return False
    return True


def survey(types: Sequence[str] = ()) -> Iterator[SurveyRow]:
    """The rows of some model types, from the user's cache where they were measured before.

    Args:
        types: All of the installed transformers by default.
    """
    kinds = model_types()
    chosen = list(types) or list(kinds)
    path = _kept_at()
    kept = _read(path)
    missing = [name for name in chosen if name not in kept]
    with track("measuring model types", len(missing), unit="type") as progress:
        for name in missing:
            kept[name] = survey_type(name, kinds[name])
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps([asdict(row) for row in kept.values()]))
            progress.update(note=name)
    yield from (kept[name] for name in chosen)


def _kept_at() -> Path:
    import transformers
    from platformdirs import user_cache_path

    versions = f"{__version__}-transformers-{transformers.__version__}-torch-{torch.__version__}"
    return user_cache_path("taskvectors") / "families" / f"{versions}.json"


def _read(path: Path) -> dict[str, SurveyRow]:
    """What was kept; nothing if the file is not whole."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        lists = ("sites", "some_sites")
        return {
            row["model_type"]: SurveyRow(**row | {name: tuple(row[name]) for name in lists})
            for row in rows
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}
