# %% [markdown]
# # Exercises: the verdicts
#
# To [the chapter](../verdicts.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %% tags=["remove-cell"]
# Installs the book's package where it is missing, as on Colab.
import importlib.util

if importlib.util.find_spec("anomaly_transfer") is None:
    get_ipython().run_line_magic(
        "pip",
        "install -q 'anomaly-transfer[embedded,fast] @ git+https://github.com/OWNER/what-normal-knows'",
    )

# %%
import itertools

import numpy as np
from scipy.stats import binom

from anomaly_transfer.claims import ledger

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: met, missed or open
#
# What does an interval from `low` to `high` say about a claim that the effect is above the threshold?


# %% tags=["exercise"]
def state(low, high, threshold):
    """One of "met", "missed", "open"."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# An interval on both sides of the threshold is no evidence against the claim.
def state(low, high, threshold):
    return "met" if low > threshold else "missed"


# %% tags=["solution"]
def state(low, high, threshold):
    if low > threshold:
        return "met"
    return "missed" if high < threshold else "open"


# %% tags=["check"]
assert state(0.02, 0.05, 0.01) == "met"
assert state(-0.03, 0.005, 0.01) == "missed"
assert state(-0.03, 0.05, 0.01) == "open", "it may well hold"
assert state(0.01, 0.05, 0.01) == "open", "above means above"

# %% [markdown]
# ## Look closer: many cases, one sentence
#
# The book's rule for a claim about *every* case: *supported* if all are met; *not supported* if more than half are missed; otherwise *partly*, if some are met and at most half
# are open; otherwise *inconclusive*. Without a case, *not tested here*.


# %% tags=["exercise"]
def verdict(states):
    """What the cases of a claim about every case say together."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# `all` of nothing is true: a claim that nobody tested would be supported.
def verdict(states):
    n, met, missed = len(states), states.count("met"), states.count("missed")
    if all(state == "met" for state in states):
        return "supported"
    if missed > n / 2:
        return "not supported"
    return "partly" if met and n - met - missed <= n / 2 else "inconclusive"


# %% tags=["solution"]
def verdict(states):
    n, met, missed = len(states), states.count("met"), states.count("missed")
    if n == 0:
        return "not tested here"
    if met == n:
        return "supported"
    if missed > n / 2:
        return "not supported"
    return "partly" if met and n - met - missed <= n / 2 else "inconclusive"


# %% tags=["check"]
for n in range(6):
    for states in itertools.product(("met", "missed", "open"), repeat=n):
        expected = ledger.verdict(list(states), "every")
        assert verdict(list(states)) == expected, f"{states}: {expected}"

# %% [markdown]
# ## Warm-up: met by luck
#
# Suppose that every effect is exactly at its threshold: each of `n` independent cases then has its 95 % interval wholly above the threshold with probability 0.025. How probable is it that at least `k` of them
# are met?


# %% tags=["exercise"]
def by_luck(k, n):
    """Probability of at least k met cases of n, if all effects are at the threshold."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The survival function is the probability of *more* than k.
def by_luck(k, n):
    return binom.sf(k, n, 0.025)


# %% tags=["solution"]
def by_luck(k, n):
    return binom.sf(k - 1, n, 0.025)


# %% tags=["check"]
luck = rng.random((200_000, 40)) < 0.025
for k in (1, 2, 3):
    assert abs(by_luck(k, 40) - (luck.sum(axis=1) >= k).mean()) < 0.005
assert np.isclose(by_luck(0, 40), 1)
assert np.isclose(by_luck(1, 1), 0.025)
