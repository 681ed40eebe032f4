"""The documentation holds: keys and defaults, links, command lines, drawings, Python blocks."""

import ast
import contextlib
import dataclasses
import re
import shlex
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("README.md")])

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
HEADING = re.compile(r"^#+ (.+)$", re.M)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [body for name, body in FENCE.findall(read(path)) if name == language]


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- links ---


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(FENCE.sub("", read(page)))
    for target in targets:
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {target}"


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = HEADING.findall(FENCE.sub("", read(path)))
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


# --- command lines ---


def command_lines(page: Path) -> Iterator[tuple[str, bool]]:
    """The `latentcot …` lines of a page, and whether they stand in a block, so must be complete."""
    text = read(page)
    rest = FENCE.sub("", text)
    code = [body for _, body in FENCE.findall(text)] + re.findall(r"^    (.*)$", rest, re.M)
    for line in "\n".join(code).replace("\\\n", " ").splitlines():
        if line.strip().removeprefix("$ ").startswith("latentcot "):
            yield line.strip().removeprefix("$ "), True
    for span in re.findall(r"`(latentcot\s[^`]+)`", rest):
        yield " ".join(span.split()), False


def words_of(line: str) -> list[str]:
    """What the shell hands to `latentcot`."""
    words = shlex.split(line, comments=True)[1:]
    return list(takewhile(lambda word: word not in {"|", "<", ">", ">>", "&&", ";"}, words))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_command_lines_are_understood(page: Path) -> None:
    from cyclopts import CycloptsError, MissingArgumentError

    from latentcot.cli import app

    for line, is_complete in command_lines(page):
        is_allowed = () if is_complete else MissingArgumentError
        try:
            with contextlib.suppress(is_allowed):
                app.parse_args(words_of(line), exit_on_error=False, print_error=False)
        except CycloptsError as error:
            pytest.fail(f"{page.name}: {line}: {error}")


# --- recipes.md ---


def recipe_parts() -> dict[str, Any]:
    from latentcot.backbones import FreshModel
    from latentcot.config import Data, Generation, Recipe, Training
    from latentcot.layout import Template
    from latentcot.stages import Curriculum

    return {
        "Top": Recipe,
        "`data:`": Data,
        "`model:`": FreshModel,
        "`template:`": Template,
        "`curriculum:`": Curriculum,
        "`training:`": Training,
        "`generation:`": Generation,
    }


def table_below(heading: str) -> dict[str, str]:
    """Key → default, of the table in a section of recipes.md."""
    sections = re.split(r"^#+ (.+)$", read(DOCS / "recipes.md"), flags=re.M)
    body = sections[sections.index(heading) + 1]
    return {
        key: shown.strip("`") for key, shown in re.findall(r"^\| `(\w+)` \| (.+?) \| ", body, re.M)
    }


@pytest.mark.parametrize("heading", ["Top", *(f"`{p}:`" for p in (
    "data", "model", "template", "curriculum", "training", "generation"))])  # fmt: skip
def test_every_key_is_documented_with_its_default(heading: str) -> None:
    table = table_below(heading)
    fields = dataclasses.fields(recipe_parts()[heading])
    assert list(table) == [field.name for field in fields]
    for field in fields:
        if field.default_factory is not dataclasses.MISSING:
            assert table[field.name] == "see below"
        elif field.default is dataclasses.MISSING:
            assert table[field.name] == "required"
        else:
            shown = yaml.safe_load(table[field.name])
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            # YAML takes 1e-4 for a text; recipes do not.
            is_number = isinstance(default, float)
            assert (float(shown) if is_number else shown) == default, field.name


@pytest.mark.parametrize("number", range(2))
def test_the_recipes_shown_are_recipes(number: int, tmp_path: Path) -> None:
    from latentcot.config import read_recipe

    path = tmp_path / "shown.yaml"
    path.write_text(blocks(DOCS / "recipes.md", "yaml")[number], encoding="utf-8")
    assert read_recipe(path).data.test


@pytest.mark.parametrize("number", range(2))
def test_the_errors_shown_are_those_printed(
    number: int, folder: Path, latentcot: Callable[..., Any]
) -> None:
    line, message = blocks(DOCS / "recipes.md", "console")[number].split("\n", maxsplit=1)
    with contextlib.chdir(folder):
        ended = latentcot(*words_of(line.removeprefix("$ ")))
    assert (ended.code, ended.err) == (2, message)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader is after the first recipe of recipes.md."""
    from latentcot.cli import app

    folder = tmp_path_factory.mktemp("reader")
    first = blocks(DOCS / "recipes.md", "yaml")[0]
    (folder / "first.yaml").write_text(first, encoding="utf-8")
    with contextlib.chdir(folder):
        for line in blocks(DOCS / "recipes.md", "sh")[0].splitlines():
            app(words_of(line), exit_on_error=False, result_action="return_value")
    return folder


def test_the_first_recipe_gives_a_run_as_described(folder: Path) -> None:
    sections = re.split(r"^#+ (.+)$", read(DOCS / "recipes.md"), flags=re.M)
    body = sections[sections.index("A run folder") + 1]
    described = re.findall(r"^\| `([^`]+)` \|", body, re.M)
    only_sometimes = {"nan-batch.json", "checkpoints/update-00001200/"}
    run = folder / "runs" / "first"
    assert only_sometimes < set(described)
    assert all((run / name).is_file() for name in {*described} - only_sometimes)
    found = {path.relative_to(run).parts[0] for path in run.rglob("*")}
    assert found == {name.split("/")[0] for name in described} - only_sometimes
    assert (run / "checkpoints" / "update-00000016" / "latentcot.json").is_file()


# --- method.md ---


def drawing() -> str:
    """Every ready method at each of its stages, as layout.py lays it out."""
    from latentcot.examples import Example
    from latentcot.layout import NO_LABEL, LayoutRules, Template, encode, lay_out
    from latentcot.methods import METHODS
    from latentcot.vocabulary import marker_ids, word_tokenizer

    example = Example("0", "4 9 7 2 9 6 2 5 6 1 5 8 [Q] 1 8 [R] 4", ("9", "6", "1"), "1")
    tokenizer = word_tokenizer([example.question, "[A]"])
    encoded = encode([example], tokenizer, Template("", "", "[A] "))[0]
    rules = LayoutRules(marker_ids(tokenizer), num_stages=3)
    lines = [
        f"question: {example.question}   steps: {', '.join(example.steps)}   answer: 1",
        "┃ loss on everything behind it; given at generation: everything before it",
    ]
    for method in METHODS.values():
        if not method.is_ready:
            continue
        lines += ["", method.name]
        for stage in method.stages(3):
            layout = lay_out(encoded, method, stage, rules)
            num_given = layout.labels.count(NO_LABEL)
            assert set(layout.labels[:num_given]) <= {NO_LABEL}
            assert layout.prefix[: len(encoded.question)] == encoded.question
            bot = tokenizer.convert_ids_to_tokens(list(layout.prefix[len(encoded.question) :]))
            words = tokenizer.convert_ids_to_tokens(list(layout.suffix))
            slots = [f"h{i}" for i in range(layout.num_thoughts)]
            row = ["question", *bot, *slots, *words[:num_given], "┃", *words[num_given:]]
            lines.append(f"  {stage}  {' '.join(row)}")
    return "\n".join(lines) + "\n"


def test_the_drawing_is_what_layout_makes() -> None:
    (shown,) = re.findall(r"<!-- drawing -->\n```text\n(.*?)```", read(DOCS / "method.md"), re.S)
    assert shown == drawing()


def test_every_method_has_its_row() -> None:
    from latentcot.methods import METHODS

    rows = re.findall(r"^\| `([\w-]+)` \|", read(DOCS / "method.md"), re.M)
    assert [row for row in rows if row in METHODS] == [*METHODS, *METHODS]  # two tables


# --- python.md ---


def test_every_public_name_is_in_python_md() -> None:
    import latentcot

    text = read(DOCS / "python.md")
    assert [name for name in latentcot.__all__ if f"`{name}`" not in text] == []


def test_the_python_blocks_run(folder: Path) -> None:
    names: dict[str, Any] = {}
    with contextlib.chdir(folder):
        for block in blocks(DOCS / "python.md", "python"):
            run_and_compare(block, names)
    assert {"reasoner", "latentcot"} <= names.keys()


def run_and_compare(block: str, names: dict[str, Any]) -> None:
    """Run a block; a line `expression  # → value` must have this value."""
    lines = block.splitlines()
    for node in ast.parse(block).body:
        _, is_shown, value = lines[(node.end_lineno or 0) - 1].partition("# → ")
        if is_shown and isinstance(node, ast.Expr):
            found = eval(compile(ast.Expression(node.value), "python.md", "eval"), names)
            assert repr(found) == value, lines[node.lineno - 1]
        else:
            assert not is_shown, f"only an expression has a value: {lines[node.lineno - 1]}"
            exec(compile(ast.Module([node], []), "python.md", "exec"), names)
