"""Is there a number to look at?"""

from typing import Any

import jax


def is_traced(*values: Any) -> bool:
    """Whether any value is abstract: inside jit or grad there are no numbers to look at."""
    return any(isinstance(value, jax.core.Tracer) for value in values)
