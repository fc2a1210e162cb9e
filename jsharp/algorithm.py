"""What every algorithm is: Algorithm(init, step).

    init(params, prompts) -> state           prompts: any batch, for its shapes
    step(key, state, prompts) -> (state, info)

`state.params` is what the algorithm returns if it stops now; Info is what a test or a
plot reads. It always has `queries`, the sample-and-evaluate queries of the step
(Def 3.2): sample complexity is measured, never assumed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Algorithm(NamedTuple):
    init: Callable[..., Any]
    step: Callable[..., tuple[Any, Any]]
