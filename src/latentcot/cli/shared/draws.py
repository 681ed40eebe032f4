"""How `generate` and `eval` let a model think and draw: options that both have."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from latentcot.errors import UsageError

if TYPE_CHECKING:
    from latentcot.evaluation.reasoner import Drawn, Reasoner


@dataclass(frozen=True)
class Draws:
    """How answers differ; greedy and all the same if nothing is given.

    Attributes:
        rate: Tokens of a chain that each thought stands for, where the method compresses (colar).
        num_samples: Answers to each question, which differ by --noise, --dropout or --temperature.
        noise: Add Gaussian noise to each latent input, of so many standard deviations of its
            entries (0.6 to 1.4 are common).
        dropout: Set this share of the entries of all latent inputs to zero, one mask a sample.
        temperature: Draw words with this temperature; greedy with 0 or if left out.
        top_p: With --temperature: keep the smallest set of words with this much probability.
        top_k: With --temperature: keep this many words at most.
        soft_words: Read mixtures of words in place of those of the chain, weighed with this
            temperature (Soft Thinking); near 0 they are the words that greedy decoding writes.
        seed: Seed of the draws.
        precision: bfloat16 (autocast) answers batches faster where the processor multiplies it.
    """

    rate: int | None = None
    num_samples: int = 1
    noise: float | None = None
    dropout: float | None = None
    temperature: float | None = None
    top_p: float = 1.0
    top_k: int = 0
    soft_words: float | None = None
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"

    def load(self, checkpoint: str) -> "Reasoner":
        """Load a checkpoint that thinks at this rate.

        Raises:
            UsageError: It was not trained for it.
            CheckpointError: It cannot be loaded.
        """
        from latentcot.evaluation.reasoner import load

        reasoner = load(checkpoint)
        reasoner.precision = self.precision
        if self.rate is not None:
            reasoner.use_rate(self.rate)
        return reasoner

    def options(self) -> "Drawn":
        """Return them as `Reasoner.generate` takes them.

        Raises:
            UsageError: One is out of its range, or has no effect without another.
        """
        from latentcot.thinking.decoding import Sampling
        from latentcot.thinking.perturbation import Perturbation

        if not self.temperature and (self.top_p, self.top_k) != (1.0, 0):
            raise UsageError(
                "--top-p and --top-k need --temperature above 0: without it decoding is greedy."
            )
        is_drawn = self.temperature or self.noise is not None or self.dropout is not None
        if self.seed and not is_drawn:
            raise UsageError(
                f"--seed {self.seed}: nothing is drawn without --temperature, --noise or --dropout."
            )
        found: Drawn = {"num_samples": self.num_samples}
        if self.temperature:
            found["sampling"] = Sampling(self.temperature, self.top_p, self.top_k, self.seed)
        if self.soft_words is not None:
            found["soft_words"] = self.soft_words
        if self.noise is not None or self.dropout is not None:
            found["perturbation"] = Perturbation(self.noise, self.dropout, self.seed)
        return found

    @property
    def differs(self) -> tuple[str, ...]:
        """What the name of a result tells of them."""
        given = {
            "rate": self.rate,
            "noise": self.noise,
            "dropout": self.dropout,
            "temperature": self.temperature or None,
            "top-p": self.top_p if self.top_p != 1 else None,
            "top-k": self.top_k or None,
            "soft-words": self.soft_words,
            "seed": self.seed or None,
            "precision": self.precision if self.precision != "float32" else None,
        }
        parts = [f"{name}-{value}" for name, value in given.items() if value is not None]
        return (*([f"{self.num_samples}-samples"] if self.num_samples > 1 else []), *parts)
