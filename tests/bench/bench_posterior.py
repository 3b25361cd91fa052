"""Effective draws per second, beside the same posterior written plainly in NumPyro.

The 240 Chinchilla rows, Student-t noise with inferred degrees of freedom, float64, 4 chains of 500
warmup steps and 1,000 draws side by side. The plain models have the same priors and noise, and
NumPyro's defaults: once in reference units, once in the log of A and B as the papers print them.
Effective draws: the least bulk size over the parameters, ArviZ.

    python tests/bench/bench_posterior.py [--write]

`--write` replaces this part of tests/bench/RESULTS.md.
"""

import argparse
import time
from typing import Any

import arviz_base
import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from common import LAW, load, machine, write_part
from numpyro.infer import MCMC, NUTS

import jaxscale as js
from jaxscale import bayes

CHAINS, WARMUP, DRAWS = 4, 500, 1000
Score = dict[str, Any]


def plain(fit: js.Fit, reference: bool) -> Any:
    """The model as a researcher would write it, with the priors of `bayes.model`."""
    runs = fit.runs
    assert runs is not None
    refs = {name: float(x) for name, x in fit.log_refs.items()}
    N, D = (jnp.asarray(runs.inputs[name]) for name in ("N", "D"))
    log_loss = jnp.log(jnp.asarray(runs.loss))
    priors = {name: bayes.prior(param) for name, param in LAW.params}
    scale_prior = bayes.model(fit, likelihood=bayes.StudentT()).table.priors["scale"]

    def model() -> None:
        alpha = numpyro.sample("alpha", priors["alpha"])
        beta = numpyro.sample("beta", priors["beta"])
        offset = {
            "E": refs["loss"],
            "A": refs["loss"] + alpha * refs["N"],
            "B": refs["loss"] + beta * refs["D"],
        }
        log = {}
        for name in ("E", "A", "B"):
            if reference:
                log[name] = numpyro.sample(name, priors[name]) + offset[name]
            else:
                flat = dist.ImproperUniform(dist.constraints.real, (), ())
                log[name] = numpyro.sample(name, flat)
                numpyro.factor(f"prior_{name}", priors[name].log_prob(log[name] - offset[name]))
        df = numpyro.sample("df", dist.Gamma(2.0, 0.1))
        scale = numpyro.sample("scale", scale_prior)
        law = jnp.exp(log["E"]) + jnp.exp(log["A"] - alpha * jnp.log(N))
        law += jnp.exp(log["B"] - beta * jnp.log(D))
        numpyro.sample("runs", dist.StudentT(df, jnp.log(law), scale), obs=log_loss)

    return model


def score(name: str, cold: float, warm: float, draws: dict[str, Any], stats: Any) -> Score:
    data = arviz_base.from_dict({"posterior": {k: np.asarray(v) for k, v in draws.items()}})
    ess = min(float(x) for x in arviz_stats.ess(data, method="bulk").data_vars.values())
    rhat = max(float(x) for x in arviz_stats.rhat(data).data_vars.values())
    return {
        "method": name,
        "cold": cold,
        "warm": warm,
        "ess": ess,
        "rate": ess / warm,
        "rhat": rhat,
        "steps": float(np.mean(stats["num_steps"])),
        "divergent": int(np.sum(stats["diverging"])),
        "alpha": float(np.mean(draws["alpha"])),
    }


def ours(fit: js.Fit) -> Score:
    def once(seed: int) -> tuple[float, bayes.Posterior]:
        begin = time.perf_counter()
        post = bayes.sample(
            fit,
            likelihood=bayes.StudentT(),
            key=jax.random.key(seed),
            draws=DRAWS,
            warmup=WARMUP,
            chains=CHAINS,
            show_progress=False,
        )
        return time.perf_counter() - begin, post

    cold, _ = once(0)
    warm, post = min((once(seed) for seed in (1, 2, 3)), key=lambda found: found[0])
    data = post.data["posterior"]
    draws = {name: data[name].values for name in (*LAW.names, "df", "scale")}
    return score("jaxscale", cold, warm, draws, post.stats)


def theirs(name: str, model: Any) -> Score:
    mcmc = MCMC(
        NUTS(model),
        num_warmup=WARMUP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method="vectorized",
        progress_bar=False,
    )

    def once(seed: int) -> float:
        begin = time.perf_counter()
        mcmc.run(jax.random.key(seed), extra_fields=("num_steps", "diverging"))
        jax.block_until_ready(mcmc.get_samples())
        return time.perf_counter() - begin

    cold, warm = once(0), once(1)
    stats = mcmc.get_extra_fields(group_by_chain=True)
    return score(name, cold, warm, mcmc.get_samples(group_by_chain=True), stats)


def table(scores: list[Score]) -> str:
    lines = [
        "| method | cold, s | warm, s | effective draws | effective draws / s | relative | R-hat | "
        "leapfrog steps per draw | divergent | mean of alpha |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    slowest = min(each["rate"] for each in scores)
    lines += [
        f"| {s['method']} | {s['cold']:.1f} | {s['warm']:.2f} | {s['ess']:,.0f} | "
        f"{s['rate']:,.0f} | {s['rate'] / slowest:.1f} | {s['rhat']:.3f} | {s['steps']:.0f} | "
        f"{s['divergent']} | {s['alpha']:.4f} |"
        for s in scores
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace this part of RESULTS.md")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    fit = js.fit(LAW, load(), restarts=256, key=jax.random.key(0))
    scores = [
        ours(fit),
        theirs("NumPyro, plain, reference units", plain(fit, True)),
        theirs("NumPyro, plain, log A and log B as printed", plain(fit, False)),
    ]
    text = (
        "Made by `python tests/bench/bench_posterior.py --write`. 4 chains x (500 + 1,000), "
        "Student-t noise; cold includes compilation, and for jaxscale the verdict.\n"
        f"Machine: {machine()}\n\n{table(scores)}"
    )
    print(text)
    if options.write:
        write_part("Posterior: the 240 Chinchilla rows, NUTS", text)


if __name__ == "__main__":
    main()
