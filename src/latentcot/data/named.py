"""THE TABLE of named data sets: where each lies, what its records hold, how many questions it has.

    NAME              the split that papers test on; in a recipe that of the key where it stands
    NAME:SPLIT        another split
    NAME=FILE         a file of it on disk, in any form of docs/data-format.md; NAME:SPLIT=FILE

A name stands wherever a file of examples may. `./NAME` is a file that happens to be called so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from latentcot.data.fields import EQUATION
from latentcot.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """One data set.

    Attributes:
        about: One line for `latentcot list data`, with the source.
        fields: The names of question, chain and answer in its records.
        hub: Where it lies there; None if nowhere that we know.
        splits: Ours → the hub's, and how many questions it has.
        file: A file of it that people have.
        match: How answers are compared; by the rule of the checkpoint's task if None.
        tested: The split that papers test on.
        has_lines: Whether each line of the solution is a step, in words; else each equation.
        differ: What papers call by the same name, if that is not one thing.
    """

    about: str
    fields: str = "question; steps; answer"
    hub: str | None = None
    splits: Mapping[str, tuple[str, int]]
    file: str
    match: Literal["number"] | None = "number"
    tested: str = "test"
    has_lines: bool = False
    differ: str = ""


_GSM8K = Named(
    about="grade school word problems (arXiv 2110.14168), each equation a step",
    fields="question; answer (a solution with <<9*2=18>> and, behind it, #### 18)",
    hub="openai/gsm8k:main", splits={"train": ("train", 7_473), "test": ("test", 1_319)},
    file="train.jsonl or test.jsonl of openai/grade-school-math",
)  # fmt: skip
_AUG = {"train": ("train", 385_620), "valid": ("validation", 500), "test": ("test", 1_319)}
NAMED: dict[str, Named] = {
    "gsm8k": _GSM8K,
    "gsm8k-nl": replace(_GSM8K, about="the same, each line of the solution a step", has_lines=True),
    "gsm8k-aug": Named(
        about="GSM8k with made questions, chains of equations (arXiv 2405.14838)",
        hub="whynlp/gsm8k-aug", splits=_AUG,
        file="data/gsm8k/train.txt, valid.txt or test.txt of da03/Internalize_CoT_Step_by_Step",
    ),
    "gsm8k-aug-nl": Named(
        about="the same questions, chains in words", hub="whynlp/gsm8k-aug-nl", splits=_AUG,
        file="an export of whynlp/gsm8k-aug-nl",
    ),
    "gsm8k-platinum": Named(
        about="GSM8k's test, its labels revised (arXiv 2502.03461)", fields=_GSM8K.fields,
        hub="madrylab/gsm8k-platinum:main", splits={"test": ("test", 1_209)},
        file="an export of madrylab/gsm8k-platinum",
    ),
    "gsm-hard": Named(
        about="GSM8k's test with large numbers (arXiv 2211.10435)", fields="input; target",
        hub="reasoning-machines/gsm-hard", splits={"test": ("train", 1_319)},
        file="gsmhardv2.jsonl of reasoning-machines/gsm-hard",
        differ="1,319 (CODI, LOTUS) and 1,318 (LatentTTS). Some targets are known to be wrong",
    ),
    "svamp": Named(
        about="one step, varied wording (arXiv 2103.07191)", fields="Body and Question; Answer",
        hub="ChilleD/SVAMP", tested="all", file="SVAMP.json of arkilpatel/SVAMP",
        splits={"all": ("train+test", 1_000), "train": ("train", 700), "test": ("test", 300)},
        differ="all 1,000 (CODI, LOTUS) and the 300 of the test split (svamp:test)",
    ),
    "multiarith": Named(
        about="several steps (Roy and Roth 2015)", hub="ChilleD/MultiArith",
        fields="question; final_ans (or sQuestion; lSolutions)",
        splits={"test": ("test", 180), "train": ("train", 420), "all": ("train+test", 600)},
        file="the first MultiArith.json has all 600, multiarith:all=MultiArith.json",
        differ="180 (CODI, LOTUS: the test split), 580 (LatentTTS), 600 (CoLaR: multiarith:all)",
    ),
    "prosqa": Named(
        about="paths in graphs of made-up kinds (arXiv 2412.06769)", match=None,
        splits={"train": ("", 17_886), "valid": ("", 300), "test": ("", 500)},
        file="data/prosqa_*.json of facebookresearch/coconut; `latentcot data make` makes others",
    ),
    "prontoqa": Named(
        about="made-up ontologies of 5 hops (arXiv 2210.01240, as in 2412.06769)", match=None,
        fields="question and query; chain_of_thought; answer",
        splits={"train": ("", 9_000), "valid": ("", 200), "test": ("", 800)},
        file="what asaparov/prontoqa writes; `latentcot data make` makes others",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A named data set as somebody asked for it: a split, and a file where one was given."""

    name: str
    row: Named
    split: str
    path: str | None


def asked(source: Path | str) -> Asked | None:
    """Return which named data set a source is; None for a file, a folder, or `hub:…`.

    Raises:
        DataError: It has no such split, or no file stands behind `=`.
    """
    head, is_file, path = str(source).partition("=")
    name, colon, split = head.partition(":")
    if name not in NAMED:
        return None
    row = NAMED[name]
    split = split if colon else row.tested
    if split not in row.splits or (is_file and not path):
        wrong = "no file stands behind '='" if split in row.splits else f"has no split {split!r}"
        raise DataError(
            f"{source}: {wrong}. Write {name} ({row.tested}), {name}:SPLIT with one of "
            f"{', '.join(row.splits)}, or {name}=FILE. See `latentcot list data`."
        )
    return Asked(name, row, split, path if is_file else None)


def place_of(source: Path | str) -> str:
    """Return the file, the folder or the `hub:…` that a source stands for.

    Raises:
        DataError: As `asked`; or it has to be a file, and none is said.
    """
    one = asked(source)
    if one is None:
        return str(source)
    if one.path is None and one.row.hub is None:
        raise DataError(f"{source}: lies in no data set of the hub.{file_of(source)}")
    return one.path or f"hub:{one.row.hub}:{one.row.splits[one.split][0]}"


def file_of(source: Path | str) -> str:
    """Return in words which file can be given for a named data set; nothing for other sources."""
    one = asked(source)
    return "" if one is None else f" Give {one.name}:{one.split}=FILE, {one.row.file}."


def for_key(source: str, key: str) -> str:
    """Return a source as it stands at `data.train`, `valid` or `test`: a bare name gets its split.

    Raises:
        DataError: It has none.
    """
    one = asked(source)
    head, is_file, path = source.partition("=")
    if one is None or ":" in head:
        return source
    found = f"{one.name}:{one.split if key == 'test' else key}{is_file}{path}"
    asked(found)
    return found


def label_of(source: str) -> str:
    """Return what a named data set is called in tables and files; of other sources themselves."""
    one = asked(source)
    whole = source if one is None else f"{one.name}-{one.split}"
    return one.name if one and one.split == one.row.tested else whole


def reader_of(source: Path | str) -> Callable[[Any], Any]:
    """Return what turns a record as it was read into one with the steps that were asked for."""
    one = asked(source)

    def with_lines(record: Any) -> Any:
        answer = record.get("answer") if isinstance(record, dict) else None
        if not isinstance(answer, str) or "####" not in answer:
            return record
        told, _, answer = answer.rpartition("####")
        lines = (EQUATION.sub("", line).strip() for line in told.splitlines())
        return record | {"steps": [line for line in lines if line], "answer": answer.strip()}

    return with_lines if one is not None and one.row.has_lines else lambda record: record


def notes_on(source: Path | str, count: int, *, is_test: bool = True) -> list[str]:
    """Return what is odd: a count that is not the published one; of a test, a name for several."""
    one, notes = asked(source), []
    if one and count != (published := one.row.splits[one.split][1]):
        notes.append(
            f"{one.name}: {count:,} questions were read, but {one.name}:{one.split} has "
            f"{published:,}: this is not the set that papers take."
        )
    if one and one.row.differ and is_test:
        notes.append(f"{one.name}: papers differ under this name: {one.row.differ}.")
    return notes
