"""Published parameters of Kaplan's batch laws, over-training, vision, and single curves."""

from collections.abc import Iterator

from jaxscale import laws
from jaxscale.published._entry import READ, REFITTED, Published, entry


def entries() -> Iterator[Published]:
    """All entries of this module."""
    for group in (_kaplan, _pearce, _gadre, _cherti, _yao_time_series, _yao_nanolm):
        yield from group()


def _kaplan() -> Iterator[Published]:
    about = {
        "source": "Kaplan et al. 2020, arXiv 2001.08361",
        "objective": "fits in log-log",
        "evidence": READ,
    }
    apart = "Joint constants of this law: never mix them with those of other fits."
    yield entry(
        "kaplan_2020_ns",
        laws.kaplan_ns,
        (6.5e13, 2.1e3, 0.077, 0.76),
        table="Table 3",
        units="N without embeddings, S in least steps, loss in nats per token (WebText2)",
        rows="learning curves after the warm-up",
        note=apart,
        **about,
    )
    yield entry(
        "kaplan_2020_critical_batch",
        laws.critical_batch,
        (2.1e8, 0.21),
        table="equation 1.4",
        units="L in nats per token, batch in tokens",
        rows="two sizes of model at several batches",
        note="The text rounds B_star to 2e8.",
        **about,
    )
    yield entry(
        "kaplan_2020_nbs",
        laws.kaplan_nbs,
        (6.5e13, 2.1e3, 2.1e8, 0.077, 0.76, 0.21),
        table="Table 3 and equation 1.4",
        units="N without embeddings, B in tokens, S in steps, loss in nats per token (WebText2)",
        rows="those of kaplan_2020_ns and kaplan_2020_critical_batch",
        note="Composed of two fits, as the paper does for its best use of compute.",
        **about,
    )


def _pearce() -> Iterator[Published]:
    yield entry(
        "pearce_2024",
        laws.chinchilla_nonembedding,
        (1.8172, 482.01, 2085.43, 0.3478, 0.3658, 47491.0),
        source="Pearce and Song 2024, arXiv 2406.12907",
        table="authors' code",
        units="N without embeddings, D in tokens, loss in nats per token",
        objective="none: besiroglu_2024 with an embedding of omega N^(1/3) parameters",
        rows="those of besiroglu_2024; omega from Chinchilla's architectures",
        evidence="read in the authors' code; slopes re-derived",
    )


def _gadre() -> Iterator[Published]:
    # alpha, beta, p, E of the code's loss law; then guess, k, gamma of the error law, 17 tasks.
    table = {
        "c4": ((113.69, 189.52, -0.24247, 1.5083), (0.8497, 2.079, 0.7561)),
        "rpj": ((166.21, 366.69, -0.27285, 1.8366), (0.8570, 2.206, 0.7146)),
        "rw": ((125.10, 246.21, -0.25439, 1.7345), (0.8653, 2.215, 0.7070)),
    }
    about = {
        "source": "Gadre et al. 2024, arXiv 2403.08540",
        "table": "authors' notebook",
        "evidence": REFITTED,
    }
    for data, ((alpha, beta, p, E), error) in table.items():
        eta = -p / 2  # overtraining.overtrain_params
        yield entry(
            f"gadre_2024_{data}",
            laws.gadre_overtrain,
            (E, alpha * 6**eta, beta, eta),
            units="C in FLOPs, M in tokens per parameter, loss in nats per token on C4",
            objective="least squares of raw losses",
            rows=f"5 models trained on {data}: four sizes at M = 20, the least also at M = 320",
            note="No run has M below 20, so its optimum in M is an extrapolation: not for use.",
            **about,
        )
        yield entry(
            f"gadre_2024_{data}_error",
            laws.gadre_error,
            error,
            units="L in nats per token on C4; top-1 error, mean of 17 tasks",
            objective="least squares of raw errors",
            rows=f"6 models trained on {data}: those of the loss law, and 1.4B at M = 20",
            **about,
        )


def _cherti() -> Iterator[Published]:
    # task: (A, exponent) on LAION, on WIT-400M.
    table = {
        "imagenet": ((5.86, 0.111), (23.18, 0.164)),
        "robustness": ((11.61, 0.126), (211.66, 0.238)),
        "coco": ((2.75, 0.079), (1.59, 0.051)),
        "flickr": ((15.51, 0.189), (2.21, 0.103)),
    }
    for task, fits in table.items():
        for data, numbers in zip(("laion", "wit"), fits, strict=True):
            yield entry(
                f"cherti_2022_{task}_{data}",
                laws.power_law,
                numbers,
                source="Cherti et al. 2022, arXiv 2212.07143",
                table="authors' notebook",
                units="x = compute in GMACs, per sample times samples; the loss is the error",
                objective="least squares in logs",
                rows="lowest error in each of 5 bins of log compute",
                evidence=REFITTED,
                note="Three models only." if data == "wit" else "",
            )


def _yao_time_series() -> Iterator[Published]:
    # model and test: (x0, alpha) in parameters, time points, PF-days.
    table = {
        "encoder": ((3.7e16, 0.029), (5.3e12, 0.094), (1.5e7, 0.024)),
        "encoder_lsf": ((1.4e31, 0.026), (9.6e30, 0.029), (3.9e26, 0.020)),
        "encoder_monash": ((6.7e36, 0.023), (1.0e39, 0.023), (2.8e29, 0.020)),
        "decoder": ((2.0e34, 0.015), (9.9e13, 0.090), (6.0e23, 0.014)),
        "decoder_lsf": ((2.9e47, 0.016), (1.1e44, 0.019), (1.9e33, 0.017)),
        "decoder_monash": ((1.5e48, 0.017), (4.4e31, 0.030), (1.4e47, 0.013)),
    }
    counts = {"n": "parameters", "d": "time points", "c": "PF-days"}
    for model, fits in table.items():
        for variable, (x0, alpha) in zip(counts, fits, strict=True):
            yield entry(
                f"yao_2024_{model}_{variable}",
                laws.power_law,
                (x0**alpha, alpha),
                source="Yao et al. 2024 (time series), arXiv 2410.12360",
                table="legends of the authors' figures",
                units=f"x = {counts[variable]}, loss: negative log-likelihood per packed token",
                objective="least squares in logs",
                rows="models of 872 to 1e9 parameters",
                evidence="read in the authors' repository",
                note="A log-density has an arbitrary zero, so its exponent depends on the unit.",
            )


def _yao_nanolm() -> Iterator[Published]:
    yield entry(
        "yao_2023_nanolm",
        laws.power_law_offset,
        (2.9233, 2.469, 0.4231),
        source="Yao and Wang 2023 (nanoLM), arXiv 2304.06875",
        table="authors' script",
        units="x = millions of parameters without embeddings, loss in nats per token",
        objective="least squares of raw losses",
        rows="7 models under maximal update parametrization",
        evidence=REFITTED,
    )
