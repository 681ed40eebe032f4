"""Continuous thoughts in plain transformers: latentcot puts this file into its checkpoints.

    model = AutoModelForCausalLM.from_pretrained(checkpoint, trust_remote_code=True)
    model.generate(**tokenizer(question, return_tensors="pt"))

First the model reads the question and fills its latent positions, then transformers' own generate
writes the words behind them: sampling, stop criteria, streamers and lengths are its own. What
stands in the latent positions is said by `thinking.json` beside this file. Needs torch and
transformers alone.

Shapes: B prompts, P positions of a prompt, C positions of one pass, N latent positions, D width.
"""

import copy
import inspect
import json
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, DynamicCache, GenerationConfig
from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor
from transformers.utils.hub import cached_file


@torch.no_grad()
def generate(
    inputs: Tensor | None = None,
    generation_config: GenerationConfig | None = None,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    prefix_allowed_tokens_fn: Any = None,
    *,
    model: Any,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Any:
    """Think about each prompt, then write; arguments and result are those of `model.generate`.

    Args:
        inputs: (B, P) token ids of bare questions, padded on either side. The template's
            `question_end` is put behind where it is missing.
        generation_config: As in transformers. Where it and `kwargs` say nothing of the number of
            new tokens, it is that of the training.
        logits_processor: As in transformers. Latent positions are not shown to it.
        stopping_criteria: The same.
        prefix_allowed_tokens_fn: The same.
        model: The model.
        input_ids: Another name of `inputs`.
        attention_mask: (B, P), 0 at pads; without one, pads are what stands in front.
        **kwargs: As in transformers.

    Returns:
        The prompts as they were given, and the words behind them.

    Raises:
        ValueError: The checkpoint, a prompt or an argument does not go with thoughts here.
    """
    prompt = input_ids if inputs is None else inputs
    if prompt is None or prompt.dim() != 2 or not prompt.shape[1]:
        raise ValueError("input_ids: this model thinks about questions, so give their token ids.")
    for name in ("inputs_embeds", "past_key_values", "cache", "assistant_model"):
        if kwargs.get(name) is not None:
            raise ValueError(f"{name}: does not go with continuous thoughts. Leave it out.")
    settings, _ = read(model)
    config, kwargs = configured(model, generation_config, kwargs, prompt.shape[1])
    calls = [list(logits_processor or []), list(stopping_criteria or [])]

    is_real = (prompt != config.pad_token_id).cumsum(1) > 0
    if attention_mask is not None:
        is_real = attention_mask.to(torch.bool)
    given = [ids[real].tolist() for ids, real in zip(prompt, is_real, strict=True)]
    questions = [question(ids, model, kwargs.get("tokenizer")) for ids in given]
    room = room_behind(questions, config.max_new_tokens, settings)
    has_pads = len(set(map(len, questions))) > 1 or settings["stop_threshold"] is not None
    is_together = room >= config.max_new_tokens and (settings["takes_pads"] or not has_pads)
    if is_together or len(questions) == 1:
        config.max_new_tokens = min(config.max_new_tokens, room)
        if prefix_allowed_tokens_fn is not None:
            num_beams = config.num_beams or 1
            calls[0].append(PrefixConstrainedLogitsProcessor(prefix_allowed_tokens_fn, num_beams))
        return write(model, prompt, questions, config, calls, kwargs)

    if config.return_dict_in_generate:
        raise ValueError("return_dict_in_generate: give this model one question at a time.")
    alone = []
    for number, ids in enumerate(given):
        row, allowed = torch.tensor([ids], device=prompt.device), prefix_allowed_tokens_fn
        if allowed is not None:
            allowed = by_question(allowed, number)
        words = generate(row, config, calls[0], calls[1], allowed, model=model, **kwargs)
        alone.append(words[:, len(ids) :])
    most, pad = max(words.shape[1] for words in alone), config.pad_token_id
    words = torch.cat([functional.pad(one, (0, most - one.shape[1]), value=pad) for one in alone])
    return torch.cat([prompt.repeat_interleave(len(alone[0]), 0), words.to(prompt.device)], dim=1)


def by_question(allowed: Any, number: int) -> Any:
    """Return `prefix_allowed_tokens_fn` for a question that is written alone, as row 0."""
    return lambda row, ids: allowed(number, ids)


def read(model: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what thinking.json says and the weights beside the model, read once for a model.

    Raises:
        ValueError: They are not there, or the checkpoint cannot be used in this way.
    """
    name = model.name_or_path
    if "latentcot" not in vars(model):
        revision = getattr(model.config, "_commit_hash", None)

        def path_of(file: str) -> str:
            return cached_file(name, file, revision=revision) or file

        try:
            with open(path_of("custom_generate/thinking.json"), encoding="utf-8") as file:
                settings = json.load(file)
            beside = settings["has_modules"]
            modules = load_file(path_of("modules.safetensors")) if beside else {}
        except OSError as error:
            raise ValueError(
                f"{name}: is not the checkpoint of this generate.py, or has been moved since it "
                f"was loaded: {error}"
            ) from None
        model.latentcot = settings, modules
    settings, modules = model.latentcot
    refused = settings["refused"]
    if getattr(model, "peft_config", None):
        refused = (
            "adapters were put into this model, so that its checkpoint does not tell how it "
            "thinks. Merge those that latentcot trained: latentcot convert RUN --out FOLDER."
        )
    if refused:
        raise ValueError(f"{name}: cannot think in plain transformers: {refused}")
    return settings, modules


def configured(
    model: Any, given: GenerationConfig | None, kwargs: dict[str, Any], num_positions: int
) -> tuple[GenerationConfig, dict[str, Any]]:
    """Return a configuration with the arguments in it, and those that are for the model.

    Its number of new tokens and its pad are always set; lengths do not count the prompt any more.
    """
    settings, own = model.latentcot[0], model.generation_config
    config = GenerationConfig() if given is None else copy.deepcopy(given)
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    kwargs = config.update(**kwargs)
    for name in ("token_type_ids", "position_ids"):
        kwargs.pop(name, None)
    config.use_cache = True
    # There stands a note for those who load the checkpoint without this file. Adding 0 to a token
    # hurts nobody, and None would be filled in from the model's own configuration.
    if isinstance(config.sequence_bias or own.sequence_bias, str):
        config.sequence_bias = {(settings["eos"],): 0.0}
    if config.max_new_tokens is None and config.max_length is not None:
        config.max_new_tokens = config.max_length - num_positions
    if config.max_new_tokens is None:
        config.max_new_tokens = own.max_new_tokens or settings["max_new_tokens"]
    config.max_length = None
    if config.min_length:
        config.min_new_tokens, config.min_length = max(0, config.min_length - num_positions), None
    pads = (config.pad_token_id, own.pad_token_id, settings["eos"])
    config.pad_token_id = next(pad for pad in pads if pad is not None)
    return config, kwargs


def question(ids: list[int], model: Any, tokenizer: Any) -> list[int]:
    """Return a question as the model has learned to read it, up to its latent positions.

    Args:
        ids: Of the question, without pads.
        model: The model.
        tokenizer: Its tokenizer; that of the checkpoint is loaded if it is needed and missing.

    Raises:
        ValueError: It holds special tokens, or nothing, or what the vocabulary lacks.
    """
    settings = model.latentcot[0]
    front, behind, end = settings["front"], settings["behind"], settings["question_end"]
    body = ids[len(front) :] if ids[: len(front)] == front else ids
    body = body[: len(body) - len(behind)] if body[len(body) - len(behind) :] == behind else body
    tail = settings["question_end_ids"]
    if end and body[len(body) - len(tail) :] != tail:
        if tokenizer is None:
            at = {"revision": getattr(model.config, "_commit_hash", None)}
            tokenizer = AutoTokenizer.from_pretrained(
                model.name_or_path, trust_remote_code=False, **at
            )
        text = tokenizer.decode(body, clean_up_tokenization_spaces=False)
        if not text.endswith(end):  # a tokenizer may join it with what stands before
            again, longer = tokenizer([text, text + end], add_special_tokens=False)["input_ids"]
            body = longer if again == body else body + tail
    if not body:
        raise ValueError("input_ids: a question has no tokens. Give it some text.")
    special = [token for token in (*settings["special"], settings["eos"]) if token in body]
    if special:
        raise ValueError(
            f"input_ids: a question holds the special token {special[0]}. Give bare questions: "
            "what stands around thoughts is added here. Pads need an attention_mask."
        )
    if settings["unknown"] in body:
        raise ValueError("input_ids: a question holds a word that the model's vocabulary lacks.")
    return [*front, *body, *settings["prefix"]]


def room_behind(questions: list[list[int]], wanted: int, settings: dict[str, Any]) -> int:
    """Return how many words fit behind the longest question, `wanted` at most.

    Raises:
        ValueError: None fits, or the model would read its thoughts in another way then.
    """
    most = max(map(len, questions)) + settings["num_latents"] + len(settings["suffix"])
    limit, switch = settings["max_positions"], settings["rope_switch"]
    if limit is not None and most >= limit:
        raise ValueError(
            f"input_ids: a question needs {most + 1} positions with its thoughts and one word, but "
            f"the model has {limit}. Shorten it."
        )
    room = wanted if limit is None else min(wanted, limit - most)
    if switch is not None and most + room > switch:
        raise ValueError(
            f"max_new_tokens: with {room} there are {most + room} positions, and beyond {switch} "
            "this model turns to other rotary positions, which its thoughts in the cache do not "
            "have. Give fewer, or use latentcot."
        )
    return room


def write(
    model: Any,
    prompt: Tensor,
    questions: list[list[int]],
    config: GenerationConfig,
    calls: list[Any],
    kwargs: dict[str, Any],
) -> Any:
    """Let the model think about some questions at once, and transformers write the words.

    Args:
        model: The model.
        prompt: (B, P), as it was given.
        questions: What `question` has made of it.
        config: With all numbers set.
        calls: Logits processors and stopping criteria.
        kwargs: For transformers.
    """
    settings, device = model.latentcot[0], model.get_input_embeddings().weight.device
    width = max(map(len, questions))
    # Pads on the left: then the newest position of each row is in the last column.
    rows = [[config.pad_token_id] * (width - len(one)) + one for one in questions]
    real = [[0] * (width - len(one)) + [1] * len(one) for one in questions]
    ids, mask = torch.tensor(rows, device=device), torch.tensor(real, device=device)
    if settings["latents"] is not None:
        cache, mask = think(model, ids, mask)
        if (times := max(config.num_beams or 1, config.num_return_sequences or 1)) > 1:
            cache.batch_repeat_interleave(times)
        kwargs = {**kwargs, cache_name(model): cache}
    # Thoughts have no ids. `<bot>`, which stands in no text, keeps their places.
    behind = [settings["special"][0]] * (mask.shape[1] - width) + settings["suffix"]
    ids = torch.cat([ids, torch.tensor([behind] * len(ids), device=device, dtype=ids.dtype)], 1)
    mask = functional.pad(mask, (0, len(settings["suffix"])), value=1)
    start = ids.shape[1]

    def shown(seen: Tensor) -> Tensor:
        """Return prompts as they were given, and the words behind them."""
        asked = prompt.to(seen.device).repeat_interleave(len(seen) // len(prompt), 0)
        return torch.cat([asked, seen[:, start:]], dim=1)

    def showing(call: Any) -> Any:
        return lambda seen, scores, **more: call(shown(seen), scores, **more)

    if "streamer" in kwargs:
        kwargs = {**kwargs, "streamer": Streamer(kwargs["streamer"], prompt)}
    processors, criteria = ([showing(call) for call in some] for some in calls)
    found = type(model).generate(
        model, ids, config, processors, criteria, attention_mask=mask, **kwargs
    )
    if isinstance(found, Tensor):
        return shown(found)
    found.sequences = shown(found.sequences)
    return found


class Streamer:
    """Passes words on to a streamer, and the prompt as it was given."""

    def __init__(self, streamer: Any, prompt: Tensor) -> None:
        self.streamer, self.given = streamer, [prompt.cpu()]

    def put(self, value: Tensor) -> None:
        """Take the next tokens; the first are those of the prompt with its latent positions."""
        self.streamer.put(self.given.pop() if self.given else value)

    def end(self) -> None:
        """Tell that no more will come."""
        self.streamer.end()


def cache_name(model: Any) -> str:
    """Return by what name a model takes its cache: another one since transformers 5.24."""
    named = inspect.signature(model.forward).parameters
    return "cache" if "cache" in named else "past_key_values"


def think(model: Any, ids: Tensor, mask: Tensor) -> tuple[DynamicCache, Tensor]:
    """Read questions and fill their latent positions.

    Args:
        model: The model.
        ids: (B, C), with pads on the left.
        mask: (B, C), 0 at pads.

    Returns:
        The cache behind the last latent position; the mask, (B, C + N) or less, with 0 at latent
        positions that a row does not take.
    """
    settings, modules = model.latentcot
    latents, most = settings["latents"], settings["num_latents"]
    embed, cache = model.get_input_embeddings(), DynamicCache(config=model.config)
    base = model.base_model
    backbone = getattr(model, "model", base) if base is model else base
    ones = torch.ones_like(mask[:, :1])
    start_B1D = embed(ones * latents["start"])

    def weights(name: str, state: Tensor) -> tuple[Tensor, Tensor]:
        return modules[f"{name}.weight"].to(state), modules[f"{name}.bias"].to(state)

    def filled(state: Tensor) -> Tensor:
        """Return what goes into latent positions, (B, C, D), from the states that it comes of."""
        if latents["input"] == "projected state":  # CODI, arXiv 2502.21074
            state = functional.gelu(functional.linear(state, *weights("projection.0", state)))
            state = functional.linear(state, *weights("projection.2", state))
            weight, bias = weights("projection.3", state)
            return functional.layer_norm(state, list(weight.shape), weight, bias)
        start = start_B1D.expand_as(state)
        by_name = {"state": state, "token": start, "token and state": start + state}
        vector: Tensor = by_name[latents["input"]]
        return vector

    def read_on(embeds_BCD: Tensor, is_real: Tensor) -> Tensor:
        """Read C more columns in one pass; return their last hidden states."""
        nonlocal mask
        if cache.get_seq_length():
            mask = torch.cat([mask, is_real], dim=1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -embeds_BCD.shape[1] :]
        states: Tensor = backbone(
            inputs_embeds=embeds_BCD,
            attention_mask=mask,
            position_ids=positions,
            **{cache_name(backbone): cache},
            use_cache=True,
        ).last_hidden_state
        return states

    if latents["iterations"] is not None:  # all at once, again and again: arXiv 2506.18582
        are_real = ones.expand(-1, most)
        mask = torch.cat([mask, are_real], dim=1)
        asked = torch.cat([embed(ids), start_B1D.expand(-1, most, -1)], dim=1)
        states = read_on(asked, are_real)[:, -most - 1 :]
        for _ in range(latents["iterations"]):
            cache.crop(-most)
            mask = mask[:, :-most]
            before = states[:, 1:] if latents["is_in_place"] else states[:, :-1]
            states = torch.cat([states[:, :1], read_on(filled(before), are_real)], dim=1)
        return cache, mask

    state_B1D, goes_on_B1 = read_on(embed(ids), mask)[:, -1:], ones
    for _ in range(most):  # one after the other: Coconut, arXiv 2412.06769
        read_B1D = read_on(filled(state_B1D), goes_on_B1)
        state_B1D = torch.where(goes_on_B1[:, :, None] > 0, read_B1D, state_B1D)
        if settings["stop_threshold"] is not None:
            wide_B1D = state_B1D.float()
            logits_B11 = functional.linear(wide_B1D, *weights("stop.linear", wide_B1D))
            goes_on_B1 = goes_on_B1 * (logits_B11[:, 0].sigmoid() < settings["stop_threshold"])
            if not goes_on_B1.any():
                break
    return cache, mask
