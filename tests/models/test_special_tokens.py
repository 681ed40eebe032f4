"""The word tokenizer, and special tokens that start as copies of another token."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from base_tokenizers import base_tokenizer
from latentcot.curriculum.layout import SpecialTokens
from latentcot.errors import RecipeError
from latentcot.models.special_tokens import (
    install_special_tokens,
    special_tokens_of,
    word_tokenizer,
)
from latentcot.tasks import extract_answer, task_named
from reference import tiny_model

WORDS = [
    "Tom is a timpus. Every timpus is a dumpus. Every dumpus is a kerpus. Is Tom a kerpus or rex?",
    "Every timpus is a dumpus.",
    "Tom is a kerpus.",
]
SYMBOLS = [
    "[Q] 5 6 [R] 1",
    "4 9 | 16 17 | 15 16 | 10 22 | [Q] 18 23 [R] 0",
    "3 8 2 4 2 0 2 14 [Q] 5 6 [R] 2",
    "[A] 14",
    "14",
]


def ids_of(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


# --- the word tokenizer ---


@pytest.mark.parametrize("texts", [WORDS, SYMBOLS], ids=["words", "symbols"])
def test_decoding_gives_the_text_back(texts: list[str]) -> None:
    tokenizer = word_tokenizer(texts)
    for text in texts:
        assert tokenizer.decode(ids_of(tokenizer, text)) == text


def test_an_answer_behind_the_default_special_token_is_found_after_steps() -> None:
    tokenizer = word_tokenizer([*WORDS, "### "])
    text = tokenizer.decode(ids_of(tokenizer, "Every timpus is a dumpus.\n### Tom is a kerpus."))
    assert extract_answer(text, "### ") == "Tom is a kerpus."


@pytest.mark.parametrize("answer", ["-3", "2.5", "Tom's", "f(x)"])
def test_an_answer_with_signs_in_it_can_be_right(answer: str) -> None:
    tokenizer = word_tokenizer([answer])
    said = tokenizer.decode(ids_of(tokenizer, answer))
    assert task_named("prosqa").is_correct(said, answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Q] Tom, b? 12 | ###", ["[Q]", "Tom", "<unk>", "b", "?", "12", "|", "###"]),
        ("12 99 x", ["12", "<unk>", "x"]),
        ("12", ["12"]),  # nothing is added to a text
        ("", []),
    ],
)
def test_one_token_a_word_a_bracket_or_a_sign(text: str, expected: list[str]) -> None:
    tokenizer = word_tokenizer(["Is Tom a b? [Q] 12 | ### x"])
    assert tokenizer.convert_ids_to_tokens(ids_of(tokenizer, text)) == expected


def test_special_tokens_come_first_and_are_one_token_each() -> None:
    tokenizer = word_tokenizer(SYMBOLS)
    special = ["<unk>", "<eos>", "<bot>", "<eot>", "<pause>"]
    assert tokenizer.convert_tokens_to_ids(special) == [0, 1, 2, 3, 4]
    assert ids_of(tokenizer, "<bot> 5 <eot>")[::2] == [2, 3]
    assert (tokenizer.unk_token_id, tokenizer.eos_token_id) == (0, 1)
    assert special_tokens_of(tokenizer) == SpecialTokens(bot=2, eot=3, pause=4, eos=1)


def test_words_come_in_sorted_order_whatever_the_order_of_texts() -> None:
    vocabulary = word_tokenizer(reversed(SYMBOLS)).get_vocab()
    by_id = sorted(vocabulary, key=lambda word: vocabulary[word])
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert by_id[5:] == sorted({word for text in SYMBOLS for word in text.split()})


def test_special_tokens_that_stand_in_the_texts_are_not_added_again() -> None:
    tokenizer = word_tokenizer(["<bot> a <unk> z <eos>"])
    assert tokenizer.convert_tokens_to_ids(["<unk>", "<eos>", "<bot>", "a", "z"]) == [0, 1, 2, 5, 6]
    assert len(tokenizer) == 7, "a model gets this many rows"


@pytest.mark.parametrize("texts", [WORDS, SYMBOLS], ids=["words", "symbols"])
def test_saved_and_reloaded_it_gives_the_same_ids(texts: list[str], tmp_path: Path) -> None:
    tokenizer = word_tokenizer(texts)
    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert reloaded.get_vocab() == tokenizer.get_vocab()
    assert special_tokens_of(reloaded) == special_tokens_of(tokenizer)
    for text in [*texts, "unheard of", "<bot> 5 <eot>"]:
        assert ids_of(reloaded, text) == ids_of(tokenizer, text)
        assert reloaded.decode(ids_of(tokenizer, text)) == tokenizer.decode(ids_of(tokenizer, text))


# --- special tokens for a model that has none ---

END = "<|endoftext|>"


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """Like GPT-2's: byte-level BPE, `<<` is one token, and the end of text serves as unk."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=258,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["<<3+4=7>>", "<<", "<<"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, unk_token=END)


SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 0}


def tied_gpt2(vocab_size: int) -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, **SIZES))


def untied_llama(vocab_size: int) -> PreTrainedModel:
    options = SIZES | {"intermediate_size": 8, "tie_word_embeddings": False}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **options))


def tables(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {
        "embedding": model.get_input_embeddings().get_parameter("weight"),
        "output": model.get_output_embeddings().get_parameter("weight"),
    }


@pytest.mark.parametrize("make_model", [tied_gpt2, untied_llama])
@pytest.mark.parametrize("num_spare", [0, 64], ids=["exact vocabulary", "padded vocabulary"])
def test_special_tokens_start_as_copies_and_nothing_else_changes(
    make_model: Any, num_spare: int
) -> None:
    tokenizer = byte_level_tokenizer()
    num_tokens = len(tokenizer)
    (source,) = ids_of(tokenizer, "<<")
    model = make_model(num_tokens + num_spare)
    before = {name: table.detach().clone() for name, table in tables(model).items()}

    assert install_special_tokens(tokenizer, model, "<<") == 3

    new = tokenizer.convert_tokens_to_ids(["<bot>", "<eot>", "<pause>"])
    assert new == [num_tokens, num_tokens + 1, num_tokens + 2]
    for name, table in tables(model).items():
        assert len(table) == num_tokens + max(3, num_spare)
        assert torch.equal(table[new], before[name][[source] * 3]), name
        assert torch.equal(table[:num_tokens], before[name][:num_tokens]), name
    assert model.config.vocab_size == num_tokens + max(3, num_spare)
    embedding, output = tables(model).values()
    assert (embedding is output) == (make_model is tied_gpt2), "tied tables stay tied"
    assert torch.equal(embedding, output) == (make_model is tied_gpt2)


def test_a_special_token_predicts_what_the_token_it_started_from_predicts() -> None:
    tokenizer = byte_level_tokenizer()
    model = untied_llama(len(tokenizer)).eval()
    install_special_tokens(tokenizer, model, "<<")
    special_token = special_tokens_of(tokenizer).bot
    with torch.no_grad():
        logits = [
            model(torch.tensor([[1, 2, t]])).logits
            for t in (*ids_of(tokenizer, "<<"), special_token)
        ]
    torch.testing.assert_close(*logits)
    torch.testing.assert_close(
        logits[0][..., special_token], logits[0][..., ids_of(tokenizer, "<<")[0]]
    )


def test_special_tokens_are_one_token_anywhere_in_a_text() -> None:
    tokenizer = byte_level_tokenizer()
    install_special_tokens(tokenizer, tied_gpt2(len(tokenizer)))
    special_tokens = special_tokens_of(tokenizer)
    between = [special_tokens.bot, special_tokens.pause, special_tokens.eot]
    assert ids_of(tokenizer, "<bot><pause><eot>") == between
    assert special_tokens.eos == tokenizer.eos_token_id


def test_a_second_call_adds_nothing() -> None:
    tokenizer = byte_level_tokenizer()
    model = tied_gpt2(len(tokenizer))
    install_special_tokens(tokenizer, model, "<<")
    with torch.no_grad():
        tables(model)["embedding"][special_tokens_of(tokenizer).bot] += 1  # as training would
    before = tables(model)["embedding"].detach().clone()
    assert install_special_tokens(tokenizer, model, "=") == 0
    assert torch.equal(tables(model)["embedding"], before)
    assert len(tokenizer) == len(before)


@pytest.mark.parametrize(("start_from", "count"), [("<<<<<", 3), ("", 0), ("zq", 2)])
def test_special_tokens_start_from_one_token(start_from: str, count: int) -> None:
    tokenizer = byte_level_tokenizer()
    model = tied_gpt2(len(tokenizer))
    size = len(tokenizer)
    with pytest.raises(RecipeError, match="special_tokens_start_from: must be one token") as caught:
        install_special_tokens(tokenizer, model, start_from)
    assert f"got {start_from!r}, which is {count} tokens." in str(caught.value)
    assert len(tokenizer) == len(tables(model)["embedding"]) == size, "nothing has been added"


def word_level_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1, "a": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)


def test_special_tokens_do_not_start_from_an_unknown_word() -> None:
    tokenizer = word_level_tokenizer(eos_token="<end>")
    with pytest.raises(RecipeError, match="special_tokens_start_from: .* got '<<', which is not"):
        install_special_tokens(tokenizer, tied_gpt2(3), "<<")


def test_a_vocabulary_without_an_end_of_text_is_refused_in_words() -> None:
    tokenizer = word_level_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<bot>", "<eot>", "<pause>"]})
    with pytest.raises(RecipeError, match="end of text"):
        special_tokens_of(tokenizer)


def test_special_tokens_that_were_there_stay(tmp_path: Path) -> None:
    """Those of a chat would be split into text once the tokenizer has been saved and read."""
    tokenizer, model = base_tokenizer(), tiny_model("gpt2")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    install_special_tokens(tokenizer, model)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert {"<|user|>", "<bot>", "<eot>", "<pause>"} <= set(again.all_special_tokens)
