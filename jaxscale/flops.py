"""Training FLOPs of dense decoder-only transformers, under the conventions papers use.

The exponent of a compute-optimal fit depends on the convention (Porian et al. 2024), so every
function says what it counts. Each is proportional to the number of tokens D. A multiply-add is two
FLOPs; the backward pass costs twice the forward pass.
"""

from collections.abc import Callable
from typing import Any

FlopFunction = Callable[..., Any]


def six_nd(N: Any, D: Any) -> Any:
    """C = 6 N D

    Args:
        N: parameters, counted as the law counts them.
        D: training tokens.

    Source: Kaplan et al. 2020, arXiv 2001.08361, section 2.1; Hoffmann et al. 2022 use it with N
    including embeddings.
    """
    return 6 * N * D


def forward(N: Any, tokens: Any) -> Any:
    """C = 2 N tokens: tokens read or written in use, one third of what training costs

    Args:
        N: parameters, counted as the law counts them.
        tokens: tokens in use.

    Source: Kaplan et al. 2020, arXiv 2001.08361, section 2.1; Sardana et al. 2023, arXiv
    2401.00448, equation 2.
    """
    return 2 * N * tokens


def at_bits(N: Any, D: Any, P: Any) -> Any:
    """C = (6 / 16) N D P: cost in FLOPs of 16 bits, in proportion to the bits

    Args:
        N: parameters.
        D: training tokens.
        P: bits of weights, activations and cache.

    Source: Kumar et al. 2024, arXiv 2411.04330, section 4.
    """
    return 6 / 16 * N * D * P


def kaplan(D: Any, *, n_layer: Any, d_model: Any, n_ctx: Any = 0) -> Any:
    """C = 6 D (12 n_layer d_model^2) + 6 D n_layer n_ctx d_model

    Non-embedding parameters, four-fold feed-forward, and Kaplan's context term
    (2 n_layer n_ctx d_attn per token forward). Without `n_ctx` it is 6 N D with N non-embedding.

    Args:
        D: training tokens.
        n_layer, d_model: depth and width.
        n_ctx: context length; 0 leaves the attention scores out, as Kaplan's C = 6 N D does.

    Source: Kaplan et al. 2020, arXiv 2001.08361, Table 1 and equation 2.2.
    """
    return 3 * D * (2 * 12 * n_layer * d_model**2 + 2 * n_layer * n_ctx * d_model)


def with_head(D: Any, *, N_nonembedding: Any, d_model: Any, vocab: Any) -> Any:
    """C = 6 D (N_nonembedding + d_model vocab)

    Counts the output head but not the input embedding, a table lookup. Adding the head moved
    Porian's exponent from 0.84 to 0.71 on RefinedWeb.

    Args:
        D: training tokens.
        N_nonembedding: parameters without embedding and head.
        d_model, vocab: width and vocabulary size.

    Source: Porian et al. 2024, arXiv 2406.19146.
    """
    return 6 * D * (N_nonembedding + d_model * vocab)


def deepseek(D: Any, *, n_layer: Any, d_model: Any, n_ctx: Any) -> Any:
    """C = M D, M = 72 n_layer d_model^2 + 12 n_layer d_model n_ctx

    FLOPs without embeddings, attention over the whole context counted: what the hyper-parameter
    laws of DeepSeek take as C. It is not 6 N D.

    Args:
        D: training tokens.
        n_layer, d_model: depth and width.
        n_ctx: context length.

    Source: DeepSeek-AI 2024, arXiv 2401.02954, equation 2, seen in five secondary sources.
    """
    return (72 * n_layer * d_model**2 + 12 * n_layer * d_model * n_ctx) * D


def hoffmann(
    D: Any,
    *,
    n_layer: Any,
    d_model: Any,
    d_ff: Any,
    n_head: Any,
    d_key: Any,
    n_ctx: Any,
    vocab: Any,
    gated: bool = False,
) -> Any:
    """C = 3 D (embedding + n_layer (attention + feed-forward) + logits), per token

    Forward FLOPs per token: embedding 2 V d; per layer QKV 6 d (k h), scores 2 s (k h), softmax
    3 h s, values 2 s (k h), projection 2 (k h) d, feed-forward 4 d f (6 d f if gated); logits
    2 d V.

    Args:
        D: training tokens.
        n_layer, d_model, d_ff: depth, width, feed-forward width.
        n_head, d_key: attention heads and size of each.
        n_ctx: context length s.
        vocab: vocabulary size V.
        gated: whether the feed-forward layer has a third matrix, as in SwiGLU.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, appendix F.
    """
    heads = n_head * d_key
    attention = 6 * d_model * heads + 4 * n_ctx * heads + 3 * n_head * n_ctx + 2 * heads * d_model
    feed = (6 if gated else 4) * d_model * d_ff
    per_token = 4 * vocab * d_model + n_layer * (attention + feed)
    return 3 * D * per_token


def parameters(
    *,
    n_layer: Any,
    d_model: Any,
    d_ff: Any,
    n_head: Any,
    d_key: Any,
    vocab: Any,
    gated: bool = False,
    tied: bool = False,
) -> Any:
    """N = v V d + n_layer (4 d h k + m d f + 2 d) + d, v = 1 if tied else 2, m = 3 if gated else 2

    Weights of attention and feed-forward layers, scales of the norms, embedding and head; no
    biases and no table of positions.

    Args:
        n_layer, d_model, d_ff: depth, width, feed-forward width.
        n_head, d_key: attention heads and size of each.
        vocab: vocabulary size V; 0 counts the parameters without embedding and head.
        gated: whether the feed-forward layer has a third matrix.
        tied: whether the head shares its weights with the embedding.
    """
    attention = 4 * d_model * n_head * d_key
    feed = (3 if gated else 2) * d_model * d_ff
    tables = (1 if tied else 2) * vocab * d_model
    return tables + n_layer * (attention + feed + 2 * d_model) + d_model
