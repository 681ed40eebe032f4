"""Recipe → Run: everything that a training needs, built once.

What is wrong with data, model and method together comes up here, before a run folder is opened.
"""

import gc
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice, product
from pathlib import Path
from threading import Timer

from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedTokenizerBase

from latentcot.curriculum.layout import (
    NO_LABEL,
    EncodedExample,
    Layout,
    LayoutRules,
    count_latents,
    encode,
    lay_out,
    one_of_each_shape,
    unknown_of,
)
from latentcot.curriculum.stages import Phase, phases_of
from latentcot.data.examples import Example, read_examples
from latentcot.data.fields import Fields
from latentcot.data.formats import files_of, instead_of, is_hub, is_several, path_of
from latentcot.data.named import notes_on
from latentcot.data.sources import Stream, open_stream
from latentcot.errors import DataError, RecipeError
from latentcot.methods.method import Method
from latentcot.models.loading import (
    check_lengths,
    fast_precision,
    load_pretrained,
    make_from_scratch,
    max_positions,
)
from latentcot.models.lora import (
    Adapters,
    add_adapters,
    fingerprint,
    hold_lightly,
    require_peft,
)
from latentcot.models.settings import FromScratch
from latentcot.models.special_tokens import (
    bpe_tokenizer,
    install_special_tokens,
    rows_of_special_tokens,
    special_tokens_of,
    word_tokenizer,
)
from latentcot.recipes.recipe import Data, Recipe
from latentcot.recipes.values import command_for
from latentcot.runs.checkpoint import learned_beside, read_info
from latentcot.runs.checkpoint_folders import INFO_FILE
from latentcot.tasks import extract_answer, task_named
from latentcot.thinking.capability import choose_way
from latentcot.training.objective import Objective, make_modules
from latentcot.training.reports import refuse_trackers
from latentcot.training.stream import EncodedStream
from latentcot.utils.display import progress_bar, say
from latentcot.utils.distributed import num_started
from latentcot.utils.parsing import one_line

MANY, STRIDE = 200_000, 10_000
"""Examples of a stream that take so long to read that a bar is shown, and between its moves."""
SLOW = 2.0
"""Seconds after which a person wants to know what goes on."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training and validation examples with their token ids."""

    train: list[EncodedExample] | EncodedStream
    valid: list[Example]
    valid_encoded: list[EncodedExample]


@dataclass(frozen=True, slots=True)
class Run:
    """A training, ready to begin.

    Attributes:
        recipe: What was asked for.
        method: With its settings, and with the stop classifier if there is one.
        tokenizer: That of the model.
        data: Read and encoded.
        phases: What the curriculum goes through.
        rules: The layout rules of each phase.
        objective: The model, the modules that are learned beside it, and the loss.
    """

    recipe: Recipe
    method: Method
    tokenizer: PreTrainedTokenizerBase
    data: TrainingData
    phases: Sequence[Phase]
    rules: Mapping[Phase, LayoutRules]
    objective: Objective

    def layouts(self, example: EncodedExample, stage: int, rules: LayoutRules) -> dict[str, Layout]:
        """Lay an example out in all views."""
        views = self.method.views.items()
        return {name: lay_out(example, view, stage, rules) for name, view in views}

    def most_thoughts(self, phase: Phase) -> int:
        """Return the upper bound of a stop rule: before the last stage, words follow."""
        most = count_latents(self.method.view, phase.stage, None, self.rules[phase].plan)
        is_last = phase.stage == self.phases[-1].stage
        return self.recipe.stop.max_thoughts or most if is_last else most

    def check_lengths(self, phases: Sequence[Phase], examples: Sequence[EncodedExample]) -> None:
        """Refuse examples that are too long for the model in a phase.

        Raises:
            DataError: With the first one, and what to do.
        """
        limit = max_positions(self.objective.model) or math.inf
        plan = self.rules[self.phases[0]].plan
        compression = self.method.view.compression
        rates = (None,) if compression is None else compression.rates
        latents = max(
            plan.num_stages * plan.thoughts_per_step,
            *(view.num_latents or 0 for view in self.method.views.values()),
        )
        latents += max(rate or 0 for rate in rates)  # <pause> tokens that tell it

        def most_positions(example: EncodedExample) -> int:
            words = len(example.question) + sum(map(len, example.steps or ()))
            return words + len(example.answer) + latents + 3  # <bot>, <eot>, the end of text

        long = [example for example in examples if most_positions(example) > limit]
        for phase in phases:
            for example, rate in product(long, rates):
                rules = replace(self.rules[phase], rate=rate)
                layouts = self.layouts(example, phase.stage, rules).values()
                check_lengths(self.objective.model, layouts, [example.id] * len(layouts))

    def fits(self, phases: Sequence[Phase], example: EncodedExample) -> bool:
        """Return whether an example is short enough for the model in all phases."""
        try:
            self.check_lengths(phases, [example])
        except DataError:
            return False
        return True


def build(recipe: Recipe) -> Run:
    """Load the data, load or make the model, and put together all that training needs.

    Raises:
        DataError: A file cannot be read, or an example cannot be written in the vocabulary, is too
            long for the model, or lacks what the method learns from.
        RecipeError: The model cannot be loaded or made, or does not go with the method.
    """
    if recipe.lora is not None:
        require_peft("lora")
    refuse_trackers(recipe.training.report_to)
    method = recipe.bound_method
    with _collector_at_rest():
        train = _training_examples(recipe.data)
        valid = _read("valid", recipe.data.valid, recipe.data.max_valid, recipe.data.fields)
        reads_steps = method.reads_steps(recipe.curriculum.plan)
        is_counted = method.view.has_latents and method.view.num_latents is None
        counts_steps = is_counted and not recipe.curriculum.plan.pad_to_num_stages
        needs_steps = reads_steps or counts_steps
        makes_own = method.chain is not None
        if needs_steps and not makes_own and not any(example.steps for example in train):
            why = "learns from them" if reads_steps else "has as many latent positions (unpadded)"
            raise DataError(
                f"{recipe.data.train}: no example has steps, but {method.name} {why}. "
                "Use a method that is trained on answers alone, such as no-cot."
            )
        _check_chains(recipe, method, train)
        _tell_overlap(recipe.data, train, valid)
        if isinstance(recipe.model, str):
            model, tokenizer = load_pretrained(recipe.model)
            _tell_other_form(recipe, recipe.model)
            choose_way(model, is_trained=True)
            before = fingerprint(model) if recipe.lora is not None else ""
            install_special_tokens(tokenizer, model, recipe.special_tokens_start_from)
        else:
            with _seen(train) as examples:
                tokenizer = tokenizer_from_scratch(recipe, recipe.model, examples)
            model = make_from_scratch(recipe.model, tokenizer, recipe.seed)
        if recipe.training.precision == "auto":
            # Of several processes each would measure by itself, and they might not agree.
            precision = fast_precision(model) if num_started() == 1 else "float32"
            recipe = replace(recipe, training=replace(recipe.training, precision=precision))
        _refuse_lost_answers(recipe, valid, tokenizer)
        modules = make_modules(method, model, recipe.seed)  # copies of the model have no adapters
        if isinstance(recipe.model, str) and (Path(recipe.model) / INFO_FILE).is_file():
            _take_modules(modules, recipe.model)
        if recipe.lora is not None and isinstance(recipe.model, str):
            is_folder = Path(recipe.model).is_dir()
            base = str(Path(recipe.model).resolve()) if is_folder else recipe.model
            adapters = Adapters(base, before, recipe.lora)
            add_adapters(model, adapters, rows_of_special_tokens(tokenizer), recipe.seed)
            if recipe.training.precision == "bfloat16":
                hold_lightly(model)

        def to_ids(examples: Sequence[Example]) -> list[EncodedExample]:
            return encode(
                method.with_chains(examples),
                tokenizer,
                recipe.template,
                reads_steps=reads_steps,
                finds_answers=method.is_anchored,
            )

        data = TrainingData(
            train=EncodedStream(train, to_ids) if isinstance(train, Stream) else to_ids(train),
            valid=valid,
            valid_encoded=encode(valid, tokenizer, recipe.template, reads_steps=False),
        )
    phases = phases_of(recipe.curriculum, method.view)
    rules = recipe.layout_rules(special_tokens_of(tokenizer))
    run = Run(
        recipe=recipe,
        method=method,
        tokenizer=tokenizer,
        data=data,
        phases=phases,
        rules={phase: replace(rules, zero_thoughts=phase.zero_thoughts) for phase in phases},
        objective=Objective(
            model, method, rules, modules, saves_memory=recipe.training.save_memory
        ),
    )
    _refuse_long(run)
    return run


def _tell_other_form(recipe: Recipe, model: str) -> None:
    """Say where a checkpoint of ours, to go on from, has read texts of another form."""
    if not (Path(model) / INFO_FILE).is_file():
        return  # weights of others
    info = read_info(Path(model) / INFO_FILE)
    old = {f"template.{key}": value for key, value in asdict(info.template).items()}
    new = {f"template.{key}": value for key, value in asdict(recipe.template).items()}
    old["curriculum.zero_thoughts"] = info.zero_thoughts
    new["curriculum.zero_thoughts"] = recipe.curriculum.zero_thoughts
    told = [f"{key}: {old[key]!r} there, {new[key]!r} here" for key in old if old[key] != new[key]]
    if told:
        say(
            f"Note: {model} was trained with texts of another form ({'; '.join(told)}). Unless "
            "that is meant, give the recipe the same."
        )


def _take_modules(modules: nn.ModuleDict, model: str) -> None:
    """Go on from what a checkpoint of ours has learned beside its model, where it fits.

    Raises:
        RecipeError: It cannot be read.
    """
    own = modules.state_dict()
    try:
        learned = learned_beside(model) or {}
    except (OSError, SafetensorError) as error:
        why = one_line(str(error))
        raise RecipeError(f"model: what {model} learned beside it cannot be read: {why}.") from None
    fits = {key: one for key, one in learned.items() if key in own and own[key].shape == one.shape}
    modules.load_state_dict(own | fits)
    if left := sorted({key.partition(".")[0] for key in learned.keys() - fits.keys()}):
        say(
            f"Note: {model} holds {', '.join(left)}, which this method does not have in that shape "
            "and leaves out."
        )


def _refuse_long(run: Run) -> None:
    """Refuse examples that are too long in any phase, or when answered; those of a stream later."""
    phases = [phase for phase in run.phases if not phase.is_minor]
    train = run.data.train
    if not isinstance(train, EncodedStream):
        if run.recipe.data.skip_long:
            num_all = len(train)
            train[:] = (example for example in train if run.fits(phases, example))
            if not train:
                raise DataError(f"{run.recipe.data.train}: all {num_all:,} examples are too long.")
            if len(train) < num_all:
                count = num_all - len(train)
                say(f"Note: {count:,} of {num_all:,} training examples are too long and left out.")
        shapes = one_of_each_shape(train)
        run.check_lengths(phases, shapes)
        _tell_long_texts(run, phases[-1], shapes)
    valid = one_of_each_shape(run.data.valid_encoded)
    for phase in phases:
        has_stop = run.recipe.stop.rule == "classifier" or run.method.view.compression is not None
        most = run.most_thoughts(phase) if has_stop else None
        prompts = [
            lay_out(example, run.method.view, phase.stage, run.rules[phase], most).prompt()
            for example in valid
        ]
        new_tokens = run.recipe.generation.max_new_tokens
        check_lengths(run.objective.model, prompts, [e.id for e in valid], new_tokens)


def _tell_long_texts(run: Run, last: Phase, examples: Sequence[EncodedExample]) -> None:
    """Say once if texts as the last phase learns them are longer than generation lets them be."""
    view, most = run.method.view, run.recipe.generation.max_new_tokens
    longest = max(
        sum(label != NO_LABEL for label in lay_out(one, view, last.stage, run.rules[last]).labels)
        for one in examples
    )
    if longest > most:
        say(
            f"Note: training texts have up to {longest} tokens to write, but "
            f"generation.max_new_tokens is {most}: answers behind them are cut off and count as "
            "wrong."
        )


def _training_examples(data: Data) -> list[Example] | Stream:
    if data.stream and not is_hub(data.train) and not is_several(data.train):
        _refuse_missing("train", data.train)
    if is_several(data.train):
        try:
            files = {file.resolve(): file for file in files_of(data.train)}
        except DataError as error:
            raise DataError(f"data.train: {error}") from None
        for key, other in (("valid", data.valid), ("test", data.test)):
            if other is None or is_hub(other):
                continue
            found = files.get(path_of(other).resolve())
            if found is not None:  # of several files, what is judged by is none
                raise DataError(
                    f"data.train: {data.train} holds data.{key} ({found.name}), which would be "
                    "trained on. Move it, or give a pattern such as "
                    f"{found.with_name(f'train*{found.suffix}')}."
                )
    if not data.stream:
        return _read("train", data.train, data.max_train, data.fields)
    note = Timer(SLOW, say, [f"Counting the examples of {data.train} …"])
    note.start()
    try:
        return open_stream(data.train, data.max_train, data.num_examples, data.fields)
    finally:
        note.cancel()


@contextmanager
def _seen(train: list[Example] | Stream) -> Iterator[Iterable[Example]]:
    """Show how far a reader is with a long stream."""
    is_short = isinstance(train, list) or len(train) < MANY
    with progress_bar("reading all words", len(train), is_quiet=is_short) as advance:

        def shown() -> Iterator[Example]:
            for number, example in enumerate(train, start=1):
                yield example
                if number % STRIDE == 0:
                    advance(STRIDE)

        yield train if is_short else shown()


def _read(key: str, file: str, limit: int | None, fields: Fields) -> list[Example]:
    if not is_several(file):
        _refuse_missing(key, file)
    examples = read_examples(file, limit, fields)
    for note in notes_on(file, len(examples), is_test=False) if limit is None else ():
        say(f"Note: {note}")
    return examples


def _refuse_missing(key: str, file: str) -> None:
    if not is_hub(file) and not path_of(file).exists():
        command = command_for(file) or "latentcot data make"
        raise DataError(
            f"data.{key}: {file}: no such file.{instead_of(file)} Make it: `{command}` "
            f"(docs/data-format.md). Or name another with --set data.{key}=FILE."
        )


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Python's collector looks again and again through the examples that are being read."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _check_chains(recipe: Recipe, method: Method, train: Sequence[Example] | Stream) -> None:
    """Stages that end when they are learned need examples that tell when."""
    rules = recipe.curriculum
    phases = phases_of(rules, method.view)[:-1]  # nothing ends the last one
    if not any(phase.learned_below is not None for phase in phases):
        return
    longest = 0
    for example in train:  # once: it may be a long stream
        longest = max(longest, len(example.steps))
        if longest >= rules.num_stages:
            return
    found = (
        f"curriculum.num_stages: is {rules.num_stages}, but the longest chain in "
        f"{recipe.data.train} has {longest} steps, so no example can tell when a stage is learned"
    )
    if rules.max_updates_per_stage is None:
        raise RecipeError(f"{found}. Lower it, give max_updates_per_stage, or use advance: epochs.")
    say(f"Note: {found}. Each lasts as long as max_updates_per_stage lets it.")


def tokenizer_from_scratch(
    recipe: Recipe, model: FromScratch, examples: Iterable[Example]
) -> PreTrainedTokenizerBase:
    """Make the tokenizer of a model from scratch.

    From the training examples alone: a word that only the test set has is an error, if whole words
    are tokens.
    """
    rest = iter(examples)  # perhaps of a stream
    first = list(islice(rest, 100))
    examples = chain(first, rest)
    parts = ((example.question, *example.steps, example.answer) for example in examples)
    texts = chain(asdict(recipe.template).values(), chain.from_iterable(parts))
    if model.tokenizer == "words":
        some = "".join(example.question for example in first)
        if len(some) > LONGEST_WORD * (1 + some.count(" ")):
            say(
                "Note: these questions have hardly a blank between words, and every word becomes a "
                "token: a whole question may be one. Set model.tokenizer: bpe for such a script."
            )
        return word_tokenizer(texts)
    return bpe_tokenizer(texts, model.vocabulary_size)


LONGEST_WORD = 20
"""Characters a blank, on average, beyond which a text is not written in words."""


def _tell_overlap(data: Data, train: Sequence[Example] | Stream, valid: Sequence[Example]) -> None:
    """Say once how many questions stand in more than one split: they tell nothing of new ones."""
    if isinstance(train, Stream):
        return  # read while training goes on; files that are named twice are refused
    seen = {example.question.strip() for example in train}
    others = {"validation": valid}
    if data.test is not None and not is_hub(data.test):
        try:
            others["test"] = read_examples(data.test, fields=data.fields)
        except DataError as error:  # training does not need it
            say(f"Note: data.test cannot be read, which `latentcot eval` will need: {error}")
    for split, examples in others.items():
        count = sum(example.question.strip() in seen for example in examples)
        if count:
            say(
                f"Note: {count:,} of {len(examples):,} {split} questions stand in the training "
                "data too, so that remembering them looks like reasoning."
            )


def _refuse_lost_answers(
    recipe: Recipe, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Make sure that a right answer, written and read again, counts as right."""
    task = task_named(recipe.task)
    for example in examples:
        text = recipe.template.answer_start + example.answer
        written = str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]))
        answer = extract_answer(written, recipe.template.answer_start)
        if not task.is_correct(answer, example.answer):
            unknown = unknown_of(tokenizer)
            is_new = unknown is not None and unknown in tokenizer(text)["input_ids"]
            advice = "Write it in another way, or change template.answer_start."
            if is_new and isinstance(recipe.model, FromScratch):
                advice = (
                    "A word of it stands in no training example. Bring more of these, or set "
                    "model.tokenizer: bpe."
                )
            raise DataError(
                f"{recipe.data.valid}: example {example.id!r}: its answer {example.answer!r} comes "
                f"back from the tokenizer as {answer!r}, so it could never be right. {advice}"
            )
