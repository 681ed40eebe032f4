"""The tokens of latent mode, and small tokenizers for models made from scratch.

New tokens start from the embedding and output row of an existing token (`<<` for GPT-2): it
stabilises training (the paper's public code).
"""

import re
from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from latentcot.curriculum.layout import SPECIAL_TOKENS, SpecialTokens, unknown_of
from latentcot.errors import RecipeError, did_you_mean
from latentcot.utils.parsing import shown

BOT, EOT, PAUSE = SPECIAL_TOKENS
END, UNKNOWN = "<eos>", "<unk>"

# What stands between blanks, such as 12, [Q], ### or -2.5; a sign behind it is a word of its own.
WORD = r"[^\s.?!,]+(?:[.,][^\s.?!,]+)*|[.?!,]"


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Make a tokenizer whose vocabulary is the words of `texts`, in sorted order.

    Decoding puts one blank before each word and none before punctuation, so that ordinary sentences
    come back as they were.
    """
    special = [UNKNOWN, END, BOT, EOT, PAUSE]
    words = {word for text in texts for word in re.findall(WORD, text)}
    vocabulary = {word: i for i, word in enumerate([*special, *sorted(words - set(special))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    blank_before_words = decoders.Replace(Regex(r"^(?![.?!,]$)"), " ")
    tokenizer.decoder = decoders.Sequence(
        [blank_before_words, decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _fast(tokenizer, unk_token=UNKNOWN)


def bpe_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE on `texts`; every text can be written in it and read back exactly.

    Each digit is a token of its own, so that numbers of any length are written alike.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END, BOT, EOT, PAUSE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _fast(tokenizer)


def _fast(tokenizer: Tokenizer, **special_tokens: str) -> PreTrainedTokenizerBase:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, **special_tokens)
    fast.add_special_tokens({"additional_special_tokens": [BOT, EOT, PAUSE]})
    return fast


def missing_special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the special tokens that a tokenizer lacks."""
    return [m for m in (BOT, EOT, PAUSE) if m not in tokenizer.get_vocab()]


def install_special_tokens(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, start_from: str = "<<"
) -> int:
    """Add the special tokens that a tokenizer lacks, each a copy of the token `start_from`.

    Returns:
        How many were added.

    Raises:
        RecipeError: `start_from` is not one token of this vocabulary.
    """
    missing = missing_special_tokens(tokenizer)
    if not missing:
        return 0
    source: list[int] = tokenizer(start_from, add_special_tokens=False)["input_ids"]
    unknown = unknown_of(tokenizer)
    is_unknown = unknown is not None and unknown in source
    if len(source) != 1 or is_unknown:
        problem = "is not in it" if is_unknown else f"is {len(source)} tokens"
        raise RecipeError(
            f"special_tokens_start_from: must be one token of the vocabulary, got {start_from!r}, "
            f"which {problem}.{did_you_mean(start_from, tokenizer.get_vocab())}"
        )
    tokenizer.add_special_tokens(
        {"additional_special_tokens": missing}, replace_extra_special_tokens=False
    )
    make_room(tokenizer, model)
    new = tokenizer.convert_tokens_to_ids(missing)
    with torch.no_grad():
        for table in (model.get_input_embeddings(), model.get_output_embeddings()):
            for parameter in table.parameters():  # rows of the weights, and of a bias if any
                parameter[new] = parameter[source[0]].clone()
    return len(missing)


def make_room(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Give a model a row for each token that it lacks one for; the new ones mean nothing yet."""
    if len(tokenizer) > model.get_input_embeddings().get_parameter("weight").shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)


def rows_of_special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int, int]:
    """Return the rows of `<bot>`, `<eot>` and `<pause>` in the embeddings.

    Raises:
        RecipeError: The tokenizer lacks some.
    """
    ids = special_tokens_of(tokenizer)
    return ids.bot, ids.eot, ids.pause


def special_tokens_of(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """Look the special tokens up in a tokenizer that has them.

    Raises:
        RecipeError: The tokenizer has no end of text.
    """
    ids = tokenizer.get_vocab()
    if tokenizer.eos_token is None:
        raise RecipeError("model: its tokenizer has no end of text (eos_token). Give it one.")
    lacking = [name for name in (BOT, EOT, PAUSE, str(tokenizer.eos_token)) if name not in ids]
    if lacking:
        raise RecipeError(f"model: its tokenizer lacks {', '.join(map(shown, lacking))}.")
    return SpecialTokens(ids[BOT], ids[EOT], ids[PAUSE], ids[str(tokenizer.eos_token)])
