"""PCCoT: all thoughts at once, refined T times, supervised as CODI's (arXiv 2506.18582).

    pass 0        question <bot> <pause> × N
    T times       position j+1 reads P(h at position j in the iteration before), position 1 P(h at
                  <bot>), over a cache that ends behind <bot>              (section 3.2, equation 3)
    then          <eot> answer, over the cache of the last iteration

so T + 1 passes in place of N + 1, since the language rides along with the last iteration. T ≥ N
gives what CODI's sequential thoughts give; T = 0 leaves N pauses. Its distance to the teacher is
over the blocks alone in the released code; here it is CODI's, whose embedding entry is nearly 0.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from latentcot.curriculum.views import THOUGHT, Parallel
from latentcot.methods.codi import CodiSettings, make_projection, project, self_distillation
from latentcot.methods.method import Method, Module


@dataclass(frozen=True)
class PccotSettings(CodiSettings):
    """The settings of `pccot`; the numbers are those of the released recipe for GPT-2."""

    num_latents: Annotated[int, Field(ge=1)] = 24
    """Thoughts of every example."""
    iterations: Annotated[int, Field(ge=0)] = 3
    """T, how often all of them are refined."""


def pccot(settings: PccotSettings) -> Method:
    """Make the method."""
    if settings.projection == "identity" or settings.iterations == 0:
        latents = Parallel(settings.iterations, THOUGHT.update)
        return self_distillation("pccot", latents, settings, {})
    modules = {"projection": Module(make_projection)}
    latents = Parallel(settings.iterations, project)
    return self_distillation("pccot", latents, settings, modules)
