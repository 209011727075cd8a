# %% [markdown]
# # Exercises: what matters
#
# To [the chapter](../ablation.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from scipy.stats import t

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: regret
#
# A rule stopped a run at some epoch. How much AUROC did it leave on the table, compared with the best epoch of the same run? (`auroc[run, epoch]`, and the
# epoch that the rule chose for each run.)


# %% tags=["exercise"]
def regret(auroc, chosen):
    """What each run lost by stopping where it did, shape (n_runs,)."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The epoch that is best on average is not the best of each run.
def regret(auroc, chosen):
    return auroc.mean(axis=0).max() - auroc[np.arange(len(auroc)), chosen]


# %% tags=["solution"]
def regret(auroc, chosen):
    return auroc.max(axis=1) - auroc[np.arange(len(auroc)), chosen]


# %% tags=["check"]
auroc = np.array([[0.8, 0.9, 0.7], [0.9, 0.6, 0.5]])
assert np.allclose(regret(auroc, [1, 0]), 0)
assert np.allclose(regret(auroc, [2, 1]), [0.2, 0.3])
many = rng.random((100, 20))
assert (regret(many, rng.integers(0, 20, 100)) >= 0).all()

# %% [markdown]
# ## Look closer: five seeds are not five data sets
#
# `gain[dataset, seed]` is the paired gain of a variant. You want to speak about data sets, those at hand being a sample of them. Return the ends of a 95 %
# interval of the mean gain (Student's $t$).


# %% tags=["exercise"]
def interval(gain):
    """Low and high end of a 95 % interval of the mean over data sets."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Twenty numbers, but only four independent ones: the same data set answers five times.
def interval(gain):
    values = gain.ravel()
    reach = (
        t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    )
    return values.mean() - reach, values.mean() + reach


# %% tags=["solution"]
def interval(gain):
    by_dataset = gain.mean(axis=1)
    n = len(by_dataset)
    reach = t.ppf(0.975, n - 1) * by_dataset.std(ddof=1) / np.sqrt(n)
    return by_dataset.mean() - reach, by_dataset.mean() + reach


# %% tags=["check"]
held = []
for _ in range(2000):
    gain = rng.normal(size=(4, 1)) + 0.3 * rng.normal(
        size=(4, 5)
    )  # no gain on average
    low, high = interval(gain)
    held.append(low <= 0 <= high)
assert abs(np.mean(held) - 0.95) < 0.02, (
    "the interval must hold the truth in 95 of 100"
)

# %% [markdown]
# ## Build: choose here, test there
#
# The best of eight variants looks good because it is the best of eight. For each data set in turn, choose the variant by the mean over all *other* data sets,
# and return the gain it has on the one left out (`gain[dataset, variant]`).


# %% tags=["exercise"]
def honest_gain(gain):
    """Gain on each data set of the variant chosen without it, shape (n_datasets,)."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The data set takes part in choosing the variant that it then judges.
def honest_gain(gain):
    return gain[:, gain.mean(axis=0).argmax()]


# %% tags=["solution"]
def honest_gain(gain):
    found = []
    for left_out in range(len(gain)):
        others = np.delete(gain, left_out, axis=0)
        found.append(gain[left_out, others.mean(axis=0).argmax()])
    return np.array(found)


# %% tags=["check"]
noise = [honest_gain(rng.normal(size=(5, 8))).mean() for _ in range(2000)]
assert abs(np.mean(noise)) < 0.06, "variants that do nothing seem to gain"
real = rng.normal(size=(20, 8)) * 0.1
real[:, 3] += 1
assert np.allclose(honest_gain(real), real[:, 3])
