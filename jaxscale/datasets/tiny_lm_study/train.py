"""One training run: from a `Run`, fixed before it starts, to the rows of the table."""

from __future__ import annotations

import dataclasses
import functools
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxscale.datasets.tiny_lm_study.corpus import CONTEXT, Corpus
from jaxscale.datasets.tiny_lm_study.model import Shape, Transformer, loss_of

BATCHES = (4, 6, 8, 12, 16, 24, 32, 48, 64)
CHECKPOINTS = (1 / 8, 1 / 4, 1 / 2)
EVAL_BATCH = 64
CHUNK = 128
ORDER_SEED = 20261123
WARMUP_STEPS = 20
WARMUP_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything about a run that is fixed before it starts. `budget` is its 6 N D."""

    name: str
    shape: Shape
    budget: float
    lr: float
    seed: int

    @property
    def batch(self) -> int:
        """Windows per step.

        It grows slowly with D, so that the shortest runs still take some hundred steps and the
        longest do not waste data on batches far below the critical size.
        """
        wanted = 4 * (self._tokens / 7e4) ** 0.45
        return min(BATCHES, key=lambda size: abs(np.log(size / wanted)))

    @property
    def steps(self) -> int:
        return max(8, round(self._tokens / (CONTEXT * self.batch)))

    @property
    def _tokens(self) -> float:
        return self.budget / (6 * self.shape.params)


class State(eqx.Module):
    """What a training step changes."""

    model: Transformer
    optimizer: optax.OptState


def learning_rate(count: jax.Array, peak: jax.Array, steps: jax.Array) -> jax.Array:
    """Linear warm-up to the peak, then a cosine to zero at the last step.

    Written out because Optax's schedule wants a static length, and one compiled program serves
    runs of any length here.
    """
    warmup = jnp.maximum(WARMUP_STEPS, WARMUP_SHARE * steps)
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * (count - warmup) / jnp.maximum(steps - warmup, 1)))
    return peak * jnp.where(count < warmup, count / warmup, cosine)


def optimizer_of(peak: jax.Array, steps: jax.Array) -> optax.GradientTransformation:
    """AdamW, with the gradient's norm clipped."""
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            functools.partial(learning_rate, peak=peak, steps=steps),
            b1=0.9,
            b2=0.98,
            weight_decay=0.01,
        ),
    )


def start(run: Run) -> State:
    model = Transformer(run.shape, jax.random.key(run.seed))
    return State(model, optimizer_of(jnp.float32(0), jnp.float32(0)).init(model))


@jax.jit
def advance(
    state: State, chunk: jax.Array, count: jax.Array, peak: jax.Array, steps: jax.Array
) -> State:
    """Take one step on each of the first `count` batches of `chunk`."""
    optimizer = optimizer_of(peak, steps)

    def step(index: jax.Array, state: State) -> State:
        gradients = eqx.filter_grad(loss_of)(state.model, chunk[index])
        updates, inner = optimizer.update(gradients, state.optimizer, state.model)
        return State(eqx.apply_updates(state.model, updates), inner)

    return jax.lax.fori_loop(0, count, step, state)


@jax.jit
def evaluate(model: Transformer, windows: jax.Array) -> jax.Array:
    batches = windows.reshape(-1, EVAL_BATCH, CONTEXT + 1)
    return jax.lax.map(functools.partial(loss_of, model), batches).mean()


def measure(
    run: Run, corpus: Corpus, checkpoints: tuple[float, ...] = CHECKPOINTS
) -> list[dict[str, object]]:
    """Train one model; return a row per checkpoint and, last, the row of the finished run."""
    needed = run.steps * run.batch
    if needed > len(corpus.train):
        raise ValueError(
            f"{run.name} needs {needed} windows, the corpus has {len(corpus.train)}: "
            "no byte is seen twice, so lower the budget or widen the model"
        )
    order = np.random.default_rng((ORDER_SEED, run.seed)).permutation(len(corpus.train))
    order = order[:needed].reshape(run.steps, run.batch)
    peak, steps = jnp.float32(run.lr), jnp.float32(run.steps)
    chunk = np.zeros((CHUNK, run.batch, CONTEXT + 1), np.uint8)
    held_out = jnp.asarray(corpus.held_out)

    state = start(run)
    advance(state, chunk, jnp.int32(0), peak, steps)  # compile outside the clock
    stops = sorted({max(1, round(share * run.steps)) for share in checkpoints} | {run.steps})
    rows: list[dict[str, object]] = []
    done, seconds = 0, 0.0
    for stop in stops:
        begin = time.process_time()
        while done < stop:
            count = min(CHUNK, stop - done)
            chunk[:count] = corpus.train[order[done : done + count]]
            state = advance(state, jnp.asarray(chunk), jnp.int32(count), peak, steps)
            jax.block_until_ready(state)
            done += count
        seconds += time.process_time() - begin
        rows.append(row_of(run, done, float(evaluate(state.model, held_out)), seconds / 60))
    return rows


def row_of(run: Run, steps: int, loss: float, minutes: float) -> dict[str, object]:
    tokens = steps * run.batch * CONTEXT
    return {
        "run": run.name,
        "budget": f"{run.budget:.3g}".replace("+", ""),
        "params": run.shape.params,
        "params_nonembedding": run.shape.params_nonembedding,
        "tokens": tokens,
        "flop": run.shape.flop_per_token * tokens,
        "loss": f"{loss:.6f}",
        "width": run.shape.width,
        "depth": run.shape.depth,
        "heads": run.shape.heads,
        "lr": f"{run.lr:.6g}",
        "batch": run.batch * CONTEXT,
        "steps": steps,
        "seed": run.seed,
        "checkpoint": steps < run.steps,
        "minutes": f"{minutes:.4g}",
    }
