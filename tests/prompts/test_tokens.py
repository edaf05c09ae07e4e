import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from taskvectors.errors import TokenizationError
from taskvectors.prompts import TEMPLATES, Prompt, Template, build_prompts
from taskvectors.tasks import Example

from .conftest import HAS_BOS, sentencepiece, sentencepiece_decoders, wrap

PAIRS = [
    Example(input="France", output="Paris"),
    Example(input="El Salvador", output="San Salvador"),
    Example(input="Côte d'Ivoire", output="Yamoussoukro"),
    Example(input="Japan", output="東京"),
    Example(input="what is it?", output="description"),
]
TEXTS = [
    *TEMPLATES,
    "{input}\n{output}",
    "{input}\n\n{output}",
    "{input}\t{output}",
    "{input}\n {output}",
    "({input}) = ({output})",
]


def decode(tokenizer: PreTrainedTokenizerFast, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def part(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, name: str) -> str:
    first, stop = prompt.spans[name]
    return decode(tokenizer, prompt.token_ids[first:stop])


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("template", TEXTS)
def test_a_prompt_has_the_tokens_of_its_text_alone(
    template: str, shots: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    for prompt in build_prompts(tokenizer, template, PAIRS, demonstrations=PAIRS, shots=shots):
        alone = tokenizer(prompt.text)["input_ids"]
        expected = alone[:-1] if alone[-1] == tokenizer.eos_token_id else alone
        assert list(prompt.token_ids) == expected


@pytest.mark.parametrize("template", TEXTS)
def test_prompt_and_answer_together_read_as_the_filled_template(
    template: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    for prompt in build_prompts(tokenizer, template, PAIRS):
        whole = decode(tokenizer, (*prompt.token_ids, *prompt.answer_ids))
        expected = tokenizer(f"{prompt.text}|")["input_ids"]  # what the text decodes to, and a mark
        start = str(tokenizer.decode(expected, skip_special_tokens=True)).removesuffix("|")
        assert whole.removeprefix(start).strip(" ") == prompt.query.output


@pytest.mark.parametrize("template", TEXTS)
def test_a_prompt_does_not_end_in_a_blank(
    template: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    for prompt in build_prompts(tokenizer, template, PAIRS):
        assert not prompt.text.endswith(" ")


def test_bos_is_there_where_the_tokenizer_adds_it_and_no_token_follows_the_cue(
    tokenizer: PreTrainedTokenizerFast, style: str
) -> None:
    for prompt in build_prompts(tokenizer, "qa", PAIRS, demonstrations=PAIRS, shots=1):
        begins_with_bos = prompt.token_ids[0] == tokenizer.bos_token_id
        assert begins_with_bos == (style in HAS_BOS)
        assert tokenizer.bos_token_id not in prompt.token_ids[1:]
        assert tokenizer.eos_token_id not in (*prompt.token_ids, *prompt.answer_ids)


@pytest.mark.parametrize("shots", [0, 3])
def test_spans_cover_query_cue_and_demonstrations(
    shots: int, tokenizer: PreTrainedTokenizerFast, style: str
) -> None:
    # Unigram may put a new line into one token with the word before it, which then has it
    border = None if style == "t5" else " "
    for prompt in build_prompts(tokenizer, "qa", PAIRS, demonstrations=PAIRS, shots=shots):
        assert part(tokenizer, prompt, "query").strip() == prompt.query.input
        assert part(tokenizer, prompt, "cue").strip(border) == "\nA:".strip(border)
        assert prompt.spans["query"][1] == prompt.spans["cue"][0]
        assert prompt.spans["cue"][1] == len(prompt.token_ids)
        assert ("demonstrations" in prompt.spans) == (shots > 0)
        if shots:
            shown = "\n\n".join(f"Q: {d.input}\nA: {d.output}" for d in prompt.demonstrations)
            assert part(tokenizer, prompt, "demonstrations").strip(border) == shown
            assert prompt.spans["demonstrations"][1] < prompt.spans["query"][0]


@pytest.mark.parametrize(("template", "cue"), [("qa", "\nA:"), ("arrow", " ->"), ("nli", "")])
def test_a_separator_is_the_token_before_a_demonstrations_answer(
    template: str, cue: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    shots = 3
    for prompt in build_prompts(tokenizer, template, PAIRS, demonstrations=PAIRS, shots=shots):
        for number, shown in enumerate(prompt.demonstrations, start=1):
            _, stop = prompt.spans[f"separator_{number}"]
            assert decode(tokenizer, prompt.token_ids[:stop]).endswith(shown.input + cue)
            rest = decode(tokenizer, prompt.token_ids[stop:])
            assert rest.removeprefix(" ").startswith(shown.output)
        assert f"separator_{shots + 1}" not in prompt.spans
        assert "separator_0" not in prompt.spans


def test_the_query_is_the_last_of_equal_texts(tokenizer: PreTrainedTokenizerFast) -> None:
    shown = [Example(input="not hot", output="hot")]
    query = Example(input="hot", output="cold")
    (prompt,) = build_prompts(tokenizer, "hendel", [query], demonstrations=shown, shots=1)
    assert part(tokenizer, prompt, "query").strip() == "hot"
    assert part(tokenizer, prompt, "cue") == "->"


def test_a_template_without_a_cue_has_an_empty_cue(tokenizer: PreTrainedTokenizerFast) -> None:
    (prompt,) = build_prompts(tokenizer, "nli", PAIRS[:1])
    end = len(prompt.token_ids)
    assert prompt.spans["cue"] == (end, end)
    assert prompt.spans["query"][1] == end


def test_byte_level_answers_keep_the_blank_in_their_first_token(
    gpt2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    (spaced,) = build_prompts(gpt2_tokenizer, "arrow", PAIRS[:1])
    (bare,) = build_prompts(gpt2_tokenizer, "hendel", PAIRS[:1])
    assert gpt2_tokenizer.convert_ids_to_tokens(list(spaced.answer_ids)) == ["ĠParis"]
    assert "".join(gpt2_tokenizer.convert_ids_to_tokens(list(bare.answer_ids))) == "Paris"


@pytest.mark.parametrize("name", ["llama2", "gemma"])
def test_sentencepiece_puts_no_blank_before_an_answer_that_has_none(
    name: str, tokenizers: dict[str, PreTrainedTokenizerFast]
) -> None:
    tokenizer = tokenizers[name]
    (spaced,) = build_prompts(tokenizer, "arrow", PAIRS[:1])
    (bare,) = build_prompts(tokenizer, "{input}\n{output}", PAIRS[:1])
    assert "".join(tokenizer.convert_ids_to_tokens(list(spaced.answer_ids))) == "▁Paris"
    assert "".join(tokenizer.convert_ids_to_tokens(list(bare.answer_ids))) == "Paris"


def test_new_lines_that_are_one_token_only_at_the_end_stay_one(
    gpt2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    (prompt,) = build_prompts(gpt2_tokenizer, "{input}\n\n{output}", PAIRS[:1])
    assert gpt2_tokenizer.convert_ids_to_tokens([prompt.token_ids[-1]]) == ["ĊĊ"]
    together = gpt2_tokenizer(prompt.text + "Paris")["input_ids"]
    assert list(prompt.token_ids) != together[: len(prompt.token_ids)]  # the trap
    assert "".join(gpt2_tokenizer.convert_ids_to_tokens(list(prompt.answer_ids))) == "Paris"


def straddling(*extra: tuple[str, str]) -> PreTrainedTokenizerFast:
    prepend = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = sentencepiece(prepend, extra)
    tokenizer.decoder = sentencepiece_decoders()[0]
    return wrap(tokenizer)


def test_a_token_across_cue_and_answer_is_taken_apart() -> None:
    tokenizer = straddling((">", "P"))
    (prompt,) = build_prompts(tokenizer, "hendel", PAIRS[:1])
    assert ">P" in tokenizer.convert_ids_to_tokens(tokenizer("France->Paris")["input_ids"])
    assert tokenizer.convert_ids_to_tokens(list(prompt.token_ids))[-1].endswith(">")
    assert "".join(tokenizer.convert_ids_to_tokens(list(prompt.answer_ids))) == "Paris"


def test_a_border_that_cannot_be_found_is_an_error() -> None:
    tokenizer = straddling((">", "P"), ("\n", "P"))
    with pytest.raises(TokenizationError, match=r"'Paris' cannot be told apart .* 'France->'"):
        build_prompts(tokenizer, "hendel", PAIRS[:1])


def test_a_tokenizer_that_adds_no_blank_finds_the_border_all_the_same() -> None:
    tokenizer = sentencepiece(normalizers.Replace(" ", "▁"), ((">", "P"), ("\n", "P")))
    tokenizer.decoder = sentencepiece_decoders()[0]
    (prompt,) = build_prompts(wrap(tokenizer), "hendel", PAIRS[:1])
    assert "".join(tokenizer.id_to_token(number) for number in prompt.answer_ids) == "Paris"


def test_a_token_shared_by_demonstrations_and_query_belongs_to_the_query() -> None:
    tokenizer = straddling(("d", "F"))
    template = Template(name="x", example="{input}:{output}", separator="")
    shown = [Example(input="hot", output="cold")]
    (prompt,) = build_prompts(tokenizer, template, PAIRS[:1], demonstrations=shown, shots=1)
    tokens = tokenizer.convert_ids_to_tokens(list(prompt.token_ids))
    assert tokens[prompt.spans["query"][0]] == "dF"
    assert prompt.spans["demonstrations"] == (1, prompt.spans["query"][0])


def test_a_query_without_tokens_is_an_error(
    gpt2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(TokenizationError, match="gives no token for the input ''"):
        build_prompts(gpt2_tokenizer, "qa", [Example(input="", output="x")])


def test_a_token_shared_by_query_and_cue_belongs_to_the_query() -> None:
    tokenizer = straddling(("e", "!"))
    (prompt,) = build_prompts(tokenizer, "{input}!: {output}", PAIRS[:1])
    tokens = tokenizer.convert_ids_to_tokens(list(prompt.token_ids))
    _, stop = prompt.spans["query"]
    assert tokens[stop - 1] == "e!"
    assert "".join(tokens[stop:]) == ":"
    assert prompt.spans["cue"] == (stop, len(tokens))


class SlowTokenizer:
    is_fast = False
    chat_template = None

    def __call__(self, *args: object, **kwargs: object) -> None:
        raise AssertionError

    decode = batch_decode = get_vocab = apply_chat_template = __call__


def test_a_slow_tokenizer_is_an_error() -> None:
    with pytest.raises(TokenizationError, match="SlowTokenizer is a slow tokenizer"):
        build_prompts(SlowTokenizer(), "qa", PAIRS)


def test_a_tokenizer_that_pads_and_cuts_is_made_not_to(
    tokenizers: dict[str, PreTrainedTokenizerFast],
) -> None:
    tokenizer = tokenizers["llama3"]
    expected = build_prompts(tokenizer, "qa", PAIRS)
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=50)
    try:
        assert build_prompts(tokenizer, "qa", PAIRS) == expected
    finally:
        backend.no_truncation()
        backend.no_padding()
