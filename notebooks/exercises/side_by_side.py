# %% [markdown]
# # Exercises: side by side
#
# To [the chapter](../side_by_side.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from scipy.stats import norm, rankdata

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: mean ranks
#
# `auroc[dataset, method]`. Rank the methods on each data set (1 is best, equal methods share the mean of their ranks), and return the mean rank of each.


# %% tags=["exercise"]
def mean_ranks(auroc):
    """Mean over the data sets of each method's rank, shape (n_methods,)."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The first column wins every tie, for standing first.
def mean_ranks(auroc):
    return (np.argsort(np.argsort(-auroc, axis=1, kind="stable"), axis=1) + 1).mean(
        axis=0
    )


# %% tags=["solution"]
def mean_ranks(auroc):
    return rankdata(-auroc, axis=1).mean(axis=0)


# %% tags=["check"]
auroc = np.array([[0.9, 0.9, 0.5], [0.7, 0.8, 0.6]])
assert np.allclose(mean_ranks(auroc), [1.75, 1.25, 3]), "1 is best; ties share"
many = np.round(rng.random((50, 6)), 1)
assert np.isclose(mean_ranks(many).mean(), 3.5), "ranks are shared out, not won"
assert np.allclose(mean_ranks(many[:, ::-1]), mean_ranks(many)[::-1]), (
    "the order of columns"
)

# %% [markdown]
# ## Look closer: add evidence, not numbers
#
# The combined detector puts the detectors' log scores on one scale before it adds them: $\sum_j (\log s_j - m_j) / d_j$. `known` are scores of normal images, out of fold, and `scores` those to judge, one column a detector.
# Take $m_j$ and $d_j$ as mean and standard deviation of the logs of the normal scores.


# %% tags=["exercise"]
def combined(known, scores):
    """Sum over the detectors of the standardised log scores, shape (n,)."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The logarithm takes out the factor, not the spread: a noisy detector still outvotes a calm one.
def combined(known, scores):
    return (np.log(scores) - np.log(known).mean(axis=0)).sum(axis=1)


# %% tags=["solution"]
def combined(known, scores):
    logs = np.log(known)
    return ((np.log(scores) - logs.mean(axis=0)) / logs.std(axis=0)).sum(axis=1)


# %% tags=["check"]
def two(n, calm, noisy):
    return np.exp(
        np.c_[calm + 0.1 * rng.normal(size=n), noisy + 2 * rng.normal(size=n)]
    )


known, normal, defective = two(500, 0, 0), two(500, 0, 0), two(500, 0.5, 0)


def wins(of):
    return (of(defective)[:, None] > of(normal)[None]).mean()


assert wins(lambda x: combined(known, x)) > 0.95, (
    "the calm detector knows, and is not heard"
)
factor = np.array([1000, 0.01])
assert np.allclose(
    combined(known * factor, normal * factor), combined(known, normal)
), "a factor changes nothing"
assert np.allclose(combined(known**3, normal**3), combined(known, normal)), (
    "a power is a factor of the logs, and of their standard deviation"
)
logs = np.repeat([[0.0, 0], [0, 0], [0, 0], [4, 8]], 100, axis=0)
# means 1 and 2, standard deviations sqrt(3) and 2 sqrt(3)
assert np.isclose(
    combined(np.exp(logs), np.exp([[4.0, 8.0]]))[0], 2 * np.sqrt(3), atol=0.02
), "the sum of both, in standard deviations from the mean"

# %% [markdown]
# ## Build: as rare as that
#
# Another scale is the tail: how rare is such a score among normal images? Estimate $p_j$ as one more than the number of known scores at least as large, divided by two more than
# there are: never 0, and never 1. Add $\Phi^{-1}(1 - p_j)$ (Stouffer's way). Return the
# sum.


# %% tags=["exercise"]
def stouffer(known, scores):
    """Sum over the detectors of the normal quantile of one minus the tail share."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# A score that no normal image reached gets p = 0 and counts for ever.
def stouffer(known, scores):
    return norm.isf((known[None] >= scores[:, None]).mean(axis=1)).sum(axis=1)


# %% tags=["solution"]
def stouffer(known, scores):
    at_least = (known[None] >= scores[:, None]).sum(axis=1)
    p = (1 + at_least) / (2 + len(known))
    return norm.isf(p).sum(axis=1)


# %% tags=["check"]
few = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
shares = np.array(
    [3 / 5, 1 / 5]
)  # of 2, reached by two of three, and of 9, by none
assert np.isclose(
    stouffer(few, np.array([[2.0, 9.0]]))[0], norm.isf(shares).sum()
), "one more than are at least as large, of two more than there are; then the sum"
known, others = np.exp(rng.normal(size=(2, 500, 2)))
found = stouffer(known, np.r_[others, 1e9 * others[:5]])
assert np.isfinite(found).all(), "one detector must not decide alone, for ever"
assert np.isfinite(stouffer(known, known.min(axis=0)[None] / 2)).all(), (
    "nor the lowest score"
)
assert np.allclose(
    found, stouffer(known**3, np.r_[others, 1e9 * others[:5]] ** 3)
), "only the order counts"
assert abs(found[:500].mean()) < 0.5, "normal images are at zero"
assert found[500:].min() > found[:500].mean() + 1, "the more anomalous, the higher"
