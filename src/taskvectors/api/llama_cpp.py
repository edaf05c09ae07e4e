"""What a model writes in llama.cpp, without a vector and with it."""

from pathlib import Path

from taskvectors.api.generation import Generation, Writing, generation, likeliest
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


def generate_in_llama_cpp(model: LlamaCpp, vector: TaskVector | None, asked: Writing) -> Generation:
    """What the model writes in llama.cpp, as `generate` has it of transformers.

    A vector acts at its own tokens alone, which llama.cpp's own programs do not offer.

    Raises:
        TaskVectorsError: The vector's prompts are chats, or llama.cpp cannot add such a vector.
        VectorMismatchError: The vector has another width or depth than the model.
    """
    prompt = asked.prompt
    if prompt is None:
        if vector is not None and vector.origin.chat:
            raise TaskVectorsError(
                f"{vector.origin.label} was made in a chat, and llama.cpp's library writes none; "
                "give the whole text as --prompt"
            )
        own = "" if vector is None else vector.origin.template
        prompt = query_text(asked.template or own or "qa", str(asked.input))
    ids = model.encode(prompt)
    written, firsts = [], []
    for one in (None,) if vector is None else (None, vector):
        tokens = model.write(
            ids,
            one,
            strength=asked.strength,
            max_new_tokens=asked.max_new_tokens,
            temperature=asked.temperature if asked.sample else 0.0,
            seed=asked.seed,
        )
        written.append(model.decode(tokens))
        firsts.append(model.log_probabilities(ids, one, asked.strength).exp())
    return generation(prompt, vector, asked, written, likeliest(firsts, model.decode))
