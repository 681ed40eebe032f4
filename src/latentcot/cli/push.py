"""`latentcot push`: a checkpoint to the hub, with a model card."""

from typing import Annotated

from cyclopts import Parameter


def push(
    checkpoint: str,
    repo: str,
    /,
    *,
    private: Annotated[bool, Parameter(negative="")] = False,
    licence: Annotated[str | None, Parameter(("--license", "--licence"))] = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Send a checkpoint to the Hugging Face hub, with a model card.

    The card is written from the evaluations and the provenance of the run. Files go in one commit;
    what only training needs stays here. `hf auth login` asks for the token.

    Args:
        checkpoint: A run (its best checkpoint), a checkpoint folder, or quickstart (packaged).
        repo: OWNER/NAME. It is made if it is not there.
        private: Make the repository private.
        licence: License of the weights, as the hub names it: apache-2.0. Those of base model and
            data say what you may choose.
        dry_run: Show the files and the card, and send nothing.
    """
    from latentcot.evaluation.hub import CARD, pack
    from latentcot.evaluation.hub import push as send
    from latentcot.utils.display import put, say

    parcel = pack(checkpoint, repo, licence)
    if parcel.is_own_card:
        say(f"Note: the checkpoint holds a {CARD} of its own, so this one is sent.")
    if dry_run:
        for name, file in parcel.files.items():
            put(f"{file.stat().st_size:>12,}  {name}")
        put(f"{len(parcel.card.encode()):>12,}  {CARD}\n")
        put(parcel.card)
        return
    put(send(parcel, private=private))
