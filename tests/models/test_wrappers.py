"""Text models inside multimodal ones: loaded by their own class, and run as plain hooks say.

Each is saved, loaded with `load_model`, and its branches are compared with passes of transformers'
own class over the same tokens, whole, with plain hooks on the blocks.

Run with `pytest tests/models/test_wrappers.py -m slow`.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from full_pass import Spec, branches_of, positions_of, write

from taskvectors.errors import UnsupportedModelError
from taskvectors.models import Engine, load_model
from taskvectors.models.tiny import build_tiny
from taskvectors.trunk import Branch, Trunk

WRAPPERS: dict[str, Engine | None] = {
    "aya_vision": "trunk",
    "cohere2_vision": "trunk",
    "deepseek_vl": "trunk",
    "gemma3": "trunk",
    "gemma4": "trunk",
    "gemma4_unified": "trunk",
    "glm4v": "trunk",
    "glm4v_moe": "trunk",
    "idefics2": "trunk",
    "idefics3": "trunk",
    "internvl": "trunk",
    "kimi_k25": "trunk",
    "llama4": "trunk",
    "llava": "trunk",
    "llava_next": "trunk",
    "llava_onevision": "trunk",
    "mistral3": "trunk",
    "mllama": "trunk",
    "paligemma": None,  # a prompt's tokens see those after them
    "qwen2_5_vl": "trunk",
    "qwen2_vl": "trunk",
    "qwen3_5": "cached",
    "qwen3_5_moe": "cached",
    "qwen3_vl": "trunk",
    "qwen3_vl_moe": "trunk",
    "smolvlm": "trunk",
}
"""Multimodal types that users bring; None is refused."""
EDITS: list[list[Spec]] = [
    [{"layer": 1}],
    [{"layer": -1, "positions": (-3,)}, {"layer": 2, "positions": (-3, -1), "each": "position"}],
    [{"layer": 2, "operation": "replace"}],
    [],
]


def test_most_are_served_and_most_of_them_on_the_fastest_engine() -> None:
    engines = Counter(WRAPPERS.values())
    assert len(WRAPPERS) == 26
    assert len(WRAPPERS) - engines[None] >= 24
    assert engines["trunk"] >= 18


@pytest.mark.slow(small_models=True)
@pytest.mark.parametrize("name", WRAPPERS)
def test_a_checkpoint_is_loaded_by_its_own_class_and_runs_as_plain_hooks_say(
    name: str, tmp_path: Path, fresh_model: Any, ragged_prompts: Any
) -> None:
    from transformers import CONFIG_MAPPING

    if name not in CONFIG_MAPPING:
        pytest.skip("this transformers does not have the type")
    hf = build_tiny(name)
    hf.save_pretrained(tmp_path)
    model = load_model(tmp_path, tokenizer_of(hf), dtype="float32", device="cpu")
    if WRAPPERS[name] is None:
        with pytest.raises(UnsupportedModelError, match="not causal"):
            _ = model.engine
        return
    assert model.engine == WRAPPERS[name], model.verified.reasons
    own = type(hf).from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation=model.config._attn_implementation
    )
    # in transformers 5.24, Llama 4 around its text model fails on text alone
    called = own.eval().language_model if name == "llama4" else own
    assert type(called) is type(model.hf)
    prompts = ragged_prompts(model, 4)
    branches = branches_of(model, EDITS, prompts)
    trunk = Trunk.build(model, prompts, positions=positions_of(branches))
    blocks = [called.get_submodule(path) for path in model.structure.block_paths]
    for rows in ([0, 1, 2, 3], [3, 1]):
        batch = trunk.batch(rows)
        with torch.no_grad():
            states = model.read_state(trunk.answer_states(trunk.run(branches, batch), batch))
            logits = model.unembedding.logits(states)
        for at, row in enumerate(rows):
            for number, branch in enumerate(branches):
                expected = plain_logits(model, called, blocks, prompts[row], branch, row)
                found = logits[batch.read_rows == at, number]
                assert float((found - expected).abs().max()) < 1e-4


def tokenizer_of(hf: Any) -> Any:
    """A tokenizer with a word for every row of the embedding."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    rows = hf.get_input_embeddings().weight.shape[0]
    backend = Tokenizer(models.WordLevel({f"w{n}": n for n in range(rows)}, unk_token="w3"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=backend, pad_token="w0")


def plain_logits(
    model: Any, hf: Any, blocks: Sequence[Any], prompt: Any, branch: Branch, number: int
) -> torch.Tensor:
    """Logits of an answer's tokens from one pass over a prompt, with plain hooks on the blocks."""
    with torch.no_grad(), ExitStack() as stack:
        for edit in branch:

            def before(_: Any, args: Any, given: Any, edit: Any = edit) -> Any:
                if args:
                    return (write(model, edit, prompt, number, args[0]), *args[1:]), given
                states = given["hidden_states"]
                return args, given | {"hidden_states": write(model, edit, prompt, number, states)}

            def after(_: Any, __: Any, out: Any, edit: Any = edit) -> Any:
                if isinstance(out, tuple):
                    return write(model, edit, prompt, number, out[0]), *out[1:]
                return write(model, edit, prompt, number, out)

            if edit.layer < 0:
                hook = blocks[0].register_forward_pre_hook(before, with_kwargs=True)
            else:
                hook = blocks[edit.layer].register_forward_hook(after)
            stack.callback(hook.remove)
        tokens = torch.tensor([prompt.token_ids + prompt.answer_ids[:-1]])
        found: torch.Tensor = hf(input_ids=tokens).logits[0, len(prompt.token_ids) - 1 :]
    return found
