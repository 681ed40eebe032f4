"""What every analysis keeps to: plain values, figures from the file alone, no trace of batches.

`distribution` makes questions of its own, which these small models do not know: see its own file.
"""

import json
from dataclasses import replace
from functools import cache

import pytest

from fresh import alike, is_plain
from latentcot.analysis.registry import ANALYSES
from latentcot.analysis.shared.subject import no_progress
from latentcot.errors import UsageError
from marks import mostly_slow
from subjects import graph_examples, untrained

NAMES = [name for name in ANALYSES if name != "distribution"]
QUICK = [name for name in NAMES if name not in ("edits", "pathways")]
OF_FEW = [name for name in NAMES if name != "mediation"]  # which needs a question with a donor
COMPARING = [name for name in NAMES if ANALYSES[name].compares]
OF_LATENTS = [name for name in NAMES if "latents" in ANALYSES[name].requires]


@cache
def asked(form, method="coconut", count=6):
    return untrained(form, examples=graph_examples(form, count), method=method)


@cache
def result_of(name, form, *others):
    """The result, as a file holds it, and how many questions were said to be done."""
    done = []
    found = ANALYSES[name].run(asked(form), [asked(form, one) for one in others], done.append)
    assert is_plain(found)
    assert json.loads(json.dumps(found)) == found
    return found, sum(done)


def check_figures(name, result, *, has_rows=True):
    for drawn in ANALYSES[name].figures(result).values():
        drawn.draw_without_rendering()
    tables = ANALYSES[name].rows(result)
    assert not has_rows or name in tables
    for rows in tables.values():
        assert not any(isinstance(value, list | dict) for row in rows for value in row.values())


@pytest.mark.parametrize("form", ["words", pytest.param("symbols", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", mostly_slow(NAMES, *QUICK))
def test_results_are_plain_and_all_that_a_figure_needs(name, form):
    result, num_done = result_of(name, form)
    assert result["num_questions"] == 6 and num_done % 6 == 0 < num_done
    check_figures(name, result)


@pytest.mark.parametrize("name", mostly_slow(NAMES, "outcomes", "superposition", "probes"))
def test_no_result_depends_on_the_batches(name):
    other = ANALYSES[name].run(replace(asked("words"), batch_size=4), [], no_progress)
    assert alike(result_of(name, "words")[0], other)


@pytest.mark.parametrize("name", OF_FEW)
@pytest.mark.slow
def test_one_question_is_enough_and_has_no_intervals(name):
    result = ANALYSES[name].run(asked("words").first(1), [], no_progress)
    assert is_plain(result)
    check_figures(name, result, has_rows=name != "probes")


@pytest.mark.parametrize("method", ["cot", "coconut-no-thought"])
@pytest.mark.parametrize("name", OF_LATENTS)
def test_without_latent_positions_there_is_nothing_to_look_at(name, method):
    subject = asked("words", method)
    with pytest.raises(UsageError, match=f"{method} at stage 2 has no latent positions"):
        ANALYSES[name].run(subject, [], no_progress)
    with pytest.raises(UsageError, match=f"{method} at stage 2 has no latent positions"):
        ANALYSES[name].measure(subject, no_progress)


@pytest.mark.parametrize("name", [n for n in ANALYSES if "graphs" in ANALYSES[n].requires])
def test_questions_without_graphs_are_refused_where_graphs_are_needed(name):
    subject = asked("words")
    bare = replace(subject, examples=tuple(replace(e, meta={}) for e in subject.examples))
    with pytest.raises(UsageError, match="its questions carry no graph"):
        ANALYSES[name].run(bare, [], no_progress)


@pytest.mark.parametrize(
    "method", ["coconut-pause-as-thought", pytest.param("pause-multipass", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.slow
def test_pauses_stand_beside_thoughts(name, method):
    result, _ = result_of(name, "words", method)
    alone, _ = result_of(name, "words")
    assert {key: result[key] for key in alone} == alone
    assert (result["name"], result["against"]["name"]) == ("coconut", method)
    assert result["has_thoughts"] and not result["against"]["has_thoughts"]
    assert {row["num_questions"] for row in result["comparison"]} <= {3, 4, 5, 6}
    check_figures(name, result)
    rows = ANALYSES[name].rows(result)[name]
    assert {row["model"] for row in rows} == {"coconut", method}


@pytest.mark.parametrize("name", [name for name in COMPARING if name in OF_FEW])
@pytest.mark.slow
def test_what_cannot_stand_beside_it_is_told(name):
    result = ANALYSES[name].run(asked("words").first(2), [asked("words", "cot")], no_progress)
    assert result["against"] == {"name": "cot", "reason": "has no latent positions"}
    assert "comparison" not in result
    check_figures(name, result, has_rows=name != "probes")
    with pytest.raises(UsageError, match="must be asked the same 6 questions"):
        ANALYSES[name].run(asked("words"), [asked("words").first(5)], no_progress)
