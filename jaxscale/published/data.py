"""Published parameters of laws of limited and mixed data, distillation, vocabulary and shape."""

import math
from collections.abc import Iterator

from jaxscale import laws
from jaxscale.laws import data_constrained
from jaxscale.published._entry import (
    LOG_HUBER,
    READ,
    REFITTED,
    TOTAL,
    Published,
    entry,
    from_logs,
)


def entries() -> Iterator[Published]:
    """All entries of this module."""
    for group in (_muennighoff, _kim, _goyal, _ye, _busbridge, _tao, _mcleish):
        yield from group()


def _muennighoff() -> Iterator[Published]:
    base = data_constrained.C4_BASE
    about = {
        "source": "Muennighoff et al. 2023, arXiv 2305.16264",
        "units": "N in parameters, D in tokens, loss in nats per token (C4)",
        "objective": LOG_HUBER,
    }
    code = "authors' notebook, parametric fit"
    isoflop = "54 points of equal compute without repeats, not released"
    yield entry(
        "muennighoff_2023_c4",
        laws.muennighoff,
        (*base.values(), 15.387756, 5.309743),
        table=code,
        rows="182 runs of up to 9000 epochs; base law from 54 others",
        evidence=REFITTED,
        note="R_D and R_N were fitted with the base law fixed; see muennighoff_2023_c4_repeats.",
        **about,
    )
    yield entry(
        "muennighoff_2023_c4_repeats",
        laws.muennighoff_repeats,
        (15.387756, 5.309743),
        table=code,
        rows="182 runs of up to 9000 epochs",
        evidence=REFITTED,
        note="The objective is nearly flat in R_D: a bootstrap of the runs gives 6 to infinity.",
        scored_on="182 runs of datablations.csv, sum of LogHuber(1e-3)",
        value=0.01582593526,
        better=(95.36517, 1.705905),
        better_value=0.01580466247,
        **about,
    )
    yield entry(
        "muennighoff_2023_c4_base",
        laws.chinchilla_tied,
        [base[name] for name in ("E", "A", "B", "alpha")],
        table=code,
        rows=isoflop,
        evidence="read in the authors' code",
        **about,
    )
    yield entry(
        "muennighoff_2023_c4_untied",
        laws.chinchilla,
        from_logs(5.9577, 7.9145, 0.6303, 0.3348, 0.3829),
        table=code,
        rows=isoflop,
        evidence="read in the authors' code",
        **about,
    )
    yield entry(
        "muennighoff_2023_few_epochs",
        laws.chinchilla_tied,
        from_logs(6.4526, 8.0230, 0.63987, 0.35954),
        table=code,
        rows="62 runs of at most 2.5 epochs",
        evidence=REFITTED,
        scored_on="62 runs of datablations.csv, sum of LogHuber(1e-3)",
        value=0.00121894235,
        **about,
    )


def _kim() -> Iterator[Published]:
    for name, numbers, counts in (
        ("n", (3.43, 0.05, 1.02), "x = N in billions, best regularization for each"),
        ("k", (3.34, 0.25, 1.02), "x = K, members of an ensemble of 300M models"),
    ):
        yield entry(
            f"kim_2025_{name}",
            laws.power_law_offset,
            numbers,
            source="Kim et al. 2025, Pre-training under infinite compute, arXiv 2509.14786",
            table="fits at 200M tokens",
            units=f"{counts}; loss in nats per token",
            objective="not stated",
            rows="4 or 5 models on 200M tokens of DCLM",
            evidence=READ,
            note="Three parameters from four or five points. The joint limit of N and K is 3.17.",
        )


def _goyal() -> Iterator[Published]:
    pools = {
        "top_10": (0.16, 6.7272727272727275),
        "top_10_20": (0.125, 8.545454545454547),
        "top_20_30": (0.10, 5.2727272727272725),
        "top_30_40": (0.085, 2.2727272727272725),
        "top_40_sample": (0.12, 6.0),
    }
    for pool, (b, tau) in pools.items():
        yield entry(
            f"goyal_2024_imagenet_{pool}",
            laws.goyal_utility,
            (0.1, 1e5 / 0.025, b, tau),
            source="Goyal et al. 2024, arXiv 2404.07177",
            table="authors' code, parameter_values.jsonl",
            units="n = image-text pairs seen; the loss is the zero-shot error on ImageNet",
            objective="squared error, on a grid",
            rows=f"one pool of DataComp, T-MARS score, {pool.replace('_', ' ')} percent",
            evidence="read in the authors' code",
            note="Found with d added before the product over epochs, as the code has it: up to "
            "the first epoch the same, later the code's errors are lower by up to d.",
        )


def _ye() -> Iterator[Published]:
    # log c, log k, t, sum of the objective over the 26 mixtures.
    # fmt: off
    table = {
        "academic": (0.9750, -2.1391, (-10.0864, 2.7140, 2.7106, 2.6083, 1.5866), 0.01477559549),
        "prose": (1.2624, -2.1656, (1.3930, -4.6811, 0.7855, 1.8719, 0.5734), 0.00320707221),
        "dialogue": (1.1375, -7.1017, (6.7135, 6.2643, -31.8621, 6.6423, 6.2053), 0.01433493773),
        "symbolic": (0.4750, -3.6546, (3.3289, 3.6705, 3.1127, -16.4217, 3.1591), 0.0037133356),
        "internet": (1.2402, -1.9510, (1.1897, 0.8697, -0.5184, 1.7122, -3.0870), 0.00212332198),
    }
    # fmt: on
    own = "The loss on a domain after training on it alone is extrapolated, and hardly determined."
    for domain, (log_c, log_k, t, value) in table.items():
        yield entry(
            f"ye_2024_{domain}",
            laws.data_mixing_5,
            (math.exp(log_c), *(math.exp(log_k + t_j) for t_j in t)),
            source="Ye et al. 2024, arXiv 2403.16952",
            table="authors' notebook on five domains",
            units="shares of academic, prose, dialogue, symbolic, internet; loss in nats per token",
            objective="mean of Huber(0.05) on raw loss",
            rows="26 mixtures, 70M model, step 30,000",
            evidence=REFITTED,
            note=own,
            scored_on="26 mixtures of mixinglaws_5domain.csv, sum of Huber(0.05)",
            value=value,
        )


def _busbridge() -> Iterator[Published]:
    c_1, d_1, f_1 = 522.6, 1.315, 0.090
    w = c_1 * f_1 * d_1 ** (-1 / f_1)  # distillation.break_weight
    yield entry(
        "busbridge_2025_distillation",
        laws.busbridge_distillation,
        (2243, 24181, 0.321, 0.637, 0.764, 2.549, w, c_1, f_1),
        source="Busbridge et al. 2025, arXiv 2502.08606",
        table="Table 6, distillation law; w from c_1, d_1 = 1.315 and f_1",
        units="N as in their appendix H, D in tokens of C4, losses in nats per token; L_S from "
        "busbridge_2025",
        objective="LogHuber(1e-4)",
        rows="697 students",
        evidence=READ,
        note="Three digits of f_1 leave w open by a few percent. c_1 has an interval of no width: "
        "it is not determined.",
    )


def _tao() -> Iterator[Published]:
    alpha, alpha_2 = 0.446606, 0.670737
    yield entry(
        "tao_2024_vocabulary",
        laws.tao_vocabulary,
        (5.532785, 1.831385 * 1e6**alpha, 0.195842 * 1e6**alpha_2, 2.124112 * 1e9**alpha,
         alpha, alpha_2),
        source="Tao et al. 2024, arXiv 2407.13623",
        table="authors' code, approach 3; there N is in millions, N_v too, D in billions",
        units="N without vocabulary, N_v = vocabulary times width, D in tokens; the loss is less "
        "that of a unigram model",
        objective="sum of Huber(1e-3) on raw loss",
        rows="1,054 evaluations of 6 sizes and 10 vocabularies, 2.18e17 FLOPs or more",
        evidence=REFITTED,
        note="Their tokens are characters times f(V / 1000), a mistake for f(V): the coefficients "
        "belong to tokens so counted.",
        scored_on="1,054 rows of vocab_scaling.csv, tokens as theirs, sum of Huber(1e-3)",
        value=0.06229174562,
        better=(5.534942596918761, 859.1858236, 1829.393175, 21606.92315, 0.445317003, 0.66367136),
        better_value=0.06229135241,
    )  # fmt: skip
    vocabulary = "parameters of the vocabulary, its size times the width"
    for name, numbers, units, approach in (
        (
            "size_by_compute",
            (math.exp(-2.48465), 0.5),
            "x = training FLOPs; parameters without vocabulary",
            1,
        ),
        (
            "vocabulary_by_compute",
            (math.exp(-1.58903), 0.416362),
            f"x = training FLOPs; {vocabulary}",
            1,
        ),
        (
            "vocabulary_by_size",
            (3145728 * 33e6**-0.8353974, 0.8353974),
            f"x = parameters without vocabulary; {vocabulary}",
            2,
        ),
    ):
        yield entry(
            f"tao_2024_optimal_{name}",
            laws.scaling_rule,
            numbers,
            source="Tao et al. 2024, arXiv 2407.13623",
            table=f"authors' code, approach {approach}",
            units=units,
            objective="least squares in logs" if approach == 1 else "none: a derivative set to 0",
            rows="models of 33M to 1.1B parameters, vocabularies of 4k to 96k",
            evidence="read in the authors' code",
        )


def _mcleish() -> Iterator[Published]:
    # delta, runs; log E, log coefficients and exponents of width, depth, N, D; value; ours, value.
    # fmt: off
    table = {
        "cool_end": ("1e-3", "cool_end", 199, 0.5874913187,
            (1.5262220266, -0.1780173948, 6.3319550722, 11.5393125864),
            (0.3540096969, 0.464087269, 0.3941362557, 0.5364845902), 8.107425582e-4,
            (1.829084036, 4.606712053, 0.821208652, 494.3464142, 106029.057,
             0.3666478684, 0.4785736930, 0.3841136842, 0.5379365469), 8.106594418e-4),
        "cool_end_delta_1e_4": ("1e-4", "cool_end", 199, 0.4195179541,
            (1.6375654653, -0.0254911443, 7.8653383939, 9.9838221358),
            (0.30146699, 0.3655461733, 0.5055007692, 0.4670177667), 9.007417245e-5,
            (1.816152867, 4.657144090, 0.832153781, 590.3773279, 112038.807,
             0.3598867518, 0.4677281967, 0.3966132344, 0.5405050547), 8.927359852e-5),
        "hot_delta_1e_4": ("1e-4", "hot", 220, 0.39245797,
            (1.4520106404, -0.0781020281, 7.9700333376, 10.0594263846),
            (0.2446914313, 0.3871516764, 0.5000838843, 0.4761055541), 1.118779626e-4,
            (1.822545393, 3.653980678, 0.790120585, 650.0098291, 27461.65057,
             0.3070409557, 0.5071840586, 0.3928781267, 0.4830445388), 1.114037939e-4),
        "hot_long": ("1e-3", "hot_100b+", 770, 0.3966401522,
            (1.0738807871, -0.2097602665, 6.2174536361, 10.9040518165),
            (0.205280776, 0.4741415976, 0.372096494, 0.5116481093), 2.642767388e-3,
            (1.485755688, 2.924990880, 0.810774576, 500.7629419, 44359.45171,
             0.2053169861, 0.4747184778, 0.3719924933, 0.5030508217), 2.642729086e-3),
        "hot_long_delta_1e_4": ("1e-4", "hot_100b+", 770, 0.4282048563,
            (1.082043835, -0.2186969889, 6.0902355695, 10.4720427681),
            (0.2195783536, 0.4758917337, 0.3636454068, 0.4935127042), 2.949708106e-4,
            (1.514656734, 2.885613632, 0.806241990, 477.8703438, 97981.81506,
             0.2082113841, 0.4844095976, 0.3684062067, 0.5364535574), 2.948052760e-4),
    }
    # fmt: on
    for name, (delta, rows, n, e, logs, exponents, value, better, lower) in table.items():
        yield entry(
            f"mcleish_2025_shape_{name}",
            laws.gemstones,
            (math.exp(e), *map(math.exp, logs), *exponents),
            source="McLeish et al. 2025 (Gemstones), arXiv 2502.06857",
            table=f"authors' repository, parameters_delta{delta[-2:]}, width, depth, parameters",
            units=TOTAL,
            objective=f"sum of LogHuber({delta})",
            rows=f"{n} runs, {rows}",
            evidence=REFITTED,
            note="The terms in width, depth and N trade places along a flat ridge.",
            scored_on=f"{n} runs {rows} of gemstones.csv, sum of LogHuber({delta})",
            value=value,
            better=better,
            better_value=lower,
        )
    yield entry(
        "mcleish_2025_shape_only_hot_long",
        laws.gemstones_shape,
        (0.0, *map(math.exp, (2.1144598737, 0.7307645279, 11.2841184982)),
         0.2606504897, 0.1416453973, 0.530963438),
        source="McLeish et al. 2025 (Gemstones), arXiv 2502.06857",
        table="authors' repository, parameters_delta-3, width, depth",
        units="D in tokens, loss in nats per token",
        objective=LOG_HUBER,
        rows="770 runs, hot_100b+",
        evidence=REFITTED,
        note="The floor is at its bound: their log E is -4555. The form cannot extrapolate.",
        scored_on="770 runs hot_100b+ of gemstones.csv, sum of LogHuber(1e-3)",
        value=3.878217399e-3,
    )  # fmt: skip
