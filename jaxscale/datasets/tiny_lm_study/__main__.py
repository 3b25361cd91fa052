"""The command of the study.

The shipped table was measured on one core, in one thread::

    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 1 \\
        python -m jaxscale.datasets.tiny_lm_study --out DIR

Another version of Python or of a package gives another corpus, and so other losses.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import sys
from pathlib import Path

import jax

from jaxscale.datasets.tiny_lm_study.corpus import Corpus, load_corpus
from jaxscale.datasets.tiny_lm_study.model import Shape
from jaxscale.datasets.tiny_lm_study.plan import FULL, QUICK, choose_rate
from jaxscale.datasets.tiny_lm_study.table import Table
from jaxscale.datasets.tiny_lm_study.train import Run, measure


def cpu_model() -> str:
    """The processor's name as Linux tells it, else what Python knows."""
    fields: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    if {"model name", "cpu family", "model"} <= fields.keys():
        return f"{fields['model name']}, family {fields['cpu family']}, model {fields['model']}"
    return platform.processor() or platform.machine()


def write_record(out: Path, corpus: Corpus) -> None:
    """Write what the rows were measured on; refuse to mix two corpora in one table."""
    path = out / "tiny_lm.json"
    if path.exists():
        before = json.loads(path.read_text())
        if before["corpus_sha256"] != corpus.record["corpus_sha256"]:
            sys.exit(
                f"{path} records another corpus (hash {before['corpus_sha256'][:12]}, now "
                f"{str(corpus.record['corpus_sha256'])[:12]}): its rows cannot be continued; "
                "choose another --out"
            )
        return
    machine = {"cpu": cpu_model(), "jax": jax.__version__, "platform": jax.default_backend()}
    path.write_text(json.dumps({**corpus.record, "machine": machine}, indent=2) + "\n")


def measured(run: Run, table: Table, corpus: Corpus, checkpoints: bool) -> float:
    """The final loss of a run: looked up, or trained and written."""
    known = table.final_loss(run.name)
    if known is None:
        table.append(measure(run, corpus) if checkpoints else measure(run, corpus, ()))
        row = table.rows[-1]
        print(f"{run.name} lr {run.lr:.4g} loss {row['loss']} {row['minutes']} min", flush=True)
        known = table.final_loss(run.name)
    assert known is not None
    return known


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m jaxscale.datasets.tiny_lm_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder; finished runs are kept")
    parser.add_argument("--quick", action="store_true", help="the same in miniature, in seconds")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    corpus = load_corpus((), library_part="e", scored=512) if options.quick else load_corpus()
    options.out.mkdir(parents=True, exist_ok=True)
    write_record(options.out, corpus)
    table, sweep = Table(options.out / "tiny_lm.csv"), Table(options.out / "tiny_lm_sweep.csv")

    @functools.cache
    def rate(shape: Shape) -> float:
        return choose_rate(
            shape,
            plan.sweep_budget(shape),
            lambda run: measured(run, sweep, corpus, checkpoints=False),
        )

    for cell, seed in plan.runs():
        measured(cell.run(rate(cell.shape), seed), table, corpus, checkpoints=True)


if __name__ == "__main__":
    main()
