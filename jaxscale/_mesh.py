"""Which devices share the work: all fits inside ``with use_mesh(mesh)`` are spread over them."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

_CURRENT: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh", default=None)


@contextlib.contextmanager
def use_mesh(mesh: Mesh | None) -> Iterator[None]:
    """Spread restarts, resamples, profile points and data sets over the devices of a mesh.

    Every device works through its own share at its own pace; results are those of one device up to
    round-off. The devices may belong to several hosts, after ``jax.distributed.initialize()``:
    then every host must make the same calls, and every host gets all results.

    Args:
        mesh: any mesh, whatever its axes are called. None keeps the one in use, if any.

    Example:
        >>> with use_mesh(jax.make_mesh((8,), ("restarts",))):
        ...     many = intervals(fit, key=key)
    """
    token = _CURRENT.set(mesh if mesh is not None else _CURRENT.get())
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_mesh() -> Mesh | None:
    """The mesh in use, if any."""
    return _CURRENT.get()


def all_devices() -> Mesh | None:
    """A mesh of all devices of all hosts, or None if there is only one."""
    count = jax.device_count()
    return jax.make_mesh((count,), ("devices",)) if count > 1 else None
