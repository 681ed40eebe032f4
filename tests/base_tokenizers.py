"""The tokenizer of an external model, trained here."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

END = "<|endoftext|>"
TEXTS = ["Tom has 3 apples.\n<<3+4=7>>\n<<7-2=5>>\n### 5", "How many are left?\n<<1+1=2>>\n### 2"]


def base_tokenizer() -> PreTrainedTokenizerBase:
    """As GPT-2's: byte-level, `<<` is one token, no special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
