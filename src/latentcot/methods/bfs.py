"""cot-bfs: chain of thought that writes the whole frontier of a graph, layer by layer.

A path through a graph has to be chosen before it is known where it leads; a breadth-first search
has not. Step d names all nodes that can be reached in d edges and not in fewer:

    question   {children of the root}   {their children} …   answer

down to the layer of the answer. It is the honest opponent of thoughts that hold a frontier
(arXiv 2505.12514, section 1): the same search in words, whose length grows with the number of
nodes, where a thought a layer is enough. It learns from graphs, which ProsQA's examples carry.
"""

from latentcot.curriculum.views import KEEP_ALL, View
from latentcot.methods.method import Method
from latentcot.methods.registry import NoSettings
from latentcot.methods.terms import language, measures
from latentcot.tasks.prosqa.frontier import frontier_chain


def cot_bfs(settings: NoSettings) -> Method:
    """Make the method."""
    terms = (language("answer"), *measures("answer"))
    return Method("cot-bfs", {"answer": View(KEEP_ALL)}, terms, chain=frontier_chain)
