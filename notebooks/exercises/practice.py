# %% [markdown]
# # Exercises: what we would tell a practitioner
#
# To [the chapter](../practice.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
from itertools import pairwise

import numpy as np

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: the least of the largest regrets
#
# `auroc[dataset, method]`. The regret of a method on a data set is what the best one there has more. Choose the method whose *largest* regret over the data sets is smallest, and return its column.


# %% tags=["exercise"]
def safest(auroc):
    """Column of the method with the smallest worst-case regret."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The largest worst AUROC. One data set on which everything fails then decides alone.
def safest(auroc):
    return auroc.min(axis=0).argmax()


# %% tags=["solution"]
def safest(auroc):
    regret = auroc.max(axis=1, keepdims=True) - auroc
    return regret.max(axis=0).argmin()


# %% tags=["check"]
auroc = np.array([[0.99, 0.94, 0.60], [0.60, 0.93, 0.95], [0.51, 0.50, 0.53]])
assert safest(auroc) == 1, "never the best, never far behind"
mostly = np.array(
    [[0.9, 0.9, 0.5], [0.9, 0.8, 0.9], [0.9, 0.8, 0.9], [0.7, 0.8, 0.9]]
)
assert safest(mostly) == 1, "the largest regret counts, not the mean"
uneven = np.array([[0.9, 0.8, 0.8], [0.75, 0.9, 0.0]])
assert safest(uneven) == 1, "what the best has more, not the average"
many = rng.random((10, 5))
easier = many + rng.random(
    (10, 1)
)  # how hard a data set is, is not the methods' fault
assert safest(easier) == safest(many), "it depends on how hard a data set is"

# %% [markdown]
# ## Look closer: no miss in sixty
#
# Your detector found all of `n` defects. Which share may it still miss? Return the upper end of a one-sided interval: the largest miss rate at which seeing no miss in `n` still has a probability of
# `1 - confidence`.


# %% tags=["exercise"]
def largest_miss_rate(n, confidence=0.95):
    """The largest miss rate that n defects without a miss leave possible."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The end of a two-sided interval: half of the doubt is spent on a side where nothing can be.
def largest_miss_rate(n, confidence=0.95):
    return 1 - ((1 - confidence) / 2) ** (1 / n)


# %% tags=["solution"]
# (1 - rate) ** n = 1 - confidence; for 95 % it is close to 3 / n.
def largest_miss_rate(n, confidence=0.95):
    return 1 - (1 - confidence) ** (1 / n)


# %% tags=["check"]
for n in (5, 60, 300):
    rate = largest_miss_rate(n)
    none = (rng.random((10_000, n)) >= rate).all(axis=1).mean()
    assert abs(none - 0.05) < 0.015, (
        f"at this rate {none:.3f} of all tests see no miss"
    )
assert 0.04 < largest_miss_rate(60) < 0.06, (
    "sixty defects found: one in twenty may be missed"
)
assert largest_miss_rate(60, 0.99) > largest_miss_rate(60), (
    "to be surer, one must allow for more"
)

# %% [markdown]
# ## Build: a learning curve that is one
#
# How good is the detector with few pictures? For each number in `sizes` (ascending) draw so many *groups* (sheets, days, parts), each with the same chance, the larger draw containing the smaller one, so that the curve does not
# jump because of luck between its points. Return a list of arrays: for each number the rows of its groups.


# %% tags=["exercise"]
def nested_draws(groups, sizes, rng):
    """For each number of groups the row numbers, each draw within the next."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# A new draw for each size: the curve mixes how many with which.
def nested_draws(groups, sizes, rng):
    names = np.unique(groups)
    return [
        np.flatnonzero(np.isin(groups, rng.choice(names, n, replace=False)))
        for n in sizes
    ]


# %% tags=["solution"]
def nested_draws(groups, sizes, rng):
    order = rng.permutation(np.unique(groups))
    return [np.flatnonzero(np.isin(groups, order[:n])) for n in sizes]


# %% tags=["check"]
numbers = np.repeat(np.arange(30), rng.integers(2, 9, 30))
groups = np.array([f"sheet {number}" for number in numbers])
for _ in range(5):
    draws = nested_draws(groups, [2, 5, 10, 30], rng)
    assert [len(set(groups[rows])) for rows in draws] == [2, 5, 10, 30], (
        "how many groups"
    )
    for small, large in pairwise(draws):
        assert set(small) < set(large), "a smaller draw is not part of the next"
    for rows in draws:
        assert set(rows) == set(np.flatnonzero(np.isin(groups, groups[rows]))), (
            "torn apart"
        )
uneven = np.repeat(["large", "a", "b", "c", "d"], [96, 1, 1, 1, 1])
first = [uneven[nested_draws(uneven, [1], rng)[0][0]] for _ in range(200)]
assert 0.05 < np.mean([name == "large" for name in first]) < 0.4, (
    "each group is drawn with the same chance"
)
