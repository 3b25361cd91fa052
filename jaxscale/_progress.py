"""A progress bar that appears only when the work takes longer than two seconds."""

import contextlib
import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Iterator

_PATIENCE = 2.0


@contextlib.contextmanager
def progress(
    label: str, total: int, show: bool | None = None, done: int = 0
) -> Iterator[Callable[[int], None]]:
    """Yield ``tick(n)``. The bar goes to standard error, with rate and time left.

    Args:
        label: what is being counted.
        total: how many there are.
        show: True or False to force; None shows it on a terminal, and in a notebook that has
            ipywidgets, which Rich needs there.
        done: how many were done before, which took none of this time: the rate leaves them out.

    Example:
        >>> with progress("fitting", len(tables)) as tick:
        ...     for table in tables:
        ...         fit(law, table, key=key)
        ...         tick(1)
    """
    if show is None:
        notebook = "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets")
        show = sys.stderr.isatty() or bool(notebook)
    if not show:
        yield lambda n: None
        return

    from rich.console import Console  # slow to import, and rarely needed
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(label, total=total, completed=done, rate="")
    began, before, lock = time.monotonic(), done, threading.Lock()

    def tick(n: int) -> None:
        nonlocal done
        with lock:
            done += n
            elapsed = time.monotonic() - began
            if elapsed > _PATIENCE and not bar.live.is_started:
                bar.start()
            rate = (done - before) / max(elapsed, 1e-9)
            bar.update(task, completed=done, rate=f"{rate:,.0f}/s")

    try:
        yield tick
    finally:
        bar.stop()
