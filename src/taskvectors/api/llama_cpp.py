"""What a model writes in llama.cpp, without a vector and with it."""

from pathlib import Path

from taskvectors.api.generation import Generation, check_asked, likeliest
from taskvectors.errors import TaskVectorsError
from taskvectors.export.llama_cpp import LlamaCpp
from taskvectors.models.sources import gguf_file
from taskvectors.prompts import query_text
from taskvectors.vectors import TaskVector


def open_in_llama_cpp(source: str | Path) -> LlamaCpp:
    """A model in llama.cpp.

    Args:
        source: A .gguf file, or `embedded`.

    Raises:
        TaskVectorsError: It is neither, or llama.cpp does not load it.
    """
    return LlamaCpp(gguf_file(str(source)))


def generate_in_llama_cpp(  # noqa: PLR0913  (what is written depends on all of it)
    model: LlamaCpp,
    vector: TaskVector | None = None,
    *,
    prompt: str | None = None,
    input: str | None = None,
    template: str | None = None,
    strength: float = 1.0,
    max_new_tokens: int = 20,
    sample: bool = False,
    temperature: float = 1.0,
    seed: int = 0,
) -> Generation:
    """What the model writes in llama.cpp, as `generate` has it of transformers.

    Args:
        model: The model.
        vector: The vector; it acts at its own tokens alone, which llama.cpp's own programs do not
            offer.
        prompt: Text to go on with, as it is.
        input: What is asked, in the vector's template; instead of `prompt`.
        template: Template for `input`; the vector's own, else `qa`.
        strength: Factor of the vector.
        max_new_tokens: Most tokens to write.
        sample: Draw each token out of all, in place of the most probable one.
        temperature: How evenly `sample` draws.
        seed: Seed of what `sample` draws.

    Raises:
        TaskVectorsError: There is no prompt, or two; a number is not positive; the vector's prompts
            are chats; or llama.cpp cannot add such a vector.
        VectorMismatchError: The vector has another width or depth than the model.
    """
    check_asked(prompt, input, max_new_tokens, temperature)
    if prompt is None:
        if vector is not None and vector.origin.chat:
            raise TaskVectorsError(
                f"{vector.origin.label} was made in a chat, and llama.cpp's library writes none; "
                "give the whole text as --prompt"
            )
        own = "" if vector is None else vector.origin.template
        prompt = query_text(template or own or "qa", str(input))
    ids = model.encode(prompt)
    written, firsts = [], []
    for one in (None,) if vector is None else (None, vector):
        tokens = model.write(
            ids,
            one,
            strength=strength,
            max_new_tokens=max_new_tokens,
            temperature=temperature if sample else 0.0,
            seed=seed,
        )
        written.append(model.decode(tokens))
        firsts.append(model.log_probabilities(ids, one, strength).exp())
    return Generation(
        prompt=prompt,
        plain=written[0],
        edited=None if vector is None else written[1],
        method="" if vector is None else vector.origin.method,
        strength=strength,
        next_tokens=likeliest(firsts, model.decode),
    )
