"""Measure the table of tiny language-model runs shipped as ``jaxscale/datasets/tiny_lm.csv``.

Every run trains one decoder-only transformer on the bytes of CPython's standard library, for a
single pass without repetition, and records its size N, the bytes D it saw and its held-out loss
in nats per byte. Runs form an isoFLOP grid: for each compute budget C the model width varies and
D = C / (6 N).

The shipped table was measured in float32 on one core of a two-core virtual machine (AMD EPYC,
family 25, model 17), with the standard library of CPython 3.11.7 as corpus and JAX 0.10.2, in
about 45 minutes. To measure it again on one core::

    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 0 \\
        python tests/bench/measure_tiny_lm.py --out tiny_lm.csv

Another Python version gives another corpus, and so other losses.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import hashlib
import math
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

CONTEXT = 64
DEPTH = 2
HEADS = 4
VOCAB = 256
DATA_SEED = 20261123
# Adam moves each weight by about one learning rate per step. A bias needs to reach several nats
# to single out one position, so it is stored in this unit; without it short runs are far worse.
POSITION_SCALE = 32.0
HELD_OUT_WINDOWS = 4096
EVAL_BATCH = 64

COLUMNS = (
    "run",
    "params",
    "params_nonembedding",
    "tokens",
    "flops",
    "loss",
    "width",
    "depth",
    "learning_rate",
    "batch_tokens",
    "steps",
    "seed",
)

# For each budget, the widths that put the valley of the isoFLOP curve inside the grid.
GRID = {
    3e10: (8, 12, 16, 24, 32, 48),
    1e11: (8, 12, 16, 24, 32, 48, 64),
    3e11: (12, 16, 24, 32, 48, 64, 96),
    1e12: (16, 24, 32, 48, 64, 96, 128),
    3e12: (32, 48, 64, 96, 128, 192),
    1e13: (64, 96, 128, 192, 256),
}
# Points measured again with another initialization and data order, to show the seed noise.
REPEATS = {3e10: (16, 32), 1e11: (16, 48), 3e11: (32, 64), 1e12: (64,)}

Params = dict


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: everything that is fixed before it starts."""

    budget: float
    width: int
    seed: int

    @property
    def params(self) -> int:
        return count_params(self.width)[0]

    @property
    def batch(self) -> int:
        """Windows per step.

        The batch grows slowly with D, so that the shortest runs still take a few hundred steps
        and the longest do not waste data on batches far below the critical size.
        """
        tokens = self.budget / (6 * self.params)
        return max(4, round(4 * (tokens / 7e4) ** 0.45))

    @property
    def steps(self) -> int:
        return round(self.budget / (6 * self.params * CONTEXT * self.batch))

    @property
    def learning_rate(self) -> float:
        """Peak learning rate, one rule for all runs.

        A sweep at widths from 12 to 128 found the best rate to go as 1/width. The added constant
        keeps the smallest widths within the range that was swept.
        """
        return 0.5 / (self.width + 4)

    @property
    def tokens(self) -> int:
        return self.steps * self.batch * CONTEXT

    @property
    def name(self) -> str:
        return f"c{self.budget:.0e}-w{self.width}-s{self.seed}".replace("+", "")


# --- corpus -----------------------------------------------------------------------------------


def corpus_files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (relative path, bytes) of the library's own Python sources, in sorted order."""
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        # Installed packages are not part of CPython, and _sysconfigdata is written by the build
        # on each machine, so both would make the corpus differ between machines.
        if "-packages/" in name or path.name.startswith("_sysconfigdata"):
            continue
        yield name, path.read_bytes()


def is_held_out(name: str) -> bool:
    """Choose about 4% of the files by name, so that adding a file moves no other file."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 25 == 0


def cut_windows(files: list[bytes]) -> np.ndarray:
    """Cut files, joined by a zero byte, into windows that predict each byte exactly once."""
    data = np.frombuffer(b"\0".join(files), np.uint8)
    count = (len(data) - 1) // CONTEXT
    return np.lib.stride_tricks.sliding_window_view(data, CONTEXT + 1)[::CONTEXT][:count]


def load_corpus() -> tuple[np.ndarray, np.ndarray]:
    """Return the training windows and the fixed sample of held-out windows."""
    rng = np.random.default_rng(DATA_SEED)
    split: dict[bool, list[bytes]] = {False: [], True: []}
    for name, text in corpus_files(Path(sysconfig.get_paths()["stdlib"])):
        split[is_held_out(name)].append(text)
    held_out = cut_windows(split[True])
    picked = rng.choice(len(held_out), HELD_OUT_WINDOWS, replace=False)
    return cut_windows(split[False]), held_out[picked]


# --- model ------------------------------------------------------------------------------------


def init_params(key: jax.Array, width: int) -> Params:
    """Draw weights with standard deviation 1/sqrt(fan-in), half that out of residual branches."""
    keys = iter(jax.random.split(key, 1 + 4 * DEPTH))

    def matrix(rows: int, cols: int, scale: float = 1.0) -> jax.Array:
        return jax.random.normal(next(keys), (rows, cols)) * scale / math.sqrt(rows)

    layers = [
        {
            "norm_attention": jnp.ones(width),
            "qkv": matrix(width, 3 * width),
            "position": jnp.zeros((HEADS, CONTEXT)),
            "out": matrix(width, width, 0.5),
            "norm_mlp": jnp.ones(width),
            "up": matrix(width, 4 * width),
            "down": matrix(4 * width, width, 0.5),
        }
        for _ in range(DEPTH)
    ]
    # The embedding is also the output matrix, whose fan-in is the width.
    return {"embedding": matrix(width, VOCAB).T, "layers": layers, "norm": jnp.ones(width)}


def count_params(width: int) -> tuple[int, int]:
    """Return the number of trained parameters, with and without the embedding."""
    shapes = jax.eval_shape(lambda: init_params(jax.random.key(0), width))
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    return total, total - VOCAB * width


def rms_norm(x: jax.Array, gain: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * gain


def attention(layer: Params, x: jax.Array) -> jax.Array:
    """Causal attention whose only notion of position is a learned bias per head and distance.

    The bias lets the smallest models find "the byte n back" early, which content-based
    attention of width 2 per head could not.
    """
    batch, length, width = x.shape
    q, k, v = jnp.split((x @ layer["qkv"]).reshape(batch, length, HEADS, -1), 3, axis=-1)
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    bias = POSITION_SCALE * layer["position"][:, np.maximum(distance, 0)]
    scores = jnp.einsum("bqhc,bkhc->bhqk", q, k) / math.sqrt(width // HEADS) + bias
    weights = jax.nn.softmax(jnp.where(distance >= 0, scores, -1e9))
    mixed = jnp.einsum("bhqk,bkhc->bqhc", weights, v)
    return mixed.reshape(batch, length, width) @ layer["out"]


def logits_of(params: Params, inputs: jax.Array) -> jax.Array:
    """Pre-norm transformer with tied input and output embedding and squared-ReLU MLP."""
    width = params["embedding"].shape[1]
    # One-hot times matrix: its gradient is a matrix product, while that of a gather is a
    # scatter, which is slow on a CPU.
    x = jax.nn.one_hot(inputs, VOCAB) @ params["embedding"] * math.sqrt(width)
    for layer in params["layers"]:
        x = x + attention(layer, rms_norm(x, layer["norm_attention"]))
        hidden = jax.nn.relu(rms_norm(x, layer["norm_mlp"]) @ layer["up"])
        x = x + (hidden * hidden) @ layer["down"]
    return rms_norm(x, params["norm"]) @ params["embedding"].T


def loss_of(params: Params, windows: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats per byte."""
    windows = windows.astype(jnp.int32)
    logits = logits_of(params, windows[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:]).mean()


# --- training ---------------------------------------------------------------------------------


def make_optimizer(peak: float, steps: int) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, max(20, steps // 20), steps)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b1=0.9, b2=0.98, weight_decay=0.01),
    )


@functools.partial(jax.jit, static_argnames=("peak",))
def train(params: Params, batches: jax.Array, peak: float) -> Params:
    """Take one optimizer step per batch, all in one compiled loop."""
    optimizer = make_optimizer(peak, len(batches))

    def step(state, batch):
        params, opt_state = state
        gradients = jax.grad(loss_of)(params, batch)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    return params


@jax.jit
def evaluate(params: Params, windows: jax.Array) -> jax.Array:
    batches = windows.reshape(-1, EVAL_BATCH, CONTEXT + 1)
    return jax.lax.map(functools.partial(loss_of, params), batches).mean()


def measure(run: Run, train_windows: np.ndarray, held_out: np.ndarray) -> dict[str, object]:
    """Train one model and return its row of the table."""
    needed = run.steps * run.batch
    if needed > len(train_windows):
        raise ValueError(f"{run.name} needs {needed} windows; the corpus has {len(train_windows)}")
    order = np.random.default_rng((DATA_SEED, run.seed)).permutation(len(train_windows))
    batches = train_windows[order[:needed]].reshape(run.steps, run.batch, CONTEXT + 1)
    params = init_params(jax.random.key(run.seed), run.width)
    params = train(params, batches, run.learning_rate)
    total, nonembedding = count_params(run.width)
    return {
        "run": run.name,
        "params": total,
        "params_nonembedding": nonembedding,
        "tokens": run.tokens,
        "flops": 6 * total * run.tokens,
        "loss": f"{float(evaluate(params, held_out)):.6f}",
        "width": run.width,
        "depth": DEPTH,
        "learning_rate": f"{run.learning_rate:.6g}",
        "batch_tokens": run.batch * CONTEXT,
        "steps": run.steps,
        "seed": run.seed,
    }


# --- table ------------------------------------------------------------------------------------


def planned_runs(budgets: list[float]) -> Iterator[Run]:
    for budget in budgets:
        yield from (Run(budget, width, 0) for width in GRID[budget])
        yield from (Run(budget, width, 1) for width in REPEATS.get(budget, ()))


def finished_runs(out: Path) -> set[str]:
    if not out.exists():
        return set()
    with out.open(newline="") as file:
        return {row["run"] for row in csv.DictReader(file)}


def append_row(out: Path, row: dict[str, object]) -> None:
    """Write a row as soon as it is known, so that an interrupted measurement can go on."""
    is_new = not out.exists()
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV file; finished runs are kept")
    parser.add_argument(
        "--budgets",
        type=float,
        nargs="+",
        choices=list(GRID),
        default=list(GRID),
        help="compute budgets in FLOP (default: all)",
    )
    args = parser.parse_args()
    done = finished_runs(args.out)
    train_windows, held_out = load_corpus()
    print(f"{train_windows.shape[0] * CONTEXT} training bytes", file=sys.stderr)
    for run in planned_runs(args.budgets):
        if run.name in done:
            continue
        start = time.perf_counter()
        row = measure(run, train_windows, held_out)
        append_row(args.out, row)
        print(f"{run.name} {row['loss']} {time.perf_counter() - start:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
