import pytest
from transformers import PreTrainedTokenizerFast

from taskvectors.errors import PromptTooLongError, TokenizationError
from taskvectors.prompts import Prompt, Template, build_prompts, resolve_positions
from taskvectors.tasks import Example

from .conftest import gpt2, llama2

# like ChatML: a turn for each role, and a generation prompt
TURNS = (
    "{{ bos_token }}{% for message in messages %}"
    "[{{ message.role }}]\n{{ message.content | trim }}[end]\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
# like Llama 2 and Mistral: the user's turn is closed, and that is the cue
BRACKETS = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'user' %}[INST] {{ message.content }} [/INST]"
    "{% else %} {{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
PAIRS = [
    Example(input="France", output="Paris"),
    Example(input="user", output="end"),  # words of the template itself
    Example(input="El Salvador", output="San Salvador"),
]
PLAIN = Template(name="x", example="{input} -> {output}", separator="\n")


@pytest.fixture(scope="module")
def turns() -> PreTrainedTokenizerFast:
    tokenizer = gpt2()
    tokenizer.chat_template = TURNS
    return tokenizer


def part(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, name: str) -> str:
    first, stop = prompt.spans[name]
    return str(tokenizer.decode(list(prompt.token_ids[first:stop])))


def test_the_query_is_the_users_last_turn_and_the_cue_the_generation_prompt(
    turns: PreTrainedTokenizerFast,
) -> None:
    for pair in PAIRS:
        (prompt,) = build_prompts(turns, PLAIN, [pair], chat=True)
        assert prompt.text == f"<s>[user]\n{pair.input}[end]\n[assistant]\n"
        assert turns.decode(list(prompt.token_ids)) == prompt.text
        assert part(turns, prompt, "query") == pair.input
        assert part(turns, prompt, "cue") == "[assistant]\n"
        assert turns.decode(list(prompt.answer_ids)) == pair.output
        assert "demonstrations" not in prompt.spans


@pytest.mark.parametrize("shots", [1, 2])
def test_demonstrations_are_earlier_turns(shots: int, turns: PreTrainedTokenizerFast) -> None:
    for prompt in build_prompts(turns, PLAIN, PAIRS, demonstrations=PAIRS, shots=shots, chat=True):
        shown = [
            f"[user]\n{pair.input}[end]\n[assistant]\n{pair.output}[end]\n"
            for pair in prompt.demonstrations
        ]
        assert len(shown) == shots
        asked = f"[user]\n{prompt.query.input}[end]\n[assistant]\n"
        assert prompt.text == "<s>" + "".join(shown) + asked
        assert part(turns, prompt, "query") == prompt.query.input
        between = "".join(shown).removeprefix("[user]\n").removesuffix("[end]\n")
        assert part(turns, prompt, "demonstrations") == between


def test_bos_comes_from_the_chat_template_alone() -> None:
    tokenizer = llama2()
    tokenizer.chat_template = TURNS
    (prompt,) = build_prompts(tokenizer, PLAIN, PAIRS[:1], chat=True)
    assert prompt.token_ids.count(tokenizer.bos_token_id) == 1
    assert prompt.token_ids[0] == tokenizer.bos_token_id


def test_positions_of_the_cue_have_a_name(turns: PreTrainedTokenizerFast) -> None:
    (prompt,) = build_prompts(turns, PLAIN, PAIRS[:1], chat=True)
    cue = resolve_positions(prompt, ["cue"])
    assert turns.decode([prompt.token_ids[i] for i in cue]) == "[assistant]\n"
    assert cue[-1] == len(prompt.token_ids) - 1


def test_without_a_generation_prompt_the_cue_closes_the_users_turn() -> None:
    tokenizer = gpt2()
    tokenizer.chat_template = BRACKETS
    for prompt in build_prompts(tokenizer, PLAIN, PAIRS, demonstrations=PAIRS, shots=1, chat=True):
        assert part(tokenizer, prompt, "cue") == " [/INST]"
        assert part(tokenizer, prompt, "query").strip() == prompt.query.input
        assert tokenizer.decode(list(prompt.answer_ids)) == f" {prompt.query.output}"


def test_a_prefix_stands_before_the_first_input(turns: PreTrainedTokenizerFast) -> None:
    template = Template(name="x", example="{input} -> {output}", separator="\n", prefix="Say it: ")
    for shots in (0, 1):
        (prompt,) = build_prompts(
            turns, template, PAIRS[:1], demonstrations=PAIRS, shots=shots, chat=True
        )
        assert prompt.text.startswith("<s>[user]\nSay it: ")
        assert prompt.text.count("Say it: ") == 1
        assert part(turns, prompt, "query").strip() == "France"


def test_a_chat_is_held_to_the_limit_too(turns: PreTrainedTokenizerFast) -> None:
    (alone,) = build_prompts(turns, PLAIN, PAIRS[:1], chat=True)
    limit = len(alone.token_ids) + len(alone.answer_ids)
    with pytest.raises(PromptTooLongError, match="use at most 0 shots"):
        build_prompts(
            turns, PLAIN, PAIRS[:1], demonstrations=PAIRS, shots=2, max_tokens=limit, chat=True
        )


def test_a_tokenizer_without_a_chat_template_is_an_error(
    gpt2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(TokenizationError, match="has no chat template"):
        build_prompts(gpt2_tokenizer, PLAIN, PAIRS, chat=True)


def test_a_chat_template_that_changes_an_input_is_an_error(
    turns: PreTrainedTokenizerFast,
) -> None:
    padded = Example(input=" France", output="Paris")  # the template trims it
    with pytest.raises(TokenizationError, match="changes what is put into it"):
        build_prompts(turns, PLAIN, [padded], chat=True)


def test_a_chat_template_with_its_generation_prompt_in_front_is_an_error() -> None:
    tokenizer = gpt2()
    tokenizer.chat_template = (
        "{% if add_generation_prompt %}go{% endif %}{{ messages[-1].content }}"
    )
    with pytest.raises(TokenizationError, match="elsewhere than at the end"):
        build_prompts(tokenizer, PLAIN, PAIRS, chat=True)
