"""Try every causal LM that transformers has, tiny: the way in which each one reads.

    python dev/families.py [FAMILY ...] [--write]

Prints family, way and, where it is not the fastest, why. `--write` puts all of them into the table
of docs/models.md, which tests/thinking/test_families.py holds them to.
"""

import argparse
import re
import sys
import warnings
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE / "tests"))


def main() -> None:
    """Try the families, print the ways and perhaps write them down."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.utils import logging

    from families import NotTiny, tiny_family
    from latentcot.errors import RecipeError
    from latentcot.thinking.capability import choose_way

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.set_verbosity(logging.CRITICAL)
    by_way = defaultdict[str, list[str]](list)
    for family in asked.families or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            model = tiny_family(family)
        except NotTiny as error:
            print(f"not tried: {' '.join(str(error).split())[:150]}")
            continue
        try:
            way, why = str(choose_way(model, is_trained=True)), ""
        except RecipeError as error:
            way, why = "refused", str(error)
        by_way[way].append(family)
        print(f"{family:28} {way:8} {why}", flush=True)
    print({way: len(found) for way, found in by_way.items()})
    if asked.write:
        page = HERE / "docs" / "models.md"
        text = page.read_text(encoding="utf-8")
        for way, found in by_way.items():
            cell = f"| {len(found)}: {', '.join(sorted(found))} <!-- {way} --> |"
            text = re.sub(rf"\|[^|\n]*<!-- {way} --> \|", lambda _, cell=cell: cell, text)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
