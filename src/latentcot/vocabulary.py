"""The tokens of latent mode, and a small word-level tokenizer for models made from scratch.

New tokens start from the embedding and output row of an existing token (`<<` for GPT-2): it
stabilises training (arXiv 2412.06769, section 4.1 and its public code).
"""

import re
from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from latentcot.errors import RecipeError, did_you_mean
from latentcot.layout import MarkerIds

BOT, EOT, PAUSE = "<bot>", "<eot>", "<pause>"
END, UNKNOWN = "<eos>", "<unk>"

# A bracketed marker such as [Q], a word, or a run of signs such as ###.
WORD = r"\[\w+\]|\w+|[^\w\s]+"


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Make a tokenizer whose vocabulary is the words of `texts`, in sorted order.

    Decoding puts one blank between words and none before punctuation.
    """
    words = sorted({word for text in texts for word in re.findall(WORD, text)})
    vocabulary = {word: i for i, word in enumerate([UNKNOWN, END, BOT, EOT, PAUSE, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN, eos_token=END)
    fast.add_special_tokens({"additional_special_tokens": [BOT, EOT, PAUSE]})
    return fast


def add_markers(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, start_from: str = "<<"
) -> int:
    """Add the markers that a tokenizer lacks, each starting as a copy of the token `start_from`.

    Returns:
        How many were added.

    Raises:
        RecipeError: `start_from` is not one token of this vocabulary.
    """
    missing = [m for m in (BOT, EOT, PAUSE) if m not in tokenizer.get_vocab()]
    if not missing:
        return 0
    source: list[int] = tokenizer(start_from, add_special_tokens=False)["input_ids"]
    if len(source) != 1 or source[0] == tokenizer.unk_token_id != tokenizer.eos_token_id:
        raise RecipeError(
            f"markers_start_from: must be one token of the vocabulary, got {start_from!r}, which "
            f"is {len(source)} tokens.{did_you_mean(start_from, tokenizer.get_vocab())}"
        )
    tokenizer.add_special_tokens({"additional_special_tokens": missing})
    if len(tokenizer) > model.get_input_embeddings().get_parameter("weight").shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    new = tokenizer.convert_tokens_to_ids(missing)
    with torch.no_grad():
        for table in (model.get_input_embeddings(), model.get_output_embeddings()):
            for parameter in table.parameters():  # rows of the weights, and of a bias if any
                parameter[new] = parameter[source[0]]
    return len(missing)


def marker_ids(tokenizer: PreTrainedTokenizerBase) -> MarkerIds:
    """Look the markers up in a tokenizer that has them."""
    ids = tokenizer.get_vocab()
    return MarkerIds(ids[BOT], ids[EOT], ids[PAUSE], ids[str(tokenizer.eos_token)])
