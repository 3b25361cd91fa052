"""The model: a small decoder-only transformer on bytes."""

from __future__ import annotations

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from jaxscale.datasets.tiny_lm_study.corpus import CONTEXT

VOCAB = 256
# Adam moves each weight by about one learning rate per step. A bias needs to reach several nats
# to single out one position, so it is stored in this unit; without it short runs are far worse.
POSITION_SCALE = 32.0


@dataclasses.dataclass(frozen=True)
class Shape:
    """Width and depth, from which sizes and cost follow."""

    width: int
    depth: int

    @property
    def heads(self) -> int:
        """At least four: each head learns one pattern of distances, which short runs live on."""
        return max(4, self.width // 16)

    @property
    def params(self) -> int:
        """All trained parameters; the embedding, tied to the output, counts once."""
        return VOCAB * self.width + self.params_nonembedding

    @property
    def params_nonembedding(self) -> int:
        block = 12 * self.width**2 + 2 * self.width + self.heads * CONTEXT
        return self.depth * block + self.width

    @property
    def flop_per_token(self) -> int:
        """Multiplications and additions of all matrix products, forward and (twice) backward.

        Per token and forward pass: 2 per weight of the linear maps and of the output matrix, and
        4 x context x width per layer for attention scores and mixing, computed without skipping
        the masked half. The input embedding is a look-up and costs nothing; norms, softmax and
        the optimizer are left out.
        """
        linear = 2 * (12 * self.width**2 * self.depth + VOCAB * self.width)
        attention = 4 * CONTEXT * self.width * self.depth
        return 3 * (linear + attention)

    @property
    def name(self) -> str:
        return f"w{self.width}-d{self.depth}"


def _matrix(key: PRNGKeyArray, rows: int, cols: int, scale: float = 1.0) -> Array:
    """Draw weights with standard deviation scale / sqrt(fan-in)."""
    return jax.random.normal(key, (rows, cols), jnp.float32) * (scale / math.sqrt(rows))


def _rms_norm(x: Array, gain: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * gain


class Block(eqx.Module):
    """Pre-norm attention and squared-ReLU MLP, both added to their input.

    The only notion of position is a learned bias per head and distance: it lets the smallest
    models find "the byte n back" early, which content-based heads of width 2 could not.
    """

    norm_attention: Array
    qkv: Array
    position: Array
    out: Array
    norm_mlp: Array
    up: Array
    down: Array
    heads: int = eqx.field(static=True)

    def __init__(self, shape: Shape, key: PRNGKeyArray) -> None:
        width = shape.width
        keys = jax.random.split(key, 4)
        # Residual branches start small, smaller where there are more of them.
        branch = 0.5 * math.sqrt(2 / shape.depth)
        self.norm_attention = jnp.ones(width, jnp.float32)
        self.qkv = _matrix(keys[0], width, 3 * width)
        self.position = jnp.zeros((shape.heads, CONTEXT), jnp.float32)
        self.out = _matrix(keys[1], width, width, branch)
        self.norm_mlp = jnp.ones(width, jnp.float32)
        self.up = _matrix(keys[2], width, 4 * width)
        self.down = _matrix(keys[3], 4 * width, width, branch)
        self.heads = shape.heads

    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        x = x + self.attend(_rms_norm(x, self.norm_attention)) @ self.out
        hidden = jax.nn.relu(_rms_norm(x, self.norm_mlp) @ self.up)
        return x + (hidden * hidden) @ self.down

    def attend(self, x: Array) -> Array:
        batch, length, width = x.shape
        q, k, v = jnp.split((x @ self.qkv).reshape(batch, length, self.heads, -1), 3, axis=-1)
        distance = np.arange(length)[:, None] - np.arange(length)[None, :]
        bias = POSITION_SCALE * self.position[:, np.maximum(distance, 0)]
        scores = jnp.einsum("bqhc,bkhc->bhqk", q, k) / math.sqrt(width // self.heads) + bias
        weights = jax.nn.softmax(jnp.where(distance >= 0, scores, -1e9))
        return jnp.einsum("bhqk,bkhc->bqhc", weights, v).reshape(batch, length, width)


class Transformer(eqx.Module):
    """Bytes in, logits of the next byte out; input and output embedding are one matrix."""

    embedding: Array
    blocks: list[Block]
    norm: Array

    def __init__(self, shape: Shape, key: PRNGKeyArray) -> None:
        first, *rest = jax.random.split(key, 1 + shape.depth)
        # The embedding is also the output matrix, whose fan-in is the width.
        self.embedding = _matrix(first, shape.width, VOCAB).T
        self.blocks = [Block(shape, each) for each in rest]
        self.norm = jnp.ones(shape.width, jnp.float32)

    def __call__(self, inputs: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
        width = self.embedding.shape[1]
        # One-hot times matrix: its gradient is a matrix product, while that of a gather is a
        # scatter, which is slow on a CPU.
        x = jax.nn.one_hot(inputs, VOCAB, dtype=jnp.float32) @ self.embedding * math.sqrt(width)
        for block in self.blocks:
            x = block(x)
        return _rms_norm(x, self.norm) @ self.embedding.T


def loss_of(model: Transformer, windows: UInt8[Array, "batch length_plus_one"]) -> Array:
    """Mean cross-entropy in nats per byte."""
    symbols = windows.astype(jnp.int32)
    logits = model(symbols[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, symbols[:, 1:]).mean()
