"""lm-evaluation-harness, the released version: its results are ours, and thoughts are used."""

import json
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install 'latentcot[lm-eval]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of its own
]

from latentcot import DataError, UsageError, evaluate, load, read_examples, train  # noqa: E402
from latentcot.evaluation.harness import TASKS, LatentLM, main, questions, sampling_of  # noqa: E402


def request(*args):
    return SimpleNamespace(args=args)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Questions as the shipped model was trained for."""
    from latentcot import write_examples
    from latentcot.tasks.prosqa.generator import make_splits
    from latentcot.tasks.prosqa.options import options_named

    path = tmp_path_factory.mktemp("data") / "test.jsonl"
    options = options_named("two-family", layers=3, shared=0)
    write_examples(path, make_splits(options, {"test": 60}, seed=5)["test"])
    return path


@pytest.mark.parametrize("task", ["latentcot_prosqa_symbols", "latentcot_own"])
def test_results_are_those_of_eval(file, task):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    metadata = {"data": str(file), "pretrained": "quickstart"}
    manager = TaskManager(include_path=str(TASKS), metadata=metadata)
    found = simple_evaluate(
        model=LatentLM("quickstart", device="cpu"), tasks=[task], task_manager=manager,
        log_samples=True,
    )  # fmt: skip
    ours = evaluate(load("quickstart", "cpu"), read_examples(file))
    assert found["results"][task]["exact_match,none"] == pytest.approx(ours.accuracy.value)
    samples = sorted(found["samples"][task], key=lambda one: one["doc_id"])
    assert [one["resps"][0][0] for one in samples] == [one.text for one in ours.records]


def test_loglikelihood_thinks_first(file):
    """Against a pass over everything read so far for each thought, without a cache."""
    model = LatentLM("quickstart", batch_size=3, device="cpu")
    reasoner, examples = model.reasoner, read_examples(file, 4)
    pairs = [(one.question, f"[A] {answer}") for one in examples for answer in (one.answer, "1")]
    found = model.loglikelihood([request(*pair) for pair in pairs])
    net, words = reasoner.model, reasoner.tokenizer
    embed, ids = net.get_input_embeddings(), reasoner.rules.special_tokens
    for (question, continuation), (score, is_greedy) in zip(pairs, found, strict=True):
        asked = [*words(question, add_special_tokens=False)["input_ids"], ids.bot]
        said = words(continuation, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            read = embed(torch.tensor([asked]))
            for _ in range(3):
                states = net.base_model(inputs_embeds=read).last_hidden_state
                read = torch.cat([read, states[:, -1:]], 1)
            read = torch.cat([read, embed(torch.tensor([[ids.eot, *said]]))], 1)
            logits = net(inputs_embeds=read).logits[0, -len(said) - 1 : -1].log_softmax(-1)
        assert score == pytest.approx(
            sum(logits[i, t].item() for i, t in enumerate(said)), abs=1e-4
        )
        assert is_greedy == (logits.argmax(-1).tolist() == said)
    with pytest.raises(DataError, match="'zebra' holds a word that the model's vocabulary lacks"):
        model.loglikelihood([request(examples[0].question, "zebra")])
    without = LatentLM(reasoner, num_thoughts=0).loglikelihood([request(*pair) for pair in pairs])
    assert all(abs(one[0] - other[0]) > 1e-3 for one, other in zip(found, without, strict=True))


def test_texts_end_before_until(file):
    model = LatentLM("quickstart", device="cpu")
    question = read_examples(file, 1)[0].question
    whole, cut, short = model.generate_until(
        [
            request(question, {"until": [], "do_sample": False}),
            request(question, {"until": ["]"]}),
            request(question, {"until": [], "max_gen_toks": 1}),
        ]
    )
    assert whole.startswith("[A] ")
    assert (cut, short) == ("[A", "[A]")


def test_what_it_cannot_do_is_told(file):
    model = LatentLM("quickstart", device="cpu")
    with pytest.raises(UsageError, match="nothing to think"):
        model.loglikelihood_rolling([request("x")])
    with pytest.raises(UsageError, match="num_beams too"):
        sampling_of({"num_beams": 4})
    with pytest.raises(UsageError, match="got peft too"):
        LatentLM("quickstart", peft="x")
    with pytest.raises(UsageError, match="no tokens"):
        model.loglikelihood([request(read_examples(file, 1)[0].question, "")])
    with pytest.raises(UsageError, match="no recipe names test data"):
        questions()
    assert sampling_of({"do_sample": False}) is None
    assert sampling_of({"temperature": 0.5, "top_p": 0.9}).temperature == 0.5


def test_answers_are_found_as_the_run_says(make_recipe, data, tmp_path):
    """A chain and an answer that are one text: the answer begins where the recipe says."""
    sources = {"answer_after": "So:"}
    for split in ("train", "valid", "test"):
        lines = [
            {"question": one.question, "answer": f"{' '.join(one.steps)} So: {one.answer}"}
            for one in read_examples(data / f"{split}.jsonl")
        ]
        path = tmp_path / f"{split}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        sources[split] = str(path)
    recipe = make_recipe("no-cot", data=sources, training={"max_updates": 2})
    train(recipe, tmp_path / "run", is_quiet=True)
    rows = questions(pretrained=str(tmp_path / "run"))["test"]
    assert rows["answer"][:] == [one.answer for one in read_examples(data / "test.jsonl")]


def test_the_test_file_of_a_run_is_asked(tiny_run, data):
    rows = questions(pretrained=str(tiny_run))["test"]
    assert rows["question"][:] == [one.question for one in read_examples(data / "test.jsonl")]
    assert set(rows["answer_start"][:]) == {"[A] "}


@pytest.mark.parametrize("words", ["--tasks X", "--tasks=X", "-t X", "-t X --include_path mine"])
def test_the_command_finds_our_tasks(words, monkeypatch):
    """Unless a folder is given."""
    import sys

    asked = []
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: asked.extend(sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["harness", *words.split()])
    main()
    ours = [] if "mine" in words else ["--include_path", str(TASKS)]
    assert asked == [*words.split(), *ours]
