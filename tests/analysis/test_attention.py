"""Which edges a thought looks at: against single questions, and on attention made by hand."""

from dataclasses import replace
from statistics import fmean

import pytest
import torch

from fresh import fresh_subject, prosqa, subject_of, with_info
from latentcot import DataError, UsageError
from latentcot.analysis import attention
from latentcot.analysis.attention import columns_of_edges
from latentcot.analysis.shared.latents import record, with_latents
from latentcot.methods import Plan
from latentcot.tasks.prosqa.generator import fact
from latentcot.tasks.prosqa.graphs import distances


@pytest.fixture(scope="module")
def words():
    return fresh_subject(prosqa("paper", 5, min_nodes=10, max_nodes=10, max_hops=3))


def texts_of(subject):
    """The text of each edge's columns, question by question."""
    found = []
    for question, encoded in zip(columns_of_edges(subject), subject.encoded, strict=True):
        decode = subject.reasoner.tokenizer.decode
        found.append([decode([encoded.question[c] for c in edge]).strip() for edge in question])
    return found


class TestEdgeColumns:
    @pytest.mark.parametrize("tokenizer", ["words", "bpe"])
    @pytest.mark.parametrize(
        ("preset", "options", "told"),
        [
            ("two-family", {}, "{} {}".format),
            ("two-family", {"joined": True}, "{}>{}".format),
            ("paper", {"joined": True, "rendering": "symbols", "ids": "random"}, "{}>{}".format),
            ("paper", {}, fact),
        ],
        ids=["symbols", "joined", "paper-joined", "words"],
    )
    def test_are_those_of_its_text(self, preset, options, told, tokenizer):
        subject = fresh_subject(prosqa(preset, 4, **options), tokenizer=tokenizer)
        for texts, graph in zip(texts_of(subject), subject.graphs, strict=True):
            assert texts == [told(graph.names[a], graph.names[b]) for a, b in graph.edges]
        for question in columns_of_edges(subject) if "joined" in options else ():
            assert tokenizer == "bpe" or sorted(question) == [[c] for c in range(len(question))]

    def test_in_symbols_with_bars(self):
        subject = fresh_subject(prosqa("two-family", 4, separator=True))
        bars = []
        for texts, graph, e in zip(
            texts_of(subject), subject.graphs, subject.examples, strict=True
        ):
            for text, (parent, child) in zip(texts, graph.edges, strict=True):
                assert text.split()[:2] == [graph.names[parent], graph.names[child]]
                assert text.split()[2:] in ([], ["|"])
            bars.append(sum("|" in text for text in texts))
            assert bars[-1] == e.question.count("|")
        assert sum(bars) > 0

    @pytest.mark.parametrize("place", [0, 1])
    def test_of_joined_edges_that_are_not_told_are_none(self, place):
        """Others stand there: one of no node, one that is no edge, and half a pair."""
        plain = fresh_subject(prosqa("two-family", 3, joined=True))
        example, graph = plain.examples[0], plain.graphs[0]
        told = example.question.split(" ")
        odd = "99>98", f"{graph.names[graph.target]}>{graph.names[graph.root]}", "99"
        edges = [f"{graph.names[a]}>{graph.names[b]}" for a, b in graph.edges]
        left_out, told[place : place + 1] = told[place], odd
        subject = fresh_subject([replace(example, question=" ".join(told)), *plain.examples[1:]])
        found = columns_of_edges(subject)[0]
        assert found == [[] if one == left_out else [told.index(one)] for one in edges]
        assert attention.measure(subject)["num_edges_left_out"] == 1

    def test_count_what_stands_in_front_of_the_question(self, words):
        shifted = tuple(replace(e, question=(0, 0, *e.question)) for e in words.encoded)
        before, after = columns_of_edges(words), columns_of_edges(replace(words, encoded=shifted))
        assert after == [[[c + 2 for c in edge] for edge in question] for question in before]

    def test_of_edges_that_are_not_told_are_none(self, words):
        example = words.examples[0]
        graph = words.graphs[0]
        told = fact(*(graph.names[node] for node in graph.edges[0]))
        changed = replace(example, question=example.question.replace(told + " ", ""))
        subject = subject_of(words.reasoner, [changed, *words.examples[1:]])
        columns = columns_of_edges(subject)
        assert columns[0][0] == [] and all(columns[0][1:]) and all(columns[1])
        result = attention.measure(subject)
        assert result["num_edges_left_out"] == 1
        assert result["num_edges"] == sum(len(graph.edges) for graph in words.graphs)

    def test_of_no_edge_at_all_are_an_error(self, words):
        changed = [replace(e, question="Is Tom a lempus or rorpus?") for e in words.examples[:2]]
        subject = replace(words, examples=tuple(changed), encoded=words.encoded[:2])
        with pytest.raises(DataError, match="no edge .* 'Is Tom a"):
            attention.measure(subject)


class TestReading:
    @pytest.mark.parametrize(
        ("method", "architecture"),
        [("coconut", "gpt2"), ("coconut-pause-as-thought", "llama"), ("pause-multipass", "gpt2")],
    )
    def test_gives_the_states_of_the_rollout(self, method, architecture):
        short, long = prosqa("two-family", 3, layers=1), prosqa("two-family", 3, layers=3)
        subject = with_latents(
            fresh_subject(
                [*long, *short],
                method=method,
                architecture=architecture,
                plan=Plan(3, pad_to_num_stages=False),
            )
        )
        chains, layouts = record(subject), subject.prompts()
        reading = attention.read_again(subject, chains, layouts, range(6))
        assert sorted(chains.num_latents) == [1, 1, 1, 3, 3, 3]
        for row, count in enumerate(chains.num_latents):
            start = int(reading.starts_B[row]) - 1
            again = reading.states[row, start : start + count + 1]
            expected = chains.states[row, : count + 1]
            torch.testing.assert_close(again, expected, rtol=1e-3, atol=1e-3)

    def test_leaves_the_model_as_it_was(self, words):
        model = words.reasoner.model
        for before in ("sdpa", "eager"):
            model.set_attn_implementation(before)
            attention.measure(words)
            assert model.config._attn_implementation == before


@torch.no_grad()
def by_loops(subject, layer, column, wanted):
    """Work out what a group's row must say, one question alone and one edge after the other."""
    reasoner = subject.reasoner
    table = reasoner.model.get_input_embeddings()
    reasoner.model.set_attn_implementation("eager")
    found = []
    for number, example in enumerate(subject.examples):
        graph, prompt = subject.graphs[number], subject.prompts()[number]
        if column > prompt.num_latents:
            continue
        thoughts = reasoner.think([example.question], prompt.num_latents).thoughts
        embeds = torch.cat([table(torch.tensor([prompt.prefix])), thoughts[:, :column]], dim=1)
        weights = reasoner.model(inputs_embeds=embeds, output_attentions=True).attentions[layer - 1]
        last = weights[0, :, -1].mean(0)
        away = distances(graph, graph.root)
        columns = columns_of_edges(subject)[number]
        chosen = [i for i, (parent, _) in enumerate(graph.edges) if wanted(away.get(parent))]
        if chosen:
            paid = [sum(float(last[c]) for c in columns[i]) for i in chosen]
            alike = [len(columns[i]) / len(last) for i in chosen]
            found.append((fmean(paid), fmean(alike), sum(paid), sum(alike), len(chosen)))
    keys = ("per_edge", "per_edge_uniform", "total", "total_uniform", "num_edges")
    means = [fmean(values) for values in zip(*found, strict=True)]
    return dict(zip(keys, means, strict=True)) | {"num_questions": len(found)}


class TestAgainstLoops:
    @pytest.mark.parametrize("name", ["uneven", pytest.param("words", marks=pytest.mark.slow)])
    def test_every_group(self, name, request):
        subject = request.getfixturevalue(name)
        result = attention.measure(subject)
        groups = {
            "unreachable": lambda away, depth: away is None,
            "passed": lambda away, depth: away is not None and away < depth,
            "frontier": lambda away, depth: away == depth,
            "not_yet": lambda away, depth: away is not None and away > depth,
        }
        checked = set()
        for row in result["columns"]:
            if row["group"] in groups:
                group, column = row["group"], row["column"]

                def wanted(away, group=group, column=column):
                    return groups[group](away, column)

                expected = by_loops(subject, row["layer"], column, wanted)
                for key, value in expected.items():
                    assert row[key] == pytest.approx(value, rel=2e-3, abs=1e-3), (key, row)
                checked.add((row["layer"], group))
        assert len(checked) == 8


class TestMadeByHand:
    def test_even_attention_is_what_uniform_says(self, uneven, words):
        for subject in (uneven, words):
            model = fresh_subject(subject.examples, plan=subject.reasoner.info.plan).reasoner.model
            with torch.no_grad():
                for block in model.transformer.h:  # queries and keys of 0 see all columns alike
                    block.attn.c_attn.weight.zero_()
                    block.attn.c_attn.bias.zero_()
            reasoner = type(subject.reasoner)(
                model, subject.reasoner.tokenizer, subject.reasoner.info
            )
            rows = attention.measure(subject_of(reasoner, subject.examples))["columns"]
            assert rows
            for row in rows:
                assert row["per_edge"] == pytest.approx(row["per_edge_uniform"], abs=2e-6)
                assert row["total"] == pytest.approx(row["total_uniform"], abs=2e-6)

    def test_sums_over_the_columns_of_an_edge(self):
        weights = torch.zeros(1, 2, 6, 6)
        weights[0, 0, 3] = torch.tensor([0.1, 0.2, 0.3, 0.4, 0, 0])
        weights[0, 0, 4] = torch.tensor([0.5, 0.1, 0.1, 0.1, 0.2, 0])
        weights[0, 1, 1] = torch.tensor([0.7, 0.3, 0, 0, 0, 0])
        reading = attention.Reading(
            torch.zeros(2, 6, 1), weights, torch.tensor([4, 2]), torch.tensor([1, 0])
        )
        gets, uniform = attention.attention_to_edges(reading, [[[0, 1], [2]], [[0]]], 2)
        expected = torch.tensor([[0.3, 0.3], [0.6, 0.1]])
        torch.testing.assert_close(gets[0, 0], expected)
        torch.testing.assert_close(uniform[0], torch.tensor([[2 / 4, 1 / 4], [2 / 5, 1 / 5]]))
        torch.testing.assert_close(gets[0, 1, 0], torch.tensor([0.7, 0.0]))


class TestResult:
    def test_no_result_depends_on_memory(self, uneven, monkeypatch):
        whole = attention.measure(uneven)["columns"]
        monkeypatch.setattr(attention, "MAX_WEIGHTS", 2 * 4 * 40**2)
        little = attention.measure(uneven)["columns"]
        assert little == [pytest.approx(row, abs=2e-5) for row in whole]

    def test_counts_questions_with_such_a_latent_only(self, uneven):
        rows = attention.measure(uneven)["columns"]
        counts = {
            row["column"]: row["num_questions"] for row in rows if row["group"] == "unreachable"
        }
        assert counts == {0: 7, 1: 7, 2: 4, 3: 4}

    def test_pauses_can_be_looked_at_too(self, words):
        for method in ("coconut-pause-as-thought", "pause-multipass"):
            result = attention.measure(with_info(words, method=method))
            assert "where a thought would be" in result["thoughts"]
            if method == "coconut-pause-as-thought":
                first = result["columns"]
        assert result["columns"] == [pytest.approx(row, abs=1e-5) for row in first]


class TestRefusals:
    @pytest.mark.parametrize(("limit", "value"), [("MAX_PARAMETERS", 100), ("MAX_HEADS", 3)])
    def test_of_large_models(self, words, monkeypatch, limit, value):
        monkeypatch.setattr(attention, limit, value)
        with pytest.raises(UsageError, match="for small models.* and 4"):
            attention.measure(words)

    def test_of_tokenizers_that_cannot_tell_where_tokens_stand(self, words, monkeypatch):
        monkeypatch.setattr(type(words.reasoner.tokenizer), "is_fast", False)
        with pytest.raises(UsageError, match="fast tokenizer"):
            attention.measure(words)
