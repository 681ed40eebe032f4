"""`latentcot make`: models that are built and not trained."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

make = App(name="make", help="Build a model by hand: what is in its thoughts is known.")


@make.command
def superposition(
    *,
    out: Path,
    architecture: Literal["gpt2", "llama"] = "gpt2",
    separator: bool = True,
    num_nodes: int = 32,
    num_edges: int | None = None,
    num_thoughts: int = 4,
    holds: Literal["within", "exactly"] = "within",
    sharpness: float = 30.0,
    basis: int | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write the theory as weights: two blocks whose thoughts search a graph (docs/analysis.md).

    It answers ProsQA in symbols, whatever the graph, with as many thoughts as the answer is edges
    away. Data: `data make prosqa --rendering symbols`, with --no-separator for pairs.

    Args:
        out: The checkpoint folder to write.
        architecture: A family of transformers.
        separator: Whether "|" stands after each edge, as in the data. GPT-2 can do without.
        num_nodes: It knows the nodes 0 … num_nodes - 1.
        num_edges: The most edges of a question; 3 a node if left out.
        num_thoughts: Thoughts before an answer: how far it searches.
        holds: Thought i holds the nodes within i edges of the root, or those at the end of a walk
            of exactly i edges: in graphs of layers the frontier alone.
        sharpness: Attention logit of an edge that begins in a node that is held. Exact from about
            ln(8 · num_edges²) on; below, edges from elsewhere leak in, and less of a node is one.
        basis: Seed of a random orthogonal basis for the nodes; a coordinate a node if left out.
        overwrite: Replace the checkpoint in this folder.
    """
    from latentcot.runs.search_by_hand import Superposition, write_superposition
    from latentcot.utils.display import put

    options = Superposition(
        architecture, separator, num_nodes, num_edges, num_thoughts, holds, sharpness, basis
    )
    made = write_superposition(options, out, overwrite=overwrite)
    num_weights = sum(parameter.numel() for parameter in made.model.parameters())
    put(f"{out}: {architecture}, 2 blocks of 2 heads, {num_weights:,} weights, no training")
    put(f"  nodes     0 … {num_nodes - 1}, in up to {options.most_edges:,} edges")
    put(f"  thoughts  {num_thoughts} (another number: --num-thoughts of eval and generate)")
    put(f"Ask it: latentcot eval {out} --data FILE")
    put(f"Look into it: latentcot analyze {out} --data FILE --out FOLDER")
