"""Texts written by recorded runs are those that are written word by word."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import sleep

import pytest
import torch

from latentcot.methods.stopping import StopHead, StopRule
from latentcot.models.backend.cuda_graphs import Recording
from latentcot.thinking.decoding import ForcedSteps, Sampling, generate
from latentcot.thinking.recorded import GreedyRecorder
from latentcot.thinking.think import Thinker
from losses import thinker
from marks import mostly_slow
from reference import EACH, HIDDEN_SIZE, VOCAB_SIZE, tiny_model
from rollouts import MAX_NEW_TOKENS, NO_EOS, PROMPTS, likely_eos, make_prompt


class StandIn:
    """What a CUDA graph does, without one."""

    def __call__(self, function, inputs) -> Recording:
        kept = tuple(tensor.clone() for tensor in inputs)
        output = function(*kept)

        def run():
            for old, new in zip(output, function(*kept), strict=True):
                old.copy_(new)

        return Recording(kept, run, output)


def write(model, prompts=PROMPTS, *, eos_id, feed=None, **options):
    options = {"max_new_tokens": MAX_NEW_TOKENS, "batch_size": 4, **options}
    return generate(model, prompts, eos_id=eos_id, thinker=thinker(feed), **options)


def recorder_for(model, feed=None) -> GreedyRecorder:
    return GreedyRecorder(model, thinker(feed) or Thinker(), StandIn(), sights=1)


def assert_same(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.token_ids, one.is_finished) == (other.token_ids, other.is_finished)
        assert one.num_passes == other.num_passes
        torch.testing.assert_close(one.latent_inputs, other.latent_inputs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("architecture", EACH)
@pytest.mark.parametrize("ends", mostly_slow([True, False], True))
@pytest.mark.parametrize("feed", [None, lambda latent: latent.state / (latent.number + 2)])
def test_are_the_same_texts(architecture, ends, feed):
    """Ragged questions, thoughts and suffixes; the first batch teaches how long texts are."""
    model = tiny_model(architecture)
    eos_id = likely_eos(architecture) if ends else NO_EOS
    recorder = recorder_for(model, feed)
    expected = write(model, eos_id=eos_id, feed=feed)
    for _ in range(2):
        assert_same(write(model, recorder=recorder, eos_id=eos_id, feed=feed), expected)
    assert recorder._captured.num_recordings > 0


LIMITS = [MAX_NEW_TOKENS] * len(PROMPTS)


def test_threads_get_their_own_texts():
    """A recording has one place for what it gives, and all threads of a Reasoner share it."""

    class Slow(StandIn):
        """As if the device took its time, so that another thread has its turn."""

        def __call__(self, function, inputs) -> Recording:
            made = super().__call__(function, inputs)
            return replace(made, run=lambda: (sleep(0.002), made.run(), sleep(0.002)))

    model = tiny_model("gpt2")
    recorder = GreedyRecorder(model, Thinker(), Slow(), sights=1)
    recorder.saw(MAX_NEW_TOKENS)
    prompts = [make_prompt(length, 3, 1, seed=length) for length in range(3, 9)] * 6
    expected = [write(model, [prompt], eos_id=NO_EOS) for prompt in prompts]
    with ThreadPoolExecutor(4) as threads:
        found = list(
            threads.map(
                lambda prompt: write(model, [prompt], eos_id=NO_EOS, recorder=recorder), prompts
            )
        )
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


class TestWhatARecordedRunWouldNotDo:
    @pytest.fixture
    def model(self):
        return tiny_model("gpt2")

    @pytest.fixture
    def recorder(self, model):
        recorder = recorder_for(model)
        recorder.saw(MAX_NEW_TOKENS)
        return recorder

    def test_before_anything_is_known(self, model):
        assert recorder_for(model).write(PROMPTS, [9] * len(PROMPTS), NO_EOS) is None

    def test_a_text_that_is_longer_than_those_before(self, model):
        recorder = recorder_for(model)
        recorder.saw(1)  # rounded up to 4 words
        assert recorder.write(PROMPTS, [9] * len(PROMPTS), NO_EOS) is None
        expected = write(model, eos_id=NO_EOS)
        assert_same(write(model, recorder=recorder, eos_id=NO_EOS), expected)
        words, _, _ = recorder.write(PROMPTS, LIMITS, NO_EOS)
        assert {len(text) for text in words} == {MAX_NEW_TOKENS}  # it has learned

    def test_a_text_with_room_for_less(self, recorder):
        """Some rows end at the model's last position: a recorded run would go beyond."""
        assert recorder.write(PROMPTS, LIMITS, NO_EOS) is not None
        assert recorder.write(PROMPTS, [3, *LIMITS[1:]], NO_EOS) is None

    def test_never_more_words_than_are_allowed(self, recorder):
        words, _, _ = recorder.write(PROMPTS, [5] * len(PROMPTS), NO_EOS)
        assert {len(text) for text in words} == {5}

    def test_someone_watches(self, model, recorder):
        hook = model.transformer.h[0].register_forward_hook(lambda *_: None)
        assert recorder.write(PROMPTS, LIMITS, NO_EOS) is None
        hook.remove()
        with torch.inference_mode():
            assert recorder.write(PROMPTS, LIMITS, NO_EOS) is None
        assert recorder.write(PROMPTS, LIMITS, NO_EOS) is not None

    def test_other_weights_are_another_recording(self, model, recorder):
        recorder.write(PROMPTS, LIMITS, NO_EOS)
        table = model.get_input_embeddings()
        table.weight = torch.nn.Parameter(table.weight.detach().clone())
        recorder.write(PROMPTS, LIMITS, NO_EOS)
        assert recorder._captured.num_recordings == 2

    @pytest.mark.parametrize(
        "option",
        [
            {"sampling": Sampling(temperature=2.0)},
            {"stop": StopRule(StopHead(HIDDEN_SIZE).double(), 0.0, 6)},
            {"forced": ForcedSteps((1,), lambda words: len(words) > 2)},
        ],
        ids=["sampling", "stop", "forced"],
    )
    def test_what_is_not_plainly_greedy(self, model, recorder, option):
        prompts = [replace(one, num_latents=max(1, one.num_latents)) for one in PROMPTS]
        found = write(model, prompts, recorder=recorder, eos_id=VOCAB_SIZE - 1, **option)
        assert_same(found, write(model, prompts, eos_id=VOCAB_SIZE - 1, **option))
        assert recorder._captured.num_recordings == 0
