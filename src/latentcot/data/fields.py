"""Question, steps and answer of a record, whatever the field's data sets call them.

    ours, Coconut            question, steps, answer
    GSM8k                    question, answer "… <<9*2=18>>18 eggs.\\n#### 18"
    SVAMP                    Body, Question, Answer (a number)
    GSM-Hard                 input, target (a number; `code` is kept)
    MultiArith, Math23k, …   sQuestion, lSolutions; question, final_ans; problem, solution
    GSM8k-Aug on the hub     question, cot, answer
    trl                      prompt, completion, texts or messages
    chats                    messages (role, content) or conversations (from, value)
    reasoning models         "<think>chain</think>answer", or a message's reasoning_content

Any other names are told by `Fields`: `data.columns` of a recipe. Steps may be missing: `eval` needs
none, and training says so where a method learns from them.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from latentcot.errors import did_you_mean
from latentcot.utils.parsing import named, shown

QUESTIONS = (
    "question", "Question", "input", "problem", "sQuestion", "prompt", "messages", "conversations",
)  # fmt: skip
ANSWERS = ("answer", "Answer", "target", "final_ans", "lSolutions", "completion")
CHAINS = ("steps", "cot")
EQUATION = re.compile(r"<<[^<>]*>>")
_WHOLE = re.compile(r"-?\d+\.0+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])")


@dataclass(frozen=True)
class Columns:
    """The names of the columns, where they are none that is known.

    Attributes:
        question: What is asked; several are put together, a blank between them.
        steps: The chain, a list or one text.
        answer: The answer.
        id: The name of an example.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic

    question: str | tuple[str, ...] | None = None
    steps: str | None = None
    answer: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Fields:
    """How question, steps and answer are found in a record; see docs/data-format.md.

    Attributes:
        columns: Which column is which, as in --columns.question prompt --columns.answer reply; the
            usual names if left out.
        steps_split: How a chain that is one text becomes steps: equations, lines, sentences, words,
            or the text that stands between two steps.
        answer_after: The answer is what follows this text in its column, and the chain what stands
            before it, such as "The answer is"; #### if left out.
    """

    columns: Columns | None = None
    steps_split: str | None = None
    answer_after: str | None = None

    @property
    def differs(self) -> tuple[str, ...]:
        """What the name of a result tells of them."""
        columns = {} if self.columns is None else vars(self.columns)
        given = {**columns, "steps-split": self.steps_split, "answer-after": self.answer_after}
        texts = {
            key: "+".join(value) if isinstance(value, tuple) else value
            for key, value in given.items()
        }
        return tuple(f"{key}-{text}" for key, text in texts.items() if text is not None)


USUAL = Fields()


def plain_fields(record: dict[str, Any], fields: Fields = USUAL) -> dict[str, Any]:
    """Return a record under our names: `question`, `steps`, `answer`, and whatever else it holds.

    What cannot be read stays as it is, for `examples.py` to refuse.

    Raises:
        ValueError: A column is not there, a mark in a text is missing, or marks do not pair.
    """
    rest, columns = dict(record), fields.columns or Columns()
    question = _taken(rest, record, "question", columns.question, QUESTIONS)
    if isinstance(question, tuple):
        question = " ".join(str(part).strip() for part in question if part is not None)
    body = rest.pop("Body", None)
    if isinstance(body, str) and isinstance(question, str):
        question = f"{body.strip()} {question.strip()}"
    is_ours = columns.answer is not None or record.get("answer") is not None
    answer = _taken(rest, record, "answer", columns.answer, ANSWERS)
    chain = _taken(rest, record, "steps", columns.steps, CHAINS)
    if columns.id is not None:
        rest["id"] = _taken(rest, record, "id", columns.id, ())
    if _is_chat(question):
        question, answer, thought = _of_chat([*question, *(answer if _is_chat(answer) else ())])
        chain = thought if chain is None else chain
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, float) and math.isfinite(answer):
        # 18.0 is 18. Of 21557.250000000004 the noise goes: no answer has 16 significant digits.
        answer = str(int(answer)) if answer == int(answer) else f"{answer:.15g}"
    elif isinstance(answer, int):
        answer = str(answer)
    if not is_ours and isinstance(answer, str) and _WHOLE.fullmatch(answer):
        answer = answer.partition(".")[0]  # SVAMP's 51.0, in a table
    marks = ["</think>", fields.answer_after or "####"]
    for mark in marks if isinstance(answer, str) else ():
        told, is_there, behind = answer.rpartition(mark)
        if is_there:
            told = told.strip().removeprefix("<think>")
            chain, answer = told if chain is None else chain, behind.strip()
        elif mark == fields.answer_after:
            raise ValueError(f"its answer has no {mark!r} (answer_after), got {shown(answer)}")
        elif mark == marks[0] and answer.lstrip().startswith("<think>"):
            raise ValueError(f"its <think> has no </think>, got {shown(answer)}")
    if chain is None:
        chain = []
    elif isinstance(chain, str):
        chain = split_chain(chain, fields.steps_split)
    if isinstance(chain, list):  # Coconut's own preprocessing leaves "" where a line has no step
        chain = [step for step in chain if not isinstance(step, str) or step.strip()]
    return {**rest, "question": question, "steps": chain, "answer": answer}


def split_chain(text: str, how: str | None = None) -> list[str]:
    """Split a chain that is one text: at `<<…>>`, else at lines, at sentences, at blanks.

    Args:
        text: The chain.
        how: Only so: `equations`, `lines`, `sentences`, `words`, or else at this text.

    Raises:
        ValueError: Its `<<` and `>>` do not pair.
    """
    if how not in (None, "equations", "lines", "sentences", "words"):
        return [step.strip() for step in text.split(how) if step.strip()]
    if how == "equations" or (how is None and ("<<" in text or ">>" in text)):
        equations = EQUATION.findall(text)
        outside = EQUATION.sub("", text)
        if "<<" in outside or ">>" in outside:
            raise ValueError(f"its '<<' and '>>' do not pair, got {' '.join(text.split())[:80]!r}")
        return equations
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if how == "sentences" or (how is None and len(lines) == 1 and _WORD.search(text)):
        return [one.strip() for one in _SENTENCE_END.split(" ".join(lines)) if one.strip()]
    return text.split() if how == "words" or (how is None and len(lines) == 1) else lines


def _taken(
    rest: dict[str, Any],
    record: Mapping[str, Any],
    field: str,
    column: str | Iterable[str] | None,
    usual: tuple[str, ...],
) -> Any:
    """Take out what stands in a column, in several, or under the first of the usual names."""
    columns = [column] if isinstance(column, str) else column
    if columns is not None:
        for name in columns:
            if name not in record:
                raise ValueError(
                    f"columns.{field} names {shown(name)}, which is none of its columns: "
                    f"{', '.join(map(named, record))}.{did_you_mean(name, record)}".rstrip(".")
                )
        values = tuple(rest.pop(name, record[name]) for name in columns)
        return values[0] if isinstance(column, str) else values
    found = next((name for name in usual if rest.get(name) is not None), None)
    for empty in usual:
        if empty in rest and rest[empty] is None:
            del rest[empty]
    return None if found is None else rest.pop(found)


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _of_chat(messages: list[dict[str, Any]]) -> tuple[str, str, str | None]:
    """Return question, answer and, where the message keeps it apart, the chain."""
    turns = [(one.get("role", one.get("from")), one.get("content", one.get("value")))
             for one in messages]  # fmt: skip
    roles = [{"human": "user", "gpt": "assistant"}.get(str(role), str(role)) for role, _ in turns]
    asked = roles[1:] if roles[:1] == ["system"] else roles
    if asked != ["user", "assistant"]:
        raise ValueError(
            "its chat must be one question (user) and one answer (assistant), with a system "
            f"message before them or without, got {', '.join(roles[:8])}"
        )
    *before, answer = [text for _, text in turns if isinstance(text, str)]
    if len(before) + 1 < len(turns):
        raise ValueError("its chat must hold texts, got a message that is none")
    chain = messages[-1].get("reasoning_content", messages[-1].get("thinking"))
    return "\n".join(before), answer, chain
