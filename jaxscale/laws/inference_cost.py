"""What sampling costs, and how training should change when a model will be used a lot."""

from typing import Any

import jax.numpy as jnp

from jaxscale.laws._root import root

# FLOPs that one byte of memory traffic is worth: 4.5e15 FLOP/s over 8e12 byte/s.
FLOP_PER_BYTE = 562.5


def sampling_flop(
    params: Any, *, prompt: Any, generated: Any, samples: Any = 1, n_layer: Any, d_model: Any
) -> Any:
    """sum_(t <= p) f(t) + k sum_(p < t <= p + g) f(t), f(t) = 2 (params + 2 n_layer d_model t)

    The prompt is read once, the completions are generated k times; token t attends to t tokens.

    Args:
        params: parameters P that a token passes.
        prompt, generated: p and g, tokens.
        samples: k, completions.
        n_layer, d_model: depth and width.

    Source: Brown et al. 2024 (Large Language Monkeys), arXiv 2407.21787.
    """

    def first(tokens: Any) -> Any:
        return 2 * params * tokens + 2 * n_layer * d_model * tokens * (tokens + 1)

    return first(prompt) + samples * (first(prompt + generated) - first(prompt))


# Compute and memory traffic together: eFLOPs. Weights are read once for a large batch and left out.


def _attended(context: Any, generated: Any, budget: Any) -> Any:
    """Tokens that the generated ones attend to, summed over them, at most `budget` each."""
    gap = jnp.maximum(budget - context, 0)
    short = jnp.minimum(gap, generated)
    return budget * generated - gap * short + 0.5 * short**2


def dense_cost(
    params: Any,
    *,
    context: Any,
    generated: Any,
    trials: Any = 1,
    heads: Any,
    kv_heads: Any,
    head_dim: Any,
    n_layer: Any,
    flop_per_byte: Any = FLOP_PER_BYTE,
) -> Any:
    """(2 P g + 2 (2c + g) g H h) n + 2 (2c + g n) g H_kv h E, in eFLOPs

    Compute plus memory traffic of keys and values (2 bytes each), in FLOPs. The prompt's cache is
    shared by the trials. h = head_dim n_layer. Costs of real generations are averaged over their
    lengths: the cost is not linear in g.

    Args:
        params: P.
        context, generated: c and g, tokens.
        trials: n.
        heads, kv_heads: H and H_kv per layer.
        head_dim, n_layer: size of a head, number of layers.
        flop_per_byte: E.

    Source: Sadhukhan et al. 2025 (Kinetics), arXiv 2506.05333, authors' cost model.
    """
    h = head_dim * n_layer
    compute = (2 * params + 2 * (2 * context + generated) * heads * h) * generated * trials
    traffic = 2 * (2 * context + generated * trials) * generated * kv_heads * h
    return compute + traffic * flop_per_byte


def top_k_cost(
    params: Any,
    *,
    context: Any,
    generated: Any,
    budget: Any,
    trials: Any = 1,
    heads: Any,
    kv_heads: Any,
    head_dim: Any,
    n_layer: Any,
    flop_per_byte: Any = FLOP_PER_BYTE,
) -> Any:
    """(2 P g + 4 v H h) n + 4 v H_kv h n E, v = budget g - (budget - c)_+^2 / 2, in eFLOPs

    Each token attends to `budget` others, or to all of them while there are fewer; v is the sum.
    The authors' code adds the square instead of subtracting it. If even the last token has fewer
    than `budget` before it, this is dense attention: v = c g + g^2 / 2. Here every trial reads the
    prompt's cache for itself. Arguments as in `dense_cost`.

    Source: Sadhukhan et al. 2025 (Kinetics), arXiv 2506.05333, authors' cost model, sign corrected.
    """
    h = head_dim * n_layer
    seen = _attended(context, generated, budget)
    compute = 2 * params * generated + 4 * seen * heads * h
    return (compute + 4 * seen * kv_heads * h * flop_per_byte) * trials


def block_cost(
    params: Any,
    *,
    context: Any,
    generated: Any,
    budget: Any,
    block: Any,
    trials: Any = 1,
    heads: Any,
    kv_heads: Any,
    head_dim: Any,
    n_layer: Any,
    flop_per_byte: Any = FLOP_PER_BYTE,
) -> Any:
    """`top_k_cost` + (2c + g) / block g H h n + (2c + g n) / block g H_kv h E, in eFLOPs

    Choosing blocks costs one comparison per block of `block` tokens. The authors round the number
    of blocks down; here it is smooth. Arguments as in `dense_cost`.

    Source: Sadhukhan et al. 2025 (Kinetics), arXiv 2506.05333, authors' cost model.
    """
    h = head_dim * n_layer
    shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "n_layer": n_layer}
    about = {"context": context, "generated": generated, "budget": budget, "trials": trials}
    chosen = top_k_cost(params, **about, **shape, flop_per_byte=flop_per_byte)
    compute = (2 * context + generated) / block * generated * heads * h * trials
    traffic = (2 * context + generated * trials) / block * generated * kv_heads * h
    return chosen + compute + traffic * flop_per_byte


def verified_cost(solutions: Any, verifications: Any, *, ratio: Any) -> Any:
    """C = S (1 + ratio V), in units of one solution

    S solutions, each checked V times by a generative verifier whose answer is `ratio` times as long
    as a solution. Fit the best S and V of each budget with `power_law` (exponents of S and V).

    Source: Singhi et al. 2025, arXiv 2504.01005, seen in a re-implementation.
    """
    return solutions * (1 + ratio * verifications)


# Training against inference.


def sampling_exchange(size_ratio: Any, *, pretraining: Any, inference: Any) -> Any:
    """k = M + 3 (D_pre / D_inf) (M - 1)

    How many times more inference the small model may use, at the FLOPs of one M times larger on the
    same tokens: 6 N D_pre + 2 k N D_inf = M (6 N D_pre + 2 N D_inf).

    Args:
        size_ratio: M.
        pretraining, inference: D_pre and D_inf, tokens of the large model.

    Source: Snell et al. 2024, arXiv 2408.03314; solved for k here.
    """
    return size_ratio + 3 * pretraining / inference * (size_ratio - 1)


def lifetime_cost(N: Any, D: Any, D_inf: Any, *, inference_token: Any = 1 / 3) -> Any:
    """6 N (D + inference_token D_inf), in FLOPs: training and inference together

    Args:
        N, D: parameters and training tokens.
        D_inf: tokens read and generated in use.
        inference_token: cost of one token in use over that of one in training: 2 N / (6 N) in
            FLOPs; times the ratio of utilizations, in money.

    Source: Sardana et al. 2023, arXiv 2401.00448, equation 2.
    """
    return 6 * N * (D + inference_token * D_inf)


def inference_aware(
    loss: Any,
    D_inf: Any,
    *,
    E: Any,
    A: Any,
    B: Any,
    alpha: Any,
    beta: Any,
    inference_token: Any = 1 / 3,
) -> tuple[Any, Any]:
    """N, D of lowest 6 N (D + inference_token D_inf) with E + A / N^alpha + B / D^beta = loss

    Smaller and longer-trained than Chinchilla's optimum, which D_inf = 0 gives. With
    w = (A / N^alpha) / (B / D^beta) the condition is alpha w / beta = 1 + inference_token D_inf/D,
    whose sides rise and fall with w: one root. Differentiable; everything broadcasts.

    Args:
        loss: the loss to reach, above E; such as that of a reference model at its law-optimal D,
            which is not 20 tokens per parameter.
        D_inf: tokens in use, 0 allowed.
        E, A, B, alpha, beta: parameters of `chinchilla`.
        inference_token: as in `lifetime_cost`.

    Source: Sardana et al. 2023, arXiv 2401.00448, section 3. For the quality of a 13B model and
    2e12 tokens in use: N = 6.97e9, and 17.4% saved.
    """

    def one(loss: Any, D_inf: Any, *law: Any) -> tuple[Any, Any]:
        E, A, B, alpha, beta, token = law
        log_D0 = (jnp.log(B) - jnp.log(loss - E)) / beta
        least = jnp.log(beta / alpha)
        shortest = log_D0 + jnp.logaddexp(least, 0.0) / beta
        most = least + jnp.log1p(token * D_inf * jnp.exp(-shortest))
        log_w = root(_imbalance, least, most, D_inf * token, log_D0, alpha, beta)
        share = jnp.logaddexp(log_w, 0.0)  # -log of the data term's share
        log_N = (jnp.log(A) - jnp.log(loss - E) + share - log_w) / alpha
        return jnp.exp(log_N), jnp.exp(log_D0 + share / beta)

    return jnp.vectorize(one)(loss, D_inf, E, A, B, alpha, beta, inference_token)


def _imbalance(log_w: Any, used: Any, log_D0: Any, alpha: Any, beta: Any) -> Any:
    log_D = log_D0 + jnp.logaddexp(log_w, 0.0) / beta
    return log_w + jnp.log(alpha / beta) - jnp.log1p(used * jnp.exp(-log_D))


def law_optimal_tokens(N: Any, *, A: Any, B: Any, alpha: Any, beta: Any, **_: Any) -> Any:
    """D0 = (beta B N^alpha / (alpha A))^(1 / beta), where N is optimal under C = 6 N D

    Source: Hoffmann et al. 2022, arXiv 2203.15556; the reference models of Sardana et al. 2023.
    """
    return jnp.exp((jnp.log(beta * B) - jnp.log(alpha * A) + alpha * jnp.log(N)) / beta)
