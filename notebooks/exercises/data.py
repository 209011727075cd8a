# %% [markdown]
# # Exercises: the data, and how a split can lie
#
# To [the chapter](../data.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from sklearn.metrics import roc_auc_score

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: the AUROC is a count of pairs
#
# Write its definition down as it stands: of all pairs of a defective and a normal image, the share in which the defective one scores
# higher; a tie counts half.


# %% tags=["exercise"]
def auroc(normal, defective):
    """Share of the pairs in right order, from the scores of both kinds."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Scores of few values tie often, and a tie is not a loss.
def auroc(normal, defective):
    return (defective[:, None] > normal[None, :]).mean()


# %% tags=["solution"]
def auroc(normal, defective):
    difference = defective[:, None] - normal[None, :]
    return (difference > 0).mean() + 0.5 * (difference == 0).mean()


# %% tags=["check"]
for _ in range(20):
    normal, defective = rng.integers(0, 5, 40), rng.integers(1, 6, 30)
    labels = np.r_[np.zeros(40), np.ones(30)]
    expected = roc_auc_score(labels, np.r_[normal, defective])
    assert abs(auroc(normal, defective) - expected) < 1e-12

# %% [markdown]
# ## Look closer: what belongs together stays together
#
# `groups[i]` is the production run of cell `i`. Return a boolean array, true for the cells to test on: `share` of the
# *runs*, rounded, drawn at random, each whole.


# %% tags=["exercise"]
def test_rows(groups, share, rng):
    """Which images to test on, so that no group is on both sides."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# This draws images. Nearly every run is then on both sides.
def test_rows(groups, share, rng):
    return rng.random(len(groups)) < share


# %% tags=["solution"]
def test_rows(groups, share, rng):
    names = np.unique(groups)
    n_test = max(1, round(share * len(names)))
    return np.isin(groups, rng.choice(names, n_test, replace=False))


# %% tags=["check"]
groups = np.repeat(np.arange(20), rng.integers(3, 12, 20))
drawn = [test_rows(groups, 0.25, rng) for _ in range(10)]
for test in drawn:
    assert not set(groups[test]) & set(groups[~test]), "a run is on both sides"
    assert len(set(groups[test])) == 5, "a quarter of twenty runs is five"
assert len({tuple(test) for test in drawn}) > 1, "each draw gave the same runs"

# %% [markdown]
# ## Build: an interval that knows about groups
#
# Twenty cells of one run are not twenty independent witnesses. A bootstrap must therefore draw whole *runs* with replacement: a run
# drawn twice brings all its cells twice. Return the row numbers of one such draw.


# %% tags=["exercise"]
def bootstrap_rows(groups, rng):
    """Row numbers of one draw of whole groups with replacement."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Drawing cells breaks the runs apart: the interval comes out too narrow.
def bootstrap_rows(groups, rng):
    return rng.integers(0, len(groups), len(groups))


# %% tags=["solution"]
def bootstrap_rows(groups, rng):
    names = np.unique(groups)
    drawn = rng.choice(names, len(names))
    return np.concatenate([np.flatnonzero(groups == name) for name in drawn])


# %% tags=["check"]
level = rng.normal(size=20)[groups]  # what a run has in common
values = level + 0.1 * rng.normal(size=len(groups))
means = [values[bootstrap_rows(groups, rng)].mean() for _ in range(500)]
as_if_independent = values.std() / np.sqrt(len(values))
assert np.std(means) > 1.5 * as_if_independent, "too sure of itself"
for _ in range(5):
    times = np.bincount(bootstrap_rows(groups, rng), minlength=len(groups))
    assert all(len(set(times[groups == name])) == 1 for name in range(20)), (
        "a run was torn apart"
    )
    assert sum(times[groups == name][0] for name in range(20)) == 20, (
        "twenty runs are drawn"
    )
