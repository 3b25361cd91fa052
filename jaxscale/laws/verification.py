"""Resampling until a verifier accepts: what imperfect verifiers and majorities can reach.

Tasks come in types: a share of all tasks, with one success rate per attempt. Arrays over types
have the types on their last axis.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxscale._errors import LawError


def attempt_outcomes(correct: Any, *, completeness: Any, soundness: Any) -> tuple[Any, Any, Any]:
    """c r, (1 - r)(1 - s), (1 - c) r + s (1 - r): accepted right, accepted wrong, rejected

    Args:
        correct: r, the chance that one attempt is correct.
        completeness: c = P(accepted | correct).
        soundness: s = P(rejected | wrong).

    Returns:
        Three probabilities that add up to 1, of the broadcast shape.

    Source: Stroebl et al. 2024, arXiv 2411.17501, authors' notebook.
    """
    correct = jnp.asarray(correct, float)
    right = completeness * correct
    wrong = (1 - correct) * (1 - soundness)
    return right, wrong, 1 - right - wrong


def _tries(K: Any, rejected: Any) -> Any:
    """1 + b + ... + b^(K-1): expected number of attempts; K on leading axes, types on the last."""
    K = jnp.asarray(K, float)[..., None]
    endless = rejected >= 1
    b = jnp.where(endless, 0.5, rejected)
    return jnp.where(endless, K, (1 - b**K) / (1 - b))


def accepted(K: Any, *, share: Any, correct: Any, completeness: Any, soundness: Any) -> Any:
    """sum_t p_t (c r_t + (1 - r_t)(1 - s)) (1 - b_t^K) / (1 - b_t): answered within K attempts

    Arguments and shapes as in `accepted_correct`.

    Source: Stroebl et al. 2024, arXiv 2411.17501.
    """
    right, wrong, b = attempt_outcomes(correct, completeness=completeness, soundness=soundness)
    return (jnp.asarray(share) * (right + wrong) * _tries(K, b)).sum(-1)


def accepted_correct(K: Any, *, share: Any, correct: Any, completeness: Any, soundness: Any) -> Any:
    """sum_t p_t c r_t (1 - b_t^K) / (1 - b_t): answered correctly within K attempts

    Bounded below 1 for any K when soundness < 1: see `accuracy_ceiling`.

    Args:
        K: attempts allowed, any shape.
        share: p_t, share of the tasks of each type, shape (types,).
        correct: r_t, success rate of one attempt, shape (types,).
        completeness, soundness: of the verifier.

    Source: Stroebl et al. 2024, arXiv 2411.17501.
    """
    right, _, b = attempt_outcomes(correct, completeness=completeness, soundness=soundness)
    return (jnp.asarray(share) * right * _tries(K, b)).sum(-1)


def accuracy_ceiling(*, share: Any, correct: Any, completeness: Any, soundness: Any) -> Any:
    """sum_t p_t c r_t / (1 - b_t): accuracy with attempts without end

    Every task is accepted in the end, unless nothing of its type ever is. Arguments as in
    `accepted_correct`. Test vector: r = (.87, .13), p = (.58, .42), c = 1, s = .75 give 0.71624.

    Source: Stroebl et al. 2024, arXiv 2411.17501.
    """
    right, wrong, _ = attempt_outcomes(correct, completeness=completeness, soundness=soundness)
    ever = right + wrong > 0
    correctly = jnp.where(ever, right / jnp.where(ever, right + wrong, 1.0), 0.0)
    return (jnp.asarray(share) * correctly).sum(-1)


def precision(K: Any, *, share: Any, correct: Any, completeness: Any, soundness: Any) -> Any:
    """P(correct | accepted within K attempts)

    Falls with K: hard tasks are answered late, and more often wrongly. Arguments as in
    `accepted_correct`. Test vector, as for the ceiling: K = 1 gives 0.83537, K = 5 gives 0.73412.

    Source: Stroebl et al. 2024, arXiv 2411.17501.
    """
    about = {"share": share, "correct": correct}
    about |= {"completeness": completeness, "soundness": soundness}
    return accepted_correct(K, **about) / accepted(K, **about)


def reward(
    K: Any,
    *,
    share: Any,
    correct: Any,
    completeness: Any,
    soundness: Any,
    right: Any = 1.0,
    wrong: Any = -1.0,
    cost: Any = 0.0,
) -> Any:
    """R(K) = sum_t p_t (1 + b_t + ... + b_t^(K-1)) (c r_t V_right + (1-r_t)(1-s) V_wrong - cost)

    Expected payoff of at most K attempts, each made only if all before it were rejected. The types
    are weighted by their prior shares; the authors' notebook uses posterior ones.

    Args:
        K: attempts allowed, any shape.
        share, correct: per type, shape (types,).
        completeness, soundness: of the verifier.
        right, wrong: payoff of a correct and of a wrong accepted answer.
        cost: of one attempt.

    Source: Stroebl et al. 2024, arXiv 2411.17501. Test vector, as for the ceiling and with
    wrong = -0.7: R(3) = 0.5246.
    """
    good, bad, b = attempt_outcomes(correct, completeness=completeness, soundness=soundness)
    per_attempt = jnp.asarray(share) * (good * right + bad * wrong - cost)
    return (per_attempt * _tries(K, b)).sum(-1)


def best_attempts(limit: int = 1000, **about: Any) -> tuple[int, float]:
    """K* = argmax R(K) over K = 0 ... limit, and R(K*); 0 attempts pay 0

    Args:
        limit: largest number of attempts looked at.
        **about: everything that `reward` takes but K.

    Raises:
        LawError: if `limit` is below 1.

    Source: Stroebl et al. 2024, arXiv 2411.17501.
    """
    if limit < 1:
        raise LawError(f"look at one attempt or more, got limit={limit}")
    payoff = np.asarray(reward(np.arange(limit + 1), **about))
    best = int(np.argmax(payoff))
    return best, float(payoff[best])


# Majorities with a reward model.


def majority_share(coverage: Any) -> Any:
    """3 / (4 C*): answers rarer than that are dropped before the reward model chooses

    Args:
        coverage: C*, which is 1 / P(correct answer) under the model if there is just one.

    Source: Di et al. 2025, arXiv 2510.03199, Best-of-Majority, seen through a note on the paper.
    """
    return 3 / (4 * jnp.asarray(coverage, float))


def majority_samples(coverage: Any, *, kept: Any, reward_error: Any) -> Any:
    """N = 16 C* log(k C* / eps^2): samples beyond which sampling error is no issue any more

    Args:
        coverage: C*, see `majority_share`.
        kept: k, answers submitted.
        reward_error: eps, root mean square error of the reward model.

    Source: Di et al. 2025, arXiv 2510.03199, seen through a note on the paper.
    """
    return 16 * coverage * jnp.log(kept * coverage / reward_error**2)


def best_of_majority(counts: Any, rewards: Any, *, kept: int, share: float) -> np.ndarray:
    """Positions of the `kept` answers of highest reward among those of frequency >= share

    Monotone in the number of samples, unlike best-of-N, which ends at the answer that fools the
    reward model. Fewer than `kept` come back if fewer are frequent enough.

    Args:
        counts: how often each distinct answer was sampled, shape (answers,).
        rewards: estimated reward of each, shape (answers,).
        kept: k, answers to submit.
        share: least frequency, such as `majority_share`.

    Source: Di et al. 2025, arXiv 2510.03199, seen through a note on the paper.
    """
    counts, rewards = np.asarray(counts, float), np.asarray(rewards, float)
    frequent = np.flatnonzero(counts >= share * counts.sum())
    return frequent[np.argsort(-rewards[frequent], kind="stable")][:kept]
