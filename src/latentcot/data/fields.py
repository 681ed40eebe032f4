"""Question, steps and answer of a record, whatever the field's data sets call them.

    ours, Coconut            question, steps, answer
    GSM8k                    question, answer "… <<9*2=18>>18 eggs.\\n#### 18"
    SVAMP                    Body, Question, Answer (a number)
    GSM-Hard                 input, target (a number; `code` is kept)
    MultiArith, Math23k, …   sQuestion, lSolutions; question, final_ans; problem, solution
    GSM8k-Aug on the hub     question, cot, answer

Steps may be missing: `eval` needs none, and training says so where a method learns from them.
"""

import math
import re
from typing import Any

QUESTIONS = ("question", "Question", "input", "problem", "sQuestion")
ANSWERS = ("answer", "Answer", "target", "final_ans", "lSolutions")
CHAINS = ("steps", "cot")
EQUATION = re.compile(r"<<[^<>]*>>")
_WHOLE = re.compile(r"-?\d+\.0+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])")


def plain_fields(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record under our names: `question`, `steps`, `answer`, and whatever else it holds.

    What cannot be read stays as it is, for `examples.py` to refuse.

    Raises:
        ValueError: A chain's `<<` and `>>` do not pair.
    """
    rest = dict(record)
    question = _taken(rest, QUESTIONS)
    body = rest.pop("Body", None)
    if isinstance(body, str) and isinstance(question, str):
        question = f"{body.strip()} {question.strip()}"
    is_ours = record.get("answer") is not None
    answer = _taken(rest, ANSWERS)
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, float) and math.isfinite(answer):
        # 18.0 is 18. Of 21557.250000000004 the noise goes: no question has 15 significant digits.
        answer = str(int(answer)) if answer == int(answer) else f"{answer:.12g}"
    elif isinstance(answer, int) and not isinstance(answer, bool):
        answer = str(answer)
    if not is_ours and isinstance(answer, str) and _WHOLE.fullmatch(answer):
        answer = answer.partition(".")[0]  # SVAMP's 51.0, in a table
    chain = _taken(rest, CHAINS)
    if isinstance(answer, str) and "####" in answer:
        told, _, answer = answer.rpartition("####")
        answer = answer.strip()
        chain = told if chain is None else chain
    if chain is None:
        chain = []
    elif isinstance(chain, str):
        chain = split_chain(chain)
    if isinstance(chain, list):  # Coconut's own preprocessing leaves "" where a line has no step
        chain = [step for step in chain if not isinstance(step, str) or step.strip()]
    return {"question": question, "steps": chain, "answer": answer, **rest}


def split_chain(text: str) -> list[str]:
    """Split a chain that is one text: at `<<…>>`, else at lines, at sentences, at blanks.

    Raises:
        ValueError: Its `<<` and `>>` do not pair.
    """
    if "<<" in text or ">>" in text:
        equations = EQUATION.findall(text)
        outside = EQUATION.sub("", text)
        if "<<" in outside or ">>" in outside:
            raise ValueError(f"its '<<' and '>>' do not pair, got {' '.join(text.split())[:80]!r}")
        return equations
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and _WORD.search(text):
        return [one.strip() for one in _SENTENCE_END.split(lines[0]) if one.strip()]
    return lines[0].split() if len(lines) == 1 else lines


def _taken(rest: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Take out what stands under the first of some names."""
    name = next((name for name in names if rest.get(name) is not None), None)
    for empty in names:
        if empty in rest and rest[empty] is None:
            del rest[empty]
    return None if name is None else rest.pop(name)
