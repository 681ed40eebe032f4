"""Answers by what they name: whether a question has a graph, and what an answer would be in it."""

from latentcot.analysis.shared.subject import Subject
from latentcot.tasks.prosqa.generator import fact


def has_graphs(subject: Subject) -> bool:
    """Return whether the questions carry graphs, as those of ProsQA do."""
    return all("idx_to_symbol" in example.meta for example in subject.examples)


def answer_naming(subject: Subject, question: int, name: str) -> str:
    """Return the answer to a question with a graph, if the node of this name were the target."""
    graph = subject.graphs[question]
    return fact(graph.names[graph.root], name) if subject.is_in_words else name


def key_of(subject: Subject, question: int) -> str:
    """Return what tells the right answers of two questions apart: the target's name, or all."""
    if has_graphs(subject):
        graph = subject.graphs[question]
        return graph.names[graph.target]
    return " ".join(subject.examples[question].answer.split())
