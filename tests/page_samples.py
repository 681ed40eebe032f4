"""Data for the HTML pages. All numbers are made up; none is a result."""

import base64
import math
import random
import struct
from itertools import pairwise

OUTCOMES = ("correct_path", "longer_path", "correct_label", "incorrect_label", "wrong_target",
            "hallucination")  # fmt: skip
NUM_THOUGHTS = 3
NUM_QUESTIONS = 4
LAYERS = [[0], [1, 2], [3, 4], [5, 6]]
INTERVENTIONS = ("zero", "noise", "swap")
SCRIPT = '</script><script>alert(1)</script><!-- $title ${data} <img src=x onerror="alert(2)">'
"""A hostile text."""


def sample_question(number):
    """Two families of a root and three layers of two nodes."""
    edges = [
        [family + above[k % len(above)], family + child]
        for family in (0, 7)
        for above, below in pairwise(LAYERS)
        for k, child in enumerate(below)
    ]
    return {
        "id": f"test-{number}",
        "nodes": [str(name) for name in random.Random(number).sample(range(10, 100), 14)],
        "edges": edges,
        "root": 0,
        "target": 5,
        "neg_target": 12,
        "path": [0, 1, 3, 5],
    }


def sample_shares(rng, depth):
    """Shares of which no two rows agree, so that a change is seen."""
    weights = [rng.uniform(0.01, 0.02) for _ in range(14)]
    for node in LAYERS[min(depth, 3)]:
        weights[node] = rng.uniform(0.2, 0.9)
    return [weight / sum(weights) for weight in weights]


# --- the page of an analysis ------------------------------------------------------------------


def sample_readings(question, method):
    rng = random.Random(10 * question + method)
    return {
        "thoughts": [sample_shares(rng, i) for i in range(1, NUM_THOUGHTS + 1)],
        "values": [sample_shares(rng, k + 1) for k in range(NUM_THOUGHTS + 1)],
        "answers": [
            {
                "k": k,
                "text": f"text {question} {method} {k}",
                "answer": f"answer {question} {method} {k}",
                "outcome": OUTCOMES[k % len(OUTCOMES)],
                "is_correct": k > method and not (question == 2 and method == 0),
            }
            for k in range(7)
        ],
        "interventions": [
            {
                "name": name,
                "thought": thought,
                "answer": f"{name} {thought} of {question} {method}",
                "is_correct": thought == 2,
            }
            for name in INTERVENTIONS
            for thought in (1, 2, 3, None)
        ],
    }


def interval(share):
    return {"accuracy": share, "low": share - 0.03, "high": share + 0.03, "num_questions": 500}


def sample_method(name="coconut", method=0):
    """Everything that can be measured."""
    effects = [
        {"name": name, "thought": thought, "p": 0.01}
        | interval(0.3 + 0.1 * number + 0.02 * (thought or 0) + 0.2 * method)
        for number, name in enumerate(INTERVENTIONS)
        for thought in (1, 2, 3, None)
    ]
    return {
        "name": name,
        "summary": "made up",
        **interval(0.9 - 0.2 * method),
        "num_thoughts": NUM_THOUGHTS,
        "thoughts_per_step": 1,
        "outcomes": [
            {"k": k, "shares": dict.fromkeys(OUTCOMES, 1 / 6)} | interval(0.1 * k)
            for k in range(7)
        ],
        "mass": [
            {"thought": i, "depth": i, "mass": 0.9, "uniform": 0.14, "low": 0.88, "high": 0.92}
            for i in range(1, NUM_THOUGHTS + 1)
        ],
        "interventions": [
            {"name": "none", "thought": None, "p": None} | interval(0.9), *effects
        ],
        "questions": [sample_readings(k, method) for k in range(NUM_QUESTIONS)],
    }  # fmt: skip


def sample_page(num_methods=2):
    """One method or two, four questions; the third is answered wrongly by the first method."""
    names = ("coconut", "coconut-pause-as-thought")
    questions = [
        sample_question(k) | {"text": f"A question with the number {k} [Q]"}
        for k in range(NUM_QUESTIONS)
    ]
    return {
        "title": "Sample of a page",
        "caption": "All of this is made up.",
        "form": "symbols",
        "questions": questions,
        "methods": [sample_method(names[k], k) for k in range(num_methods)],
        "provenance": {"command": "latentcot analyze RUN", "machine": "no machine"},
    }


def with_readings(data, **changes):
    """The same page of one method with other readings of every question."""
    [method] = data["methods"]
    return with_method(data, questions=[one | changes for one in method["questions"]])


def with_method(data, **changes):
    """The same page with another last method."""
    *others, last = data["methods"]
    return data | {"methods": [*others, last | changes]}


# --- the quickstart's report ------------------------------------------------------------------


def sample_curve(method, first_stage, last_stage, final):
    """The loss jumps with each stage, the accuracy grows."""
    span = 4000 / (last_stage - first_stage + 1)
    stages = {u: min(first_stage + int((u - 1) // span), last_stage) for u in range(20, 4001, 20)}
    return {
        "method": method,
        "losses": [
            {"update": u, "stage": stage, "loss": 0.05 + 2.3 * math.exp(-(u % span) / 160)}
            for u, stage in stages.items()
        ],
        "accuracies": [
            {"update": u, "stage": stage, "accuracy": 0.5 + (final - 0.5) * u / 4000}
            for u, stage in stages.items()
            if u % 200 == 0
        ],
    }


def sample_report():
    """Four methods, and twelve questions of which one is answered wrongly."""
    shown = (("cot", 0.84, 0.0141), ("no-cot", 0.552, 0.0032), ("pause", 0.58, 0.0037),
             ("coconut", 0.972, 0.0068))  # fmt: skip
    questions = [
        sample_question(k)
        | {
            "probabilities": [sample_shares(random.Random(k), i) for i in (1, 2, 3)],
            "answer": f"right {k}",
            "predicted": f"{'wrong' if k == 8 else 'right'} {k}",
            "is_correct": k != 8,
        }
        for k in range(12)
    ]
    return {
        "title": "Sample of a report",
        "conclusion": "These numbers are made up.",
        "caption": "The thoughts were trained by the loss on the text alone.",
        "rows": [
            {
                "method": method,
                "summary": f"what {method} is",
                **interval(share),
                "tokens_per_question": 9.2,
                "thoughts_per_question": 3.0,
                "seconds_per_question": seconds,
                "seed": 0,
                "updates": 4000,
            }
            for method, share, seconds in shown
        ],
        "curves": [sample_curve(name, 0, 3 * (name == "coconut"), s) for name, s, _ in shown],
        "frontier": {
            "num_questions": 500,
            "mass": [
                {"thought": i, "depth": i, "mass": 0.97, "uniform": 2 / 14}
                for i in range(1, NUM_THOUGHTS + 1)
            ],
            "questions": questions,
        },
        "chance": 0.5,
        "provenance": {"command": "latentcot quickstart", "commit": "0123456789", "seed": 0},
    }


# --- the page that thinks ---------------------------------------------------------------------


def sample_play(names=None):
    """One block of width 2, weights at random: what it says is of no use."""
    rng = random.Random(0)
    names = names or [str(name) for name in range(14)]
    vocabulary = ["<unk>", "<eos>", "<bot>", "<eot>", "<pause>", "[A]", "[Q]", "[R]", *names]
    sizes = {"embed": 2 * len(vocabulary), "positions": 2 * 64}
    for name, (rows, columns) in {
        "attention_norm": (2, 1), "query": (2, 2), "key": (2, 2), "value": (2, 2), "out": (2, 2),
        "mlp_norm": (2, 1), "up": (4, 2), "down": (2, 4),
    }.items():  # fmt: skip
        sizes |= {f"0.{name}": rows * columns, f"0.{name}_bias": rows}
    sizes |= {"norm": 2, "norm_bias": 2}
    numbers = [rng.uniform(-1, 1) for _ in range(sum(sizes.values()))]
    question = sample_question(0)
    return {
        "title": "A model that thinks",
        "caption": "What it is.",
        "names": names,
        "edge": "{} {} ",
        "trained": {"nodes": [10, 14], "edges": [8, 12], "hops": [2, 3], "parents": 1},
        "puzzles": [
            {
                "nodes": rng.sample(names, 14),
                "edges": question["edges"],
                "root": 0,
                "candidates": [12, 5],
            }
        ],
        "models": [
            {
                "name": name,
                "summary": f"what {name} is",
                "num_weights": len(numbers),
                "shape": {
                    "num_layers": 1, "num_heads": 1, "num_kv_heads": 1, "head_size": 2, "width": 2,
                    "num_positions": 64, "norm": "layer", "epsilon": 1e-5,
                    "activation": "gelu_tanh", "theta": None,
                },
                "weights": {
                    "dtype": "float32",
                    "index": [[key, size] for key, size in sizes.items()],
                    "base64": base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode(),
                },
                "vocabulary": vocabulary,
                "special_tokens": {"bot": 2, "eot": 3, "pause": 4, "eos": 1},
                "unknown": 0,
                "latents": latents,
                "has_special_tokens": latents != "nothing",
                "zero_thoughts": "bot",
                "question_end": "",
                "answer_start": "[A] ",
                "thoughts_per_step": 1,
                "num_stages": 3,
                "pads": False,
                "max_new_tokens": 4,
                "check": {"question": "0 1 [Q] 1 2 [R] 0", "num_thoughts": 1, "words": [1],
                          "logits": [[0.0] * len(vocabulary)]},
            }
            for name, latents in (
                ("coconut", "thoughts"), ("pause", "pauses"), ("cot", "nothing")
            )
        ],
        "provenance": {"coconut (runs/a)": "1 update"},
    }  # fmt: skip


def hostile(value):
    """The same with a hostile text for each text that is not one of a few."""
    if isinstance(value, dict):
        few = ("form", "outcome")
        return {key: item if key in few else hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return SCRIPT if isinstance(value, str) else value
