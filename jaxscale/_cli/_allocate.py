"""jaxscale allocate: what to train on a budget, for a loss, or for use."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxscale._cli._common import (
    check_file,
    numbers,
    pairs,
    print_notes,
    print_sizes,
    print_table,
)
from jaxscale._errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_BUDGET, _LIMITS, _MONEY = "What is asked for", "Conditions", "Hardware and money"

SourceName = Annotated[
    str,
    typer.Argument(
        metavar="FIT",
        help="A saved fit, the draws.json of a bootstrap, or a name of published parameters.",
    ),
]
Flop = Annotated[
    str | None, typer.Option(help="Budgets in FLOPs: 1e21,1e23", rich_help_panel=_BUDGET)
]
Loss = Annotated[
    str | None,
    typer.Option(
        help="Losses to reach, as cheaply as can be; instead of --flop.", rich_help_panel=_BUDGET
    ),
]
QualityOf = Annotated[
    str | None,
    typer.Option(
        help="Parameters of compute-optimal models whose loss is to be reached, with "
        "--inference-tokens.",
        rich_help_panel=_BUDGET,
    ),
]
InferenceTokens = Annotated[
    str | None,
    typer.Option(
        help="Tokens in use: minimize training and use together (2 N FLOPs for each) for a --loss "
        "or a --quality-of.",
        rich_help_panel=_BUDGET,
    ),
]
RegretFactor = Annotated[
    float | None,
    typer.Option(
        "--regret",
        metavar="K",
        help="Show the loss that sizes K times too large and too small lose.",
        rich_help_panel=_BUDGET,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        help="Another input, held: U=25B unique tokens, E=8, or the name of another, P_w=P.",
        rich_help_panel=_LIMITS,
    ),
]
Choose = Annotated[
    list[str] | None,
    typer.Option(
        "--choose",
        metavar="NAME=VALUES",
        help="Another input, the best of these values: P=4,8,16",
        rich_help_panel=_LIMITS,
    ),
]
Cost = Annotated[
    str,
    typer.Option(
        help="FLOPs of training: 6nd; bits (in proportion to P bits, 6/16 N D P); or experts "
        "(fine-grained mixtures of granularity G, with their router).",
        rich_help_panel=_LIMITS,
    ),
]
NMax = Annotated[
    str | None, typer.Option("--N-max", help="Most parameters.", rich_help_panel=_LIMITS)
]
NMin = Annotated[
    str | None, typer.Option("--N-min", help="Least parameters.", rich_help_panel=_LIMITS)
]
DMax = Annotated[str | None, typer.Option("--D-max", help="Most tokens.", rich_help_panel=_LIMITS)]
GpuFlops = Annotated[
    str | None,
    typer.Option(
        help="Peak FLOPs per second of one device, for hours of devices.", rich_help_panel=_MONEY
    ),
]
Utilization = Annotated[
    float, typer.Option(help="Share of the peak that is reached.", rich_help_panel=_MONEY)
]
PerHour = Annotated[
    float | None, typer.Option("--price", help="Price of a device-hour.", rich_help_panel=_MONEY)
]
Level = Annotated[float, typer.Option(help="Content of the bands, if FIT holds draws.")]
Force = Annotated[
    bool, typer.Option("--force", help="Answer even if the fit is in doubt, and say so.")
]
OutFile = Annotated[Path | None, typer.Option(help="CSV file for the table.")]


def allocate(
    fit_file: SourceName,
    flop: Flop = None,
    loss: Loss = None,
    quality_of: QualityOf = None,
    inference_tokens: InferenceTokens = None,
    regret: RegretFactor = None,
    inputs: Inputs = None,
    choose: Choose = None,
    cost: Cost = "6nd",
    N_max: NMax = None,
    N_min: NMin = None,
    D_max: DMax = None,
    gpu_flops: GpuFlops = None,
    utilization: Utilization = 0.4,
    price: PerHour = None,
    level: Level = 0.9,
    force: Force = False,
    out: OutFile = None,
) -> None:
    """What to train: parameters and tokens for a budget, a loss, or a life in use.

    jaxscale allocate fit.json --flop 1e21,1e23

    jaxscale allocate fit.json --flop 1e24 --N-max 8B --regret 2

    jaxscale allocate draws.json --loss 2.0 --gpu-flops 1e15 --utilization 0.4 --price 2

    jaxscale allocate besiroglu_2024 --quality-of 13B --inference-tokens 2T

    jaxscale allocate muennighoff_2023_c4 --flop 1e22 --input U=25B
    """
    from jaxscale._save import write_text

    if out is not None:
        check_file(out)
    how: dict[str, Any] = {
        "cost": _cost(cost),
        "fixed": {name: _value(name, text) for name, text in pairs(inputs).items()},
        "choose": {name: numbers(x, f"--choose {name}") for name, x in pairs(choose).items()},
        "limits": _limits(("N", N_max, True), ("N", N_min, False), ("D", D_max, True)),
        "level": level,
        "force": force,
    }
    asked = _asked(flop, loss, quality_of, inference_tokens)
    source = _source(fit_file)
    found, title, key, spent = _answer(source, asked, how)
    table = found.frame()
    if regret is not None:
        if key != "flop" or how["limits"] or how["choose"]:
            raise DataError("--regret goes with --flop, without limits and without --choose")
        _add_regret(table, source, regret, how)
    if gpu_flops is not None:
        _add_price(table, spent(found), gpu_flops, utilization, price)
    elif price is not None:
        raise DataError("--price needs the speed of the device: --gpu-flops")
    if out is not None:
        write_text(out, table.to_csv(index=False))
    table = table.rename(columns={"tokens_per_parameter": "D/N"})
    money = [c for c in ("device_hours", "money") if c in table]
    apart = ["training", "inference", "reference_N", "reference_D", "saving"]
    apart = [c for c in apart if c in table] + money
    print_sizes(table.drop(columns=apart), title, found.level, key)
    if apart:  # a table that fits a terminal
        print_table(table[[key, *apart]], "\nWhat it costs")
    if found.options is not None:
        print_table(found.options, "\nWhat there was to choose from")
    print_notes(found.notes)


def _source(name: str) -> Any:
    from jaxscale import published
    from jaxscale._save import load

    if not Path(name).exists() and name in published.names():
        return published.get(name)
    return load(name)


def _cost(name: str) -> Callable[..., Any]:
    from jaxscale import flops
    from jaxscale.laws.moe import krajewski_flop

    known: dict[str, Callable[..., Any]] = {
        "6nd": flops.six_nd,
        "bits": flops.at_bits,
        "experts": krajewski_flop,
    }
    if name not in known:
        raise DataError(f"--cost must be one of {', '.join(known)}, not {name!r}")
    return known[name]


def _value(name: str, text: str) -> Any:
    """A number, or the name of another input."""
    if text.isidentifier() and not text[-1:].isdigit():
        return text
    values = numbers(text, f"--input {name}")
    if len(values) > 1:
        raise DataError(f"--input {name}: give one number; several to choose from go to --choose")
    return values[0]


def _limits(*given: tuple[str, str | None, bool]) -> tuple[Any, ...]:
    from jaxscale._limit import at_least, at_most

    found = []
    for name, text, upper in given:
        if text is not None:
            option = f"--{name}-{'max' if upper else 'min'}"
            bound = numbers(text, option)
            if len(bound) > 1:
                raise DataError(f"{option}: give one number")
            found.append((at_most if upper else at_least)(name, bound[0]))
    return tuple(found)


def _asked(
    flop: str | None, loss: str | None, quality_of: str | None, tokens: str | None
) -> dict[str, list[float]]:
    """The numbers that were asked for, by name, of those that go together."""
    given = {"flop": flop, "loss": loss, "quality_of": quality_of}
    if sum(x is not None for x in given.values()) != 1:
        raise DataError("give one of --flop, --loss and --quality-of")
    if quality_of is not None and tokens is None:
        raise DataError("--quality-of needs --inference-tokens")
    if flop is not None and tokens is not None:
        raise DataError("--inference-tokens needs the quality to reach: --loss or --quality-of")
    named = {
        name: numbers(x, f"--{name.replace('_', '-')}")
        for name, x in given.items()
        if x is not None
    }
    if tokens is not None:
        (goals,) = named.values()
        named["tokens"] = used = numbers(tokens, "--inference-tokens")
        if len(goals) != len(used) and 1 not in (len(goals), len(used)):
            raise DataError(
                f"--inference-tokens: {len(used)} numbers do not go with {len(goals)} losses"
            )
    return named


def _answer(
    source: Any, asked: Mapping[str, Any], how: dict[str, Any]
) -> tuple[Any, str, str, Callable[[Any], Any]]:
    """The answer, a title, the column that rows are about, and the FLOPs that it costs."""
    from jaxscale._allocate import allocate
    from jaxscale._budget import budget_for
    from jaxscale._serve import serve

    if "tokens" in asked:
        served = serve(source, **asked, **how)
        return served, "Cheapest to train and use", "tokens", lambda x: x.flop
    if "loss" in asked:
        cheapest = budget_for(source, **asked, **how)
        return cheapest, "Smallest budgets", "loss", lambda x: x.flop
    best = allocate(source, **asked, **how)
    return best, "Compute-optimal sizes", "flop", lambda x: x.flop


def _add_regret(table: "pd.DataFrame", source: Any, factor: float, how: dict[str, Any]) -> None:
    import numpy as np

    from jaxscale._regret import regret

    named = {name: how[name] for name in ("cost", "fixed", "level", "force")}
    found = regret(source, flop=table["flop"].to_numpy(), factor=[factor, 1 / factor], **named)
    lost = found.regret if found.expected is None else found.expected
    what = "lost" if found.expected is None else "expected_loss"
    place = table.columns.get_loc("loss") + 1
    for i, word in ((1, f"N/{factor:g}"), (0, f"{factor:g}N")):
        table.insert(place, f"{what}_at_{word}", np.asarray(lost[i]))


def _add_price(
    table: "pd.DataFrame", flop: Any, gpu_flops: str, utilization: float, per_hour: float | None
) -> None:
    import numpy as np

    from jaxscale._price import price

    speed = numbers(gpu_flops, "--gpu-flops")
    if len(speed) > 1:
        raise DataError("--gpu-flops: give one number")
    found = price(
        np.ravel(np.asarray(flop)),
        device_flops=speed[0],
        utilization=utilization,
        price_per_hour=per_hour,
    )
    table["device_hours"] = found.device_hours
    if found.money is not None:
        table["money"] = found.money
