"""The page of the playground: controls, and what they show. It computes nothing."""

import html
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from taskvectors.api.generation import NextToken
from taskvectors.errors import TaskVectorsError, require_package
from taskvectors.format import number, percent, points, printable
from taskvectors.models import EMBED
from taskvectors.play.library import load_vectors
from taskvectors.play.live import (
    LivePoint,
    error_figure,
    live_config,
    recovery_figure,
    train_live,
)
from taskvectors.play.playground import AS_IT_IS, OWN_TEMPLATE, Asked, Playground
from taskvectors.prompts.templates import TEMPLATES
from taskvectors.report import draw_plotly

STYLES = Path(__file__).with_name("page.css")
_NO_VECTORS = (
    "There is no vector yet. Make one, for example with `taskvectors learn --task capital "
    "--layers 9`, and press **Look for vectors**."
)
_PICK = "Pick a vector to see what it changes."
_MODEL = "model"
"""Listeners of this name take turns: they use one model."""
_TVP_LAYERS = {"none: in-context loss alone": None, "layer 0": 0, "layer 1": 1, "layer 2": 2}


def check_installed() -> None:
    """Raise unless the page can be shown.

    Raises:
        TaskVectorsError: gradio or plotly is missing; the message says how to install it.
    """
    for package in ("gradio", "plotly"):
        require_package(package, "play", "The playground")


def serve(
    playground: Playground,
    places: Sequence[Path] = (),
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = False,
) -> tuple[str, Callable[[], None]]:
    """Show a playground in the browser; returns at once.

    Args:
        playground: The model, and where vectors come from.
        places: Folders that are looked into for vectors.
        host: Address to listen on; others than the local one let other machines in.
        port: Port; the first free one from 7860 by default.
        open_browser: Open the page.

    Returns:
        Its address, and what ends it.

    Raises:
        TaskVectorsError: gradio is missing, or the port or address cannot be had.
    """
    check_installed()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read where gradio is imported
    import gradio as gr

    page = build(playground, places)
    local = ["system-ui", "sans-serif"]
    theme = gr.themes.Default(font=local, font_mono=["ui-monospace", "monospace"])
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            ssr_mode=False,
            enable_monitoring=False,
            footer_links=[],
            theme=theme,
            css_paths=STYLES,
        )
    except (OSError, ValueError) as error:
        said = str(error).partition(". ")[0]
        raise TaskVectorsError(
            f"the playground cannot listen on {host}, port {port or 'from 7860'} ({said}); name "
            "another with --port or --host"
        ) from error
    return str(address), page.close


def build(playground: Playground, places: Sequence[Path] = ()) -> Any:
    """The page, not yet shown.

    Args:
        playground: The model, and where vectors come from.
        places: Folders that are looked into for vectors.
    """
    import gradio as gr

    model = playground.model
    with gr.Blocks(title="taskvectors: playground", analytics_enabled=False) as page:
        gr.Markdown(
            f"# Playground\n{model.source}: {model.n_layers} layers, width {model.d_model}",
            elem_id="title",
        )
        with gr.Tab("A vector at work"):
            _vector_tab(gr, page, playground, places)
        with gr.Tab("A learner that grows"):
            _learner_tab(gr)
    return page


# --- a vector at work


def _vector_tab(gr: Any, page: Any, playground: Playground, places: Sequence[Path]) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            query, picked, strength, layer, template, length = _controls(gr, playground)
            look_again = gr.Button("Look for vectors", size="sm", elem_id="again")
        with gr.Column(scale=3, min_width=280):
            said = gr.Markdown(elem_id="said")
            tokens = gr.HTML(elem_id="tokens")
            likely = gr.HTML(elem_id="likely")
            with gr.Row():
                plain = gr.Textbox(label="Answer without", lines=3, elem_id="plain", min_width=120)
                edited = gr.Textbox(
                    label="Answer with it", lines=3, elem_id="edited", min_width=120
                )

    def show(*values: Any) -> Iterator[tuple[Any, ...]]:
        asked, n_tokens = _asked(*values[:-1]), values[-1]
        keep = gr.skip()
        try:
            look = playground.look(asked)
            note = f"**{look.problem}**" if look.problem else look.place
            note = note or (_PICK if playground.vectors else _NO_VECTORS)
            yield note, token_row(look.tokens), likely_table(look.next_tokens), keep, keep
            without, with_it = playground.answers(look, n_tokens)
            yield keep, keep, keep, without, with_it or ""
        except TaskVectorsError as error:
            yield f"**{error}**", "", "", "", ""

    def to_layer(names: list[str]) -> Any:
        return _layer_slider(gr, playground, names) or gr.skip()

    def find_again(names: list[str]) -> Any:
        playground.vectors = load_vectors(places) if places else playground.vectors
        there = [name for name in names if name in playground.vectors]
        return gr.Dropdown(list(playground.vectors), value=there)

    once: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
    run: dict[str, Any] = {
        "fn": show,
        "inputs": [query, picked, template, strength, layer, length],
        "outputs": [said, tokens, likely, plain, edited],
        "concurrency_id": _MODEL,
        "show_progress": "hidden",
    }
    moved = [one.input for one in (query, template, strength, layer, length)]
    gr.on([*moved, page.load], trigger_mode="always_last", **run)
    picked.input(to_layer, picked, layer, **once).then(**run)
    look_again.click(find_again, picked, picked, **once).then(**run)


def _controls(gr: Any, playground: Playground) -> tuple[Any, ...]:
    """Query, vectors, strength, layer, template and length of the answer."""
    first = playground.fitting()
    chosen = [] if first is None else [first]
    query = gr.Textbox("Peru", label="Query", elem_id="query", max_lines=6)
    picked = gr.Dropdown(
        list(playground.vectors),
        value=chosen,
        multiselect=True,
        label="Vectors",
        info="Several are added up.",
        elem_id="vectors",
    )
    strength = gr.Slider(-4, 4, 1, step=0.1, label="Strength", elem_id="strength")
    layer = _layer_slider(gr, playground, chosen) or gr.Slider(
        EMBED, playground.model.n_layers - 1, 0, **_LAYER
    )
    with gr.Accordion("Prompt and answer", open=False):
        template = gr.Dropdown(
            [OWN_TEMPLATE, AS_IT_IS, *TEMPLATES],
            value=OWN_TEMPLATE,
            label="Template",
            info="Or one of your own, with {input} and {output}.",
            allow_custom_value=True,
            elem_id="template",
        )
        length = gr.Slider(1, 40, 8, step=1, label="Tokens to write", elem_id="length")
    return query, picked, strength, layer, template, length


_LAYER: dict[str, Any] = {
    "step": 1,
    "label": "Layer",
    "info": f"After which block it goes; {EMBED} is the embedding.",
    "elem_id": "layer",
}


def _layer_slider(gr: Any, playground: Playground, names: Sequence[str]) -> Any | None:
    """The slider at the own layer of some vectors; None where they cannot be put."""
    try:
        vector = playground.combined(tuple(names))
    except TaskVectorsError:
        return None
    if vector is None:
        return None
    where = playground.layers(vector)
    return gr.Slider(where[0], where[-1], min(vector.layers), interactive=len(where) > 1, **_LAYER)


def _asked(
    query: str, names: list[str] | None, template: str, strength: float, layer: float
) -> Asked:
    return Asked(
        query=query,
        vectors=tuple(names or ()),
        template=template or OWN_TEMPLATE,
        strength=float(strength),
        layer=int(layer),
    )


def token_row(tokens: Sequence[tuple[str, bool]]) -> str:
    """A prompt's tokens with their positions; those with the vector are marked."""
    drawn = "".join(
        f"<li class='{'here' if is_there else ''}'><code>{html.escape(text) or '&nbsp;'}</code>"
        f"<small>{position}</small></li>"
        for position, (text, is_there) in enumerate(tokens)
    )
    has_vector = any(is_there for _, is_there in tokens)
    legend = " <span class=here>the vector is here</span>" if has_vector else ""
    title = f"<p class=legend>The prompt's tokens and positions{legend}</p>"
    return f"{title}<ol class=tokens>{drawn}</ol>"


def likely_table(found: Sequence[NextToken]) -> str:
    """The likeliest next tokens as a table with bars: without the vector, with it, the change."""
    has_vector = any(one.edited is not None for one in found)
    heads = ["Next token", "without", *(["with the vector", "change"] if has_vector else [])]
    rows = []
    for one in found:
        cells = [f"<th scope=row><code>{html.escape(printable(one.token)) or '&nbsp;'}</code></th>"]
        cells.append(_bar(one.plain, "plain"))
        if one.edited is not None:
            cells.append(_bar(one.edited, "edited"))
            cells.append(f"<td class=change>{points(one.edited - one.plain, 1)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    headings = "".join(f"<th scope=col>{head}</th>" for head in heads)
    return (
        f"<table class=likely><thead><tr>{headings}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _bar(share: float, kind: str) -> str:
    return (
        f"<td class={kind}><span class=bar style='--share:{share:.4f}'></span>"
        f"<span class=share>{percent(share, 1)}</span></td>"
    )


# --- a learner that grows


def _learner_tab(gr: Any) -> None:
    gr.Markdown(
        "A small transformer is trained from scratch on pairs x, x + w modulo 11. **Recovery** is "
        "the share of what demonstrations gain that one vector, put into a fresh query at a layer, "
        "keeps: 1 is all of it. In the last two sevenths of the steps the TVP-loss asks the vector "
        "to form at a layer."
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            at = gr.Radio(list(_TVP_LAYERS), value="layer 1", label="TVP-loss", elem_id="tvp")
            steps = gr.Slider(300, 6000, 2100, step=100, label="Steps", elem_id="steps")
            seed = gr.Number(0, precision=0, minimum=0, label="Seed", elem_id="seed")
            with gr.Row():
                start = gr.Button("Train", variant="primary", elem_id="train")
                stop = gr.Button("Stop", elem_id="stop")
            state = gr.Markdown("Press **Train**: about a minute on two cores.", elem_id="state")
        with gr.Column(scale=3, min_width=280):
            gr.Markdown("### Recovery by layer")
            recovery = gr.Plot(show_label=False, elem_id="recovery")
            gr.Markdown("### Wrong answers")
            errors = gr.Plot(show_label=False, elem_id="errors")

    def grow(where: str, n_steps: int, of_seed: int) -> Iterator[tuple[Any, ...]]:
        config = live_config(tvp_layer=_TVP_LAYERS[where], steps=int(n_steps), seed=int(of_seed))
        yield "Training begins ...", None, None
        seen: list[LivePoint] = []
        for point in train_live(config):
            seen.append(point)
            said = _progress(point, config.steps, config.tvp_from, where)
            yield said, draw_plotly(recovery_figure(seen)), draw_plotly(error_figure(seen))

    running = start.click(
        grow, [at, steps, seed], [state, recovery, errors], show_progress="hidden",
        concurrency_id="training", trigger_mode="once",
    )  # fmt: skip
    stop.click(lambda: "Stopped.", outputs=state, cancels=[running], show_progress="hidden")


def _progress(point: LivePoint, steps: int, tvp_from: int, where: str) -> str:
    known = [value for value in point.recovery if value is not None]
    best = max(known, default=None)
    if best is None:
        vector = "demonstrations do not help enough yet for recovery to have a meaning"
    else:
        layer = point.recovery.index(best)
        vector = f"the best layer is {layer}, with recovery {number('recovery', best)}"
    phase = "in-context loss alone"
    if _TVP_LAYERS[where] is not None and point.step > tvp_from:
        phase = f"with the TVP-loss at {where}"
    done = " Finished." if point.step >= steps else ""
    return (
        f"Step {point.step:,} of {steps:,}, {phase}. {percent(1 - point.icl_error)} of answers "
        f"right with demonstrations; {vector}.{done}"
    )
