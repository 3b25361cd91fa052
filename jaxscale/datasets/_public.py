"""Where the public tables lie, what their owners say, and what their columns count."""

from jaxscale.datasets._source import Source

_GITHUB = "https://raw.githubusercontent.com"
_NONE_STATED = "none stated: for your own use, not to be passed on"

CHINCHILLA = Source(
    name="chinchilla",
    file="svg_extracted_data.csv",
    url=f"{_GITHUB}/epoch-research/analyzing-chinchilla/"
    "92258837425e1b5f2851d624287f0120583a3d0e/data/svg_extracted_data.csv",
    sha256="193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30",
    license=_NONE_STATED,
    citation="Besiroglu et al. 2024, arXiv 2404.10102, read off Figure 4 of Hoffmann et al. 2022, "
    "arXiv 2203.15556",
    rows=245,
    units={"params": "parameters", "tokens": "tokens", "flops": "FLOP", "loss": "nats per token"},
)
CLARK_ROUTED = Source(
    name="clark_routed",
    file="curves.csv.gz",
    url=f"{_GITHUB}/google-deepmind/scaling_laws_for_routing/"
    "42da0c392b127df2c01fa7b705f72396050d05e5/data/curves.csv.gz",
    sha256="c03e7531add85e594f368d33bac4a0220280be858a7ed12d147cf73af6a3819f",
    license="CC-BY 4.0",
    citation="Clark et al. 2022, arXiv 2202.01169",
    rows=223,
    units={
        "hyper_id": "run",
        "step": "optimizer steps",
        **{
            f"loss_{text}": "nats per token"
            for text in (
                "c4", "curation_corpus", "lambada", "pile", "validation", "wikitext103",
            )
        },
        "num_experts": "experts per routed layer",
        "d_model": "width",
        "num_blocks": "layers",
        "num_heads": "heads",
        "kqv_size": "width of a head",
        "flop_increase": "ratio to k = 1",
        "k": "experts per token",
        "router_type": "name",
        "seed": "number",
        "routing_frequency": "share of the layers",
        "total_parameter_count": "parameters, all experts",
        "dense_parameter_count": "parameters of the dense model",
        "flops_per_step": "FLOP",
        "model_size_label": "name",
    },
)  # fmt: skip
STEP_LAW_DENSE = Source(
    name="step_law_dense",
    file="dense_lr_bs_loss.csv",
    url=f"{_GITHUB}/step-law/steplaw/"
    "32a8f4cc50247695fb56cc6c9117abdf67c97763/data/dense_lr_bs_loss.csv",
    sha256="9e46181076c04d450294d75dfe6f72adc416e231e154a07b337e378f9410002c",
    license=_NONE_STATED,
    citation="Li et al. 2025, arXiv 2503.04715",
    rows=1911,
    units={
        "params_nonembedding": "parameters",
        "tokens": "tokens",
        "lr": "peak learning rate",
        "batch_seqs": "sequences of 2048 tokens",
        "batch_tokens": "tokens",
        "steps": "optimizer steps",
        "loss": "nats per token, of the last step",
        "smooth_loss": "nats per token, smoothed over steps",
        "d_model": "width",
        "d_ff": "width",
        "n_heads": "heads",
        "n_layers": "layers",
    },
)
STEP_LAW_MOE = Source(
    name="step_law_moe",
    file="moe_lr_bs_loss.csv",
    url=f"{_GITHUB}/step-law/steplaw/"
    "32a8f4cc50247695fb56cc6c9117abdf67c97763/data/moe_lr_bs_loss.csv",
    sha256="653d585244a7b227423007e8b796bc16d76f6d24eb87b1919b8f048a91897b92",
    license=_NONE_STATED,
    citation="Li et al. 2025, arXiv 2503.04715",
    rows=708,
    units={
        "moe_config": "name: active in all experts",
        "params_total": "parameters",
        "params_active": "parameters",
        "experts_total": "experts",
        "experts_active": "experts per token",
        "tokens": "tokens",
        "lr": "peak learning rate",
        "batch_seqs": "sequences of 2048 tokens",
        "batch_tokens": "tokens",
        "steps": "optimizer steps",
        "loss": "nats per token, of the last step",
        "smooth_loss": "nats per token, smoothed over steps",
    },
)
OPENCLIP = Source(
    name="openclip",
    file="zeroshot_results.csv",
    url=f"{_GITHUB}/LAION-AI/scaling-laws-openclip/"
    "652b1e7471f7ccf372277f67cb680de5c9fa139d/zeroshot_results.csv",
    sha256="a04786cfcde5d47436c8ddbca0f0bdbb39cc584c0d0776b4f99145ae430a6568",
    license=_NONE_STATED,
    citation="Cherti et al. 2022, arXiv 2212.07143",
    rows=192,
    units={
        "arch": "name",
        "upstream_dataset": "name",
        "samples_seen": "image-text pairs",
        "samples_seen_pretty": "image-text pairs",
        "gmacs_per_sample": "GMAC",
        "gmacs_total": "GMAC",
        "downstream_dataset": "name",
        "acc1": "share",
        "acc5": "share",
        "image_retrieval_recall@5": "share",
        "text_retrieval_recall@5": "share",
        "name": "name of the checkpoint",
    },
)
MISFITTING = Source(
    name="misfitting",
    file="scaling_results_last_ckpt_only.csv",
    url=f"{_GITHUB}/hadasah/scaling_laws/"
    "1f3708c0a12df0effb0ee906b1da5f9f0ff4f4f1/data/scaling_results_last_ckpt_only.csv",
    sha256="cd96b9eb8e5b2adc80e6739a642dd8554590edc96234d36859ab6ed0f5c30562",
    license=_NONE_STATED,
    citation="Li et al. 2025, (Mis)Fitting, arXiv 2502.18969",
    rows=261,
    units={
        "model": "name",
        "params": "parameters, with embeddings",
        "params_nonembedding": "parameters",
        "tokens": "tokens",
        "flops": "FLOP, 6 params tokens",
        "peak_lr": "peak learning rate",
        "total_steps": "optimizer steps",
        "loss": "nats per token on C4",
    },
)

PUBLIC = (CHINCHILLA, CLARK_ROUTED, STEP_LAW_DENSE, STEP_LAW_MOE, OPENCLIP, MISFITTING)
