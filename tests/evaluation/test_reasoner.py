"""The Python API on a tiny run: load, generate, think."""

from dataclasses import replace

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import latentcot
from latentcot import CheckpointError, DataError, Sampling, UsageError
from latentcot.curriculum.layout import NO_LABEL, Template, encode_questions
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import read_metrics
from latentcot.thinking.decoding import generate


@pytest.fixture(scope="module")
def questions(data):
    """Of different lengths, the longest in the middle."""
    found = [example.question for example in latentcot.read_examples(data / "test.jsonl")[:5]]
    shorter = [" ".join(text.split()[2 * i :]) for i, text in enumerate(found)]
    return [shorter[4], shorter[2], shorter[0], shorter[3], shorter[1]]


def test_the_lines_of_the_readme(tiny_run, questions):
    reasoner = latentcot.load(tiny_run)
    out = reasoner.generate(questions[:1], max_new_tokens=64)
    assert isinstance(out[0].answer, str)
    assert out[0].num_thoughts == 2
    think = reasoner.think(questions[:1], num_thoughts=3)
    assert think.thoughts.shape == (1, 3, 16)
    assert think.last_states.shape == (1, 16)


def test_what_is_given_wrongly_is_told(tiny_run, questions, data):
    reasoner = latentcot.load(tiny_run)
    with pytest.raises(UsageError, match=r"no option temperature.*sampling=latentcot.Sampling"):
        reasoner.generate(questions, temperature=0.5)
    with pytest.raises(UsageError, match=r"no option batch_sizes. Did you mean 'batch_size'"):
        reasoner.generate(questions, batch_sizes=2)
    with pytest.raises(UsageError, match=r"num_thoughts: must be 0"):
        reasoner.generate(questions, num_thoughts="3")
    with pytest.raises(UsageError, match=r"needs a Reasoner, .* got 'quickstart'"):
        latentcot.evaluate("quickstart", latentcot.read_examples(data / "test.jsonl"))
    with pytest.raises(latentcot.RecipeError, match=r"overrides: must be a list"):
        latentcot.read_recipe("quickstart", "seed=1")


class TestLoad:
    def test_a_run_is_its_best_checkpoint(self, tiny_run):
        reasoner = latentcot.load(tiny_run)
        assert (reasoner.info.stage, reasoner.info.update) == (2, 12)
        assert not reasoner.model.training
        assert latentcot.load(str(tiny_run)).info == reasoner.info

    def test_a_checkpoint_knows_what_it_was_trained_for(self, tiny_run):
        trained = [row for row in read_metrics(tiny_run) if row["kind"] == "train"]
        stages = {row["update"]: row["stage"] for row in trained}
        for folder in checkpoint_folders(tiny_run):
            info = latentcot.load(folder).info
            assert folder.name == f"update-{info.update:08d}"
            assert info.stage == info.num_thoughts == stages[info.update]
            assert info.method == "coconut"

    def test_refuses_what_is_no_checkpoint(self, data, tmp_path):
        with pytest.raises(CheckpointError, match=r"holds no latentcot\.json"):
            latentcot.load(data)
        with pytest.raises(CheckpointError, match="no such folder"):
            latentcot.load(tmp_path / "nowhere")


def test_one_text_has_one_output(babbler, questions):
    one = babbler.generate(questions[0], max_new_tokens=5)
    assert one == babbler.generate(questions[:1], max_new_tokens=5)[0]
    with pytest.raises(latentcot.UsageError, match="several answers are a list"):
        babbler.generate(questions[0], num_samples=2, sampling=Sampling(1.0))


def test_what_a_notebook_shows_is_one_line(tiny_run, questions, data):
    reasoner = latentcot.load(tiny_run, device="cpu")
    assert repr(reasoner).startswith("Reasoner(coconut, stage 2, 2 thoughts, GPT2LMHeadModel with ")
    assert repr(reasoner.think(questions)) == "Thinking(5 × 2 thoughts of 16 numbers)"
    result = latentcot.evaluate(reasoner, latentcot.read_examples(data / "test.jsonl"))
    assert repr(result).startswith("Evaluation(coconut: ")
    assert "of 8 questions" in repr(result) and len(repr(result)) < 120
    html = replace(result, method="<b>")._repr_html_()
    assert html.startswith("<table><tr><th>method</th>") and "<td>&lt;b&gt;</td>" in html


@pytest.mark.parametrize(
    ("found", "rank", "device"),
    [(None, None, "cpu"), ("mps", None, "mps"), ("cuda", 3, "cuda:3"), ("xpu", 1, "xpu:1")],
)
def test_one_function_tells_the_device(found, rank, device, monkeypatch):
    """Of training and of answering: a Mac's GPU too."""
    from latentcot.utils.distributed import own_device

    def current(check_available):
        return None if found is None else torch.device(found)

    monkeypatch.setattr("torch.accelerator.current_accelerator", current)
    if rank is not None:
        monkeypatch.setenv("WORLD_SIZE", "4")
        monkeypatch.setenv("LOCAL_RANK", str(rank))
    assert own_device() == device


class TestGenerate:
    def test_no_question_gives_no_answer(self, babbler):
        assert babbler.generate([]) == []

    def test_answers_keep_the_order_of_the_questions(self, babbler, questions):
        together = babbler.generate(questions)
        assert together == [babbler.generate([question])[0] for question in questions]
        assert len({output.text for output in together}) > 3

    def test_an_unknown_word_is_named(self, babbler):
        with pytest.raises(DataError, match="'zebra'"):
            babbler.generate(["1 2 zebra 3 [Q] 2 3 [R] 1"])

    def test_a_question_too_long_for_the_model(self, babbler):
        with pytest.raises(DataError, match="but the model has 96"):
            babbler.generate(["1 2 " * 50 + "[Q] 1 2 [R] 1"])

    def test_samples_are_the_same_again_whatever_the_batch_size(self, babbler, questions):
        sampling = Sampling(temperature=1.5, seed=3)
        questions = [*questions, questions[0]]
        drawn = babbler.generate(questions, sampling=sampling)
        assert drawn[0] != drawn[-1]  # the same question, but not the same draws
        assert drawn != babbler.generate(questions)
        for batch_size in (100, 2, 1):
            again = babbler.generate(questions, sampling=sampling, batch_size=batch_size)
            assert again == drawn
        assert babbler.generate(questions, sampling=replace(sampling, seed=4)) != drawn


class TestForcedSteps:
    """A text must begin with a step of the chain, whatever number of thoughts came before."""

    def test_no_answer_comes_before_a_word(self, speaker, questions):
        """Here steps are one word each: the first word is one, then all words are free."""
        reasoner = speaker("[A]", "1")
        assert {o.text for o in reasoner.generate(questions)} == {"[A] 1"}
        for num_thoughts in (None, 0, 3):
            forced = reasoner.generate(questions, num_thoughts=num_thoughts, force_steps=True)
            assert not any(output.text.startswith("[A]") for output in forced)
            assert all(output.text for output in forced)

    def test_no_end_comes_before_a_word(self, speaker, questions):
        reasoner = speaker()
        assert {o.text for o in reasoner.generate(questions)} == {""}
        assert all(output.text for output in reasoner.generate(questions, force_steps=True))

    def test_a_step_is_over_with_the_last_token_of_its_end(self, babbler, questions):
        """Of a template with such an end; the words of one without are free after the first."""
        template = replace(babbler.info.template, step_end=" 1 3")
        babbler.info = replace(babbler.info, template=template)
        forced = babbler.generate(questions, force_steps=True, max_new_tokens=30)
        free = babbler.generate(questions, max_new_tokens=30)
        assert forced != free
        for output in forced:
            chain, end, _ = f"{output.text} ".partition("3 ")
            assert "[A]" not in chain
            assert end or not output.is_finished

    def test_a_step_is_over_though_no_blank_is_decoded_behind_its_end(self, babbler):
        """With " ; " a text decodes to "3 ;": waiting for the blank, one word too many was written.

        And it could not be the answer, so a right text became a wrong one."""
        template = replace(babbler.info.template, step_end=" 1 ")
        babbler.info = replace(babbler.info, template=template)
        forced = babbler._forced_steps()
        texts = [babbler._ids(text) for text in ("3", "3 1", "3 1 2", "1")]
        assert [forced.has_step(ids) for ids in texts] == [False, True, True, False]

    def test_a_line_end_that_is_joined_to_the_word_before_it_ends_a_step(self, babbler):
        """As in the vocabularies of Llama and Qwen, where a line end alone is another token."""
        joined = Tokenizer(models.BPE())
        pattern = Regex(r" ?[^\s\p{L}\p{N}]+\n*|\p{N}|\s+|\p{L}+")
        joined.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(pattern, "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        joined.decoder = decoders.ByteLevel()
        joined.train_from_iterator(["<<3*4=12>>\n### 12"] * 9, trainers.BpeTrainer(vocab_size=400))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=joined)
        babbler.tokenizer = tokenizer
        babbler.info = replace(babbler.info, template=Template("\n", "\n", "### "))
        step = tokenizer("<<3*4=12>>\n")["input_ids"]
        assert tokenizer("\n")["input_ids"][0] not in step, "it stands for nothing in a step"
        forced = babbler._forced_steps()
        assert [forced.has_step(step[:i]) for i in range(len(step) + 1)] == [False] * len(step) + [
            True
        ]
        assert forced.forbidden[0] == tokenizer("### 12")["input_ids"][0]

    def test_what_is_forbidden_is_never_drawn(self, babbler, questions):
        sampling = Sampling(temperature=5.0, seed=1)
        options = {"force_steps": True, "sampling": sampling}
        drawn = babbler.generate(questions * 6, **options)
        assert not any(output.text.startswith("[A]") or not output.text for output in drawn)
        assert babbler.generate(questions * 6, batch_size=7, **options) == drawn

    def test_thoughts_and_their_count_stay_as_they_are(self, babbler, questions):
        forced = babbler.generate(questions, num_thoughts=3, force_steps=True)
        assert {output.num_thoughts for output in forced} == {3}
        for output in forced:
            assert output.num_passes == output.num_tokens + output.is_finished


class TestForcedAnswer:
    """A text must begin with what stands before an answer, whatever the model would write."""

    def test_it_stands_behind_the_thoughts_at_once(self, babbler, questions):
        """As after a prompt that ends with it: the next words are those behind these tokens."""
        begun = babbler.tokenizer("[A]", add_special_tokens=False)["input_ids"]
        for num_thoughts in (None, 0, 3):
            free = babbler.generate(questions, num_thoughts=num_thoughts)
            forced = babbler.generate(questions, num_thoughts=num_thoughts, force_answer=True)
            assert not all(output.text.startswith("[A]") for output in free)
            prompts = babbler.prompts(
                encode_questions(questions, babbler.tokenizer, babbler.info.template), num_thoughts
            )
            longer = [
                replace(p, suffix=(*p.suffix, *begun), labels=(*p.labels, NO_LABEL))
                for p in prompts
            ]
            for output, rest in zip(forced, babbler.answer_prompts(longer), strict=True):
                assert output.text == f"[A] {rest.text}".strip()
                assert output.num_tokens == len(output.text.split()) + output.num_thoughts
                assert output.num_passes == rest.num_passes
                assert output.answer == rest.text.rpartition("[A]")[2].strip()

    def test_a_blank_behind_it_is_left_to_the_model(self, babbler):
        template = replace(babbler.info.template, answer_start="[A]  ")
        babbler.info = replace(babbler.info, template=template)
        assert babbler._ids_of_opening() == [babbler.tokenizer.convert_tokens_to_ids("[A]")]

    def test_not_both(self, babbler, questions):
        with pytest.raises(UsageError, match="exclude each other"):
            babbler.generate(questions, force_steps=True, force_answer=True)

    def test_it_has_to_fit_too(self, babbler):
        """A question that leaves room for one word has none for the mark and a word."""
        texts = ["1 " * number + "[Q] 1 2 [R] 1" for number in range(80, 100)]
        fitting = 0
        for text in texts:
            try:
                babbler.generate(text, num_thoughts=0)
            except DataError:
                break
            fitting += 1
        assert 0 < fitting < len(texts)
        babbler.generate(texts[fitting - 2], num_thoughts=0, force_answer=True)
        with pytest.raises(DataError, match="but the model has 96"):
            babbler.generate(texts[fitting - 1], num_thoughts=0, force_answer=True)


def test_cold_soft_words_are_words(babbler, questions):
    """Behind the answer's first word they are words anyway."""
    assert babbler.generate(questions, soft_words=1e-4) == babbler.generate(questions)
    assert babbler._ends_of_chain() == (
        babbler.tokenizer.convert_tokens_to_ids("[A]"), babbler.rules.special_tokens.eos
    )  # fmt: skip
    assert babbler.generate(questions, soft_words=5.0) != babbler.generate(questions)
    with pytest.raises(UsageError, match="soft_words and force_answer exclude each other"):
        babbler.generate(questions, soft_words=5.0, force_answer=True)


class TestThink:
    @pytest.mark.parametrize("num_thoughts", [None, 0, 1, 4])
    def test_thoughts_are_those_of_generation(self, babbler, questions, num_thoughts):
        found = babbler.think(questions, num_thoughts).thoughts
        assert found.shape == (5, 2 if num_thoughts is None else num_thoughts, 16)
        encoded = encode_questions(questions, babbler.tokenizer, babbler.info.template)
        prompts = babbler.prompts(encoded, num_thoughts)
        for thoughts, generation in zip(
            found, generate(babbler.model, prompts, eos_id=1, max_new_tokens=1), strict=True
        ):
            torch.testing.assert_close(thoughts, generation.latent_inputs, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("num_thoughts", [0, 1, 3])
    def test_last_states_are_the_thought_that_would_come_next(
        self, babbler, questions, num_thoughts
    ):
        states = babbler.think(questions, num_thoughts).last_states
        more = babbler.think(questions, num_thoughts + 1).thoughts
        torch.testing.assert_close(states, more[:, num_thoughts], rtol=1e-5, atol=1e-5)

    def test_thoughts_differ_and_a_probe_can_learn_from_them(self, babbler, questions):
        thoughts = babbler.think(questions[1:3]).thoughts
        assert (thoughts[0] - thoughts[1]).abs().max() > 0.1
        assert not thoughts.requires_grad
        probe = torch.nn.Linear(16, 2)
        probe(thoughts).sum().backward()
        assert probe.weight.grad.any()

    def test_nothing_to_think_about(self, babbler):
        assert babbler.think([]).thoughts.shape == (0, 2, 16)


def test_a_text_stops_at_the_models_last_position(babbler):
    """And is asked for all the same, as long as there is room for a word."""
    questions = ["1 2", "3 4 5 6 7", "8"]
    outputs = babbler.generate(questions, max_new_tokens=10_000)
    room = [96 - len(babbler.tokenizer(q)["input_ids"]) - 2 - 2 for q in questions]
    words = [output.num_tokens - output.num_thoughts for output in outputs]
    assert all(w == r or o.is_finished for o, w, r in zip(outputs, words, room, strict=True))
    assert not all(output.is_finished for output in outputs)
    assert [babbler.generate([q], max_new_tokens=10_000)[0] for q in questions] == outputs


def test_answers_in_bfloat16_where_it_is_asked_for(tiny_run, questions):
    """Nearly what float32 says; logits are never rounded, or all that is said would be ties."""
    said = {}
    for precision in ("float32", "bfloat16"):
        reasoner = latentcot.load(tiny_run)
        assert reasoner.precision == "float32"
        reasoner.precision = precision
        said[precision] = []
        reasoner.generate(questions, generations=said[precision])
    exact, found = (torch.tensor([one.log_prob for one in of]) for of in said.values())
    assert not torch.equal(found, exact)
    same = [a.token_ids == b.token_ids for a, b in zip(*said.values(), strict=True)]
    assert sum(same) > len(same) / 2
    kept = torch.tensor(same)
    torch.testing.assert_close(found[kept], exact[kept], rtol=0.1, atol=0.1)
    inputs = torch.cat([one.latent_inputs.flatten() for one in said["bfloat16"]])
    assert torch.isfinite(inputs).all()
