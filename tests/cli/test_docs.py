"""The documentation holds: keys and defaults, links, command lines, drawings, Python blocks."""

import ast
import contextlib
import dataclasses
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("README*.md")])

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
HEADING = re.compile(r"^#+ (.+)$", re.M)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SOURCE = "https://github.com/latentcot/latentcot/blob/main/"
"""How pages of docs/ link to what lies outside: on the site there are the pages alone."""


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [body for name, body in FENCE.findall(read(path)) if name == language]


def consoles(page: str) -> list[tuple[list[str], str]]:
    """The `$ latentcot …` blocks of a page: the words of the command, and what it prints."""
    found = []
    for block in blocks(DOCS / page, "console"):
        line, printed = block.replace("\\\n", " ").split("\n", maxsplit=1)
        found.append((words_of(line.removeprefix("$ ")), printed))
    return found


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- links ---


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(FENCE.sub("", read(page)))
    for target in targets:
        is_source = target.startswith(SOURCE)
        if re.match(r"\w+:", target) and not is_source:
            continue
        name, _, anchor = target.removeprefix(SOURCE).partition("#")
        path = (ROOT if is_source else page.parent) / name if name else page
        assert path.exists(), f"{page.name}: {target}"
        if page.is_relative_to(DOCS) and not is_source:
            assert path.resolve().is_relative_to(DOCS), f"{page.name}: {target}: write {SOURCE}…"
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


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_recipes_are_called_by_their_names(page: Path) -> None:
    """And not as before, which is understood, and said to be old."""
    from latentcot.recipes.values import packaged_recipes

    for line, _ in command_lines(page):
        command, recipe, *_ = [*words_of(line), "", ""]
        if command in ("train", "plan") and re.fullmatch(r"[a-z0-9][a-z0-9./-]*", recipe):
            assert recipe.endswith(".yaml") or recipe in packaged_recipes(), line


# --- recipes.md ---


def recipe_parts() -> dict[str, Any]:
    from latentcot.curriculum.layout import Template
    from latentcot.curriculum.stages import Curriculum
    from latentcot.models.settings import FromScratch, Lora
    from latentcot.recipes.recipe import Data, Generation, Recipe, Stop, Training
    from latentcot.tasks import AnswerMatch

    return {
        "Top": Recipe,
        "`data:`": Data,
        "`task:`": AnswerMatch,
        "`model:`": FromScratch,
        "`lora:`": Lora,
        "`template:`": Template,
        "`curriculum:`": Curriculum,
        "`stop:`": Stop,
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
    "data", "task", "model", "lora", "template", "curriculum", "stop", "training", "generation",
))])  # fmt: skip
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


def test_the_recipes_shown_are_recipes(tmp_path: Path) -> None:
    """All of them; what is no whole recipe must be a part of one."""
    from latentcot.recipes.recipe import read_recipe

    shown = blocks(DOCS / "recipes.md", "yaml")
    (tmp_path / "first.yaml").write_text(shown[0], encoding="utf-8")
    for number, block in enumerate(shown):
        is_whole = {"data", "extends"} & yaml.safe_load(block).keys()
        path = tmp_path / f"{number}.yaml"
        path.write_text(block if is_whole else f"extends: first.yaml\n{block}", encoding="utf-8")
        assert read_recipe(path).data.test


def test_the_packaged_recipes_are_named() -> None:
    """One by one; but `small/…` stands for many."""
    from latentcot.recipes.values import packaged_recipes

    page = read(DOCS / "recipes.md")
    tasks = "gsm8k|prontoqa|prosqa|prosqa-symbolic|prosqa-words"
    below = rf"(?:{tasks})/[a-z0-9][a-z0-9.-]*"
    table = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    named = set(re.findall(rf"`({below})`", table))
    there = set(packaged_recipes())
    assert named <= there
    others = {one for one in there - named if f"`{one}`" not in table}
    assert {one.split("/")[0] for one in others} <= {"small"}


@pytest.mark.parametrize("number", range(2))
def test_the_errors_shown_are_those_printed(
    number: int, folder: Path, latentcot: Callable[..., Any]
) -> None:
    words, message = consoles("recipes.md")[number]
    with contextlib.chdir(folder):
        ended = latentcot(*words)
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
    (folder / "example.jsonl").write_text(blocks(DOCS / "method.md", "json")[0], encoding="utf-8")
    return folder


def test_the_first_recipe_gives_a_run_as_described(folder: Path) -> None:
    sections = re.split(r"^#+ (.+)$", read(DOCS / "recipes.md"), flags=re.M)
    body = sections[sections.index("A run folder") + 1]
    described = re.findall(r"^\| `([^`]+)` \|", body, re.M)
    only_sometimes = {"nan-batch.json", "analysis/", "trackers/", "checkpoints/update-00001200/"}
    run = folder / "runs" / "first"
    assert only_sometimes < set(described)
    assert all((run / name).is_file() for name in {*described} - only_sometimes)
    found = {path.relative_to(run).parts[0] for path in run.rglob("*")}
    assert found == {
        name.split("/")[0] for name in {*described} - {"analysis/", "nan-batch.json", "trackers/"}
    }
    assert (run / "checkpoints" / "update-00000016" / "latentcot.json").is_file()


# --- own-data.md ---


@pytest.fixture
def clock(tmp_path: Path, latentcot: Callable[..., Any]) -> Iterator[Path]:
    """Where a reader of own-data.md is before training."""
    page = DOCS / "own-data.md"
    [(words, message)] = consoles("own-data.md")
    with contextlib.chdir(tmp_path):
        exec(blocks(page, "python")[0], {})
        assert latentcot(*words).err == message
        (tmp_path / "clock.yaml").write_text(blocks(page, "yaml")[0], encoding="utf-8")
        split = words_of(blocks(page, "sh")[0].replace("\\\n", " "))
        assert latentcot(*split).code == 0
        yield tmp_path


def lines_of_own_data() -> list[list[str]]:
    return [words_of(line) for line in blocks(DOCS / "own-data.md", "sh")[1].splitlines()]


@pytest.mark.usefixtures("clock")
def test_ones_own_table_becomes_sequences(latentcot: Callable[..., Any]) -> None:
    from latentcot.recipes.recipe import make_recipe

    shown = latentcot(*lines_of_own_data()[0])
    assert (shown.code, "question <bot> h0 h1 h2 <eot> ┃ [A] " in shown.out) == (0, True)
    data = make_recipe(yaml.safe_load(blocks(DOCS / "own-data.md", "yaml")[1])).data
    assert data.columns is not None and data.columns.question == ("instruction", "input")


@pytest.mark.slow
def test_ones_own_table_becomes_an_answer(clock: Path, latentcot: Callable[..., Any]) -> None:
    """As the page says it, minutes included."""
    from latentcot.evaluation.results import Evaluation

    *_, answered = [latentcot(*words) for words in lines_of_own_data()]
    assert answered.out == "[A] 9\n", answered.err
    result = Evaluation.read(clock / "runs" / "clock" / "evals" / "test.json")
    assert result.accuracy.value > 0.9 and result.accuracy.n == 150


# --- method.md ---


@pytest.mark.parametrize("number", range(2))
def test_the_drawings_are_what_show_prints(
    number: int, folder: Path, latentcot: Callable[..., Any]
) -> None:
    words, drawing = consoles("method.md")[number]
    with contextlib.chdir(folder):
        ended = latentcot(*words)
    assert (ended.code, ended.out) == (0, drawing)


def test_every_method_is_drawn_and_has_its_rows() -> None:
    from latentcot.methods import METHODS, PAPER_METHODS

    _, drawing = consoles("method.md")[0]
    assert re.findall(r"^[\w-]+$", drawing, re.M) == [*METHODS]
    rows = re.findall(r"^\| `([\w-]+)` \|", read(DOCS / "method.md"), re.M)
    assert [row for row in rows if row in METHODS] == [*METHODS, *PAPER_METHODS]  # two tables


# --- methods.md ---


@pytest.fixture
def own_methods() -> Iterator[None]:
    """Forget afterwards what a test has added to the table."""
    from latentcot.methods import METHODS, load_entry_points

    before = dict(METHODS)
    load_entry_points.cache_clear()
    yield
    METHODS.clear()
    METHODS.update(before)
    load_entry_points.cache_clear()


def test_the_table_of_methods_is_the_table() -> None:
    from latentcot import methods
    from latentcot.methods import View

    page = read(DOCS / "methods.md")
    row = r"^\| `([\w-]+)` \| `(\w+)` \| `(\w+)` \| (yes|no) \|$"
    shown = {
        name: View(getattr(methods, schedule), getattr(methods, latents), special_tokens == "yes")
        for name, schedule, latents, special_tokens in re.findall(row, page, re.M)
    }
    assert shown == {name: methods.method_named(name).view for name in shown}
    later = re.findall(r"^\| `([\w-]+)` \| .* \| \[`\w+\.py`\]", page, re.M)
    assert [*shown, *later] == [*methods.METHODS]


@pytest.mark.usefixtures("own_methods")
def test_the_methods_shown_can_be_added_and_trained(folder: Path) -> None:
    names = run_python_blocks(DOCS / "methods.md", folder)
    assert {"bare", "backwards", "soft", "gate"} <= names.keys()


@pytest.mark.usefixtures("own_methods")
def test_the_package_shown_adds_its_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, latentcot: Callable[..., Any]
) -> None:
    """As pip would install it: the module, and what its pyproject.toml says of entry points."""
    (text,) = blocks(DOCS / "methods.md", "toml")
    project = tomllib.loads(text)["project"]
    (group, entries), *others = project["entry-points"].items()
    module = "\n".join(blocks(DOCS / "methods.md", "python")[:4])
    (tmp_path / "my_methods.py").write_text(module, encoding="utf-8")
    about = tmp_path / "my_methods-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    assert not others
    with contextlib.chdir(folder):
        ended = latentcot("show", "first.yaml", "--method", "coconut-backwards")
    assert ended.code == 0, ended.err
    assert "coconut-backwards" in ended.out
    listed = latentcot("list", "methods").out
    assert all(name in listed for name in entries)


# --- python.md ---


def test_every_public_name_is_in_python_md() -> None:
    import latentcot

    text = read(DOCS / "python.md")
    assert [name for name in latentcot.__all__ if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", ["python.md", "methods.md", "analysis.md", "data-format.md"])
def test_what_these_pages_import_is_public(page: str) -> None:
    told = read(DOCS / "python.md").split("\n## ")[0]
    modules = re.findall(r"^ *from (latentcot\.[\w.]+) import", read(DOCS / page), re.M)
    assert modules and [name for name in modules if f"`{name}`" not in told] == []


def test_the_python_blocks_run(folder: Path) -> None:
    names = run_python_blocks(DOCS / "python.md", folder)
    assert {"reasoner", "latentcot"} <= names.keys()


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_what_the_readme_begins_with(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_python_blocks(ROOT / name, ROOT)
    assert "[A] 8" in capsys.readouterr().out
    assert "`[A] 8`" in read(ROOT / name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_what_peft_is_shown_to_read(folder: Path) -> None:
    from peft import PeftModel

    from latentcot.cli import app

    lines = "\n".join(blocks(DOCS / "recipes.md", "sh"))
    (line,) = re.findall(r"^latentcot train .* --out runs/lora .*$", lines, re.M)
    with contextlib.chdir(folder):
        app(words_of(line), exit_on_error=False, result_action="return_value")
    assert isinstance(run_python_blocks(DOCS / "recipes.md", folder)["model"], PeftModel)


@pytest.mark.slow
def test_what_plain_transformers_is_shown_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.setattr("sys.path", [*sys.path])
    assert "message" in run_python_blocks(DOCS / "transformers.md", folder)


def run_python_blocks(page: Path, folder: Path) -> dict[str, Any]:
    """Run the Python blocks of a page in a folder; return what they have named."""
    names: dict[str, Any] = {}
    with contextlib.chdir(folder):
        for block in blocks(page, "python"):
            run_and_compare(block, names)
    return names


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
