"""Published parameters of Kaplan's batch laws, over-training, transfer, vision, single curves."""

from collections.abc import Iterator

from jaxscale import laws
from jaxscale.published._entry import READ, REFITTED, Published, entry


def entries() -> Iterator[Published]:
    """All entries of this module."""
    for group in (
        _kaplan,
        _kaplan_allocation,
        _pearce,
        _gadre,
        _hernandez,
        _cherti,
        _yao_time_series,
        _yao_nanolm,
    ):
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


def _kaplan_allocation() -> Iterator[Published]:
    # fmt: off
    for name, numbers, counts in (
        ("size", (1.3e9, 0.73), "parameters without embeddings"),
        ("batch", (2.0e6, 0.24), "batch in tokens"),
        ("steps", (5.4e3, 0.03), "least steps S_min"),
        ("tokens", (2e10, 0.27), "training tokens, one epoch"),
    ):
        # fmt: on
        yield entry(
            f"kaplan_2020_optimal_{name}",
            laws.scaling_rule,
            numbers,
            source="Kaplan et al. 2020, arXiv 2001.08361",
            table="Table 6",
            units=f"x = C_min in PF-days, without embeddings; {counts}",
            objective="fits in log-log",
            rows="models of 768 to 1.5e9 parameters",
            evidence=READ,
            note="Equation 6.7 has 4e10 C_min^0.26 tokens: twice as many, for a run at the "
            "critical batch." if name == "tokens" else "",
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
    # alpha, beta, p, E of the code's loss law; then guess, k, gamma of the error laws.
    table = {
        "c4": (
            (113.69, 189.52, -0.24247, 1.5083),
            {17: (0.8497, 2.079, 0.7561), 46: (0.7589, 1.289, 0.9722)},
        ),
        "rpj": (
            (166.21, 366.69, -0.27285, 1.8366),
            {17: (0.8570, 2.206, 0.7146), 46: (0.7608, 1.323, 0.8907)},
        ),
        "rw": (
            (125.10, 246.21, -0.25439, 1.7345),
            {17: (0.8653, 2.215, 0.7070), 46: (0.7677, 1.128, 0.8215)},
        ),
    }
    about = {
        "source": "Gadre et al. 2024, arXiv 2403.08540",
        "table": "authors' notebook",
        "evidence": REFITTED,
    }
    for data, ((alpha, beta, p, E), errors) in table.items():
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
        for tasks, error in errors.items():
            yield entry(
                f"gadre_2024_{data}_error" + ("" if tasks == 17 else f"_{tasks}_tasks"),
                laws.gadre_error,
                error,
                units=f"L in nats per token on C4; top-1 error, mean of {tasks} tasks",
                objective="least squares of raw errors",
                rows=f"6 models trained on {data}: those of the loss law, and 1.4B at M = 20",
                **about,
            )


def _hernandez() -> Iterator[Published]:
    for name, numbers, data in (
        ("text", (1.9e4, 0.18, 0.38), "text"),
        ("text_and_code", (2.1e5, 0.096, 0.38), "half text, half code"),
    ):
        yield entry(
            f"hernandez_2021_{name}_to_python",
            laws.transferred_data,
            numbers,
            source="Hernandez et al. 2021, arXiv 2102.01293",
            table=f"transfer from {data} to Python",
            units="D_F and the result in characters, N without embeddings",
            objective="fit of the logit of D_T / (D_F + D_T)",
            rows="models fine-tuned on little data, D_F up to a tenth of what they could use",
            evidence=READ,
            note="Beyond little data the law overstates what is transferred.",
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
