# %% [markdown]
# # Exercises: does similarity predict transfer?
#
# To [the chapter](../transfer_prediction.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from scipy.stats import spearmanr

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: within, not across
#
# Data sets differ in how near their anomalies are *and* in how hard they are, for a hundred reasons. A correlation over all cases mixes
# that up. Return the mean over the data sets of the rank correlation *within* each.


# %% tags=["exercise"]
def within(predictor, outcome, dataset):
    """Mean over the data sets of Spearman's correlation within one."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Pooled: it answers which data set is easier, not which anomaly.
def within(predictor, outcome, dataset):
    return spearmanr(predictor, outcome).statistic


# %% tags=["solution"]
def within(predictor, outcome, dataset):
    found = [
        spearmanr(predictor[dataset == name], outcome[dataset == name]).statistic
        for name in np.unique(dataset)
    ]
    return np.mean(found)


# %% tags=["check"]
dataset = np.repeat([0, 1, 2], 10)
inside = np.tile(np.arange(10.0), 3)
predictor, outcome = 20 * dataset + inside, 20 * dataset - inside
assert np.isclose(spearmanr(predictor, outcome).statistic, 0.77, atol=0.05), (
    "pooled: positive"
)
assert np.isclose(within(predictor, outcome, dataset), -1), (
    "within each: the contrary"
)

# %% [markdown]
# ## Look closer: skill on a data set never seen
#
# Fit a line on all *other* data sets, predict the cases of the one left out, and compare with a prediction that knows nothing about the
# cases: the mean outcome of the data sets fitted on. Skill is 1 minus the ratio of the squared errors. Return it for one data set.


# %% tags=["exercise"]
def skill(predictor, outcome, dataset, left_out):
    """1 is perfect, 0 as good as the mean of the others, negative is worse."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The mean of the left-out cases is not known beforehand. Against it hardly anything has skill.
def skill(predictor, outcome, dataset, left_out):
    test = dataset == left_out
    slope, intercept = np.polyfit(predictor[~test], outcome[~test], 1)
    told = slope * predictor[test] + intercept
    nothing = outcome[test].mean()
    return 1 - np.sum((outcome[test] - told) ** 2) / np.sum(
        (outcome[test] - nothing) ** 2
    )


# %% tags=["solution"]
def skill(predictor, outcome, dataset, left_out):
    test = dataset == left_out
    slope, intercept = np.polyfit(predictor[~test], outcome[~test], 1)
    told = slope * predictor[test] + intercept
    nothing = outcome[~test].mean()
    return 1 - np.sum((outcome[test] - told) ** 2) / np.sum(
        (outcome[test] - nothing) ** 2
    )


# %% tags=["check"]
assert np.isclose(skill(inside, 2 * inside + 1, dataset, 1), 1), "a perfect line"
constant = np.r_[np.zeros(10), np.full(10, 5.0), np.zeros(10)] + 0.1 * inside
flat = rng.normal(size=30) * 1e-6
assert abs(skill(flat, constant, dataset, 1)) < 0.5, (
    "it knows nothing, nor does the mean"
)
# By hand: fitted on (0, 0) and (2, 2) a line says 1 at x = 1, and their mean is 1, too.
x, y, of = (
    np.array([0.0, 2.0, 1.0, 3.0]),
    np.array([0.0, 2.0, 0.0, 3.0]),
    np.array([0, 0, 1, 1]),
)
assert np.isclose(skill(x, y, of, 1), 1 - 1 / 5), (
    "errors 1 and 0, against 1 and 2 of the mean"
)

# %% [markdown]
# ## Build: the best of many
#
# Fifteen predictors are tried on twenty cases and the largest absolute correlation is reported. By chance alone it will look large. Return a
# p-value for that *largest* one: shuffle the outcome, and each time look for the largest again.


# %% tags=["exercise"]
def p_of_best(predictors, outcome, rng, n=200):
    """p-value of the largest |Spearman| over the columns of predictors."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The p-value of the winner as if it had been the only one tried.
def p_of_best(predictors, outcome, rng, n=200):
    tests = [spearmanr(column, outcome) for column in predictors.T]
    return min(test.pvalue for test in tests)


# %% tags=["solution"]
def p_of_best(predictors, outcome, rng, n=200):
    def best(values):
        both = spearmanr(predictors, values).statistic
        return np.abs(both[-1, :-1]).max()

    observed = best(outcome)
    null = [best(rng.permutation(outcome)) for _ in range(n)]
    return (1 + np.sum(np.array(null) >= observed)) / (1 + n)


# %% tags=["check"]
found = [
    p_of_best(rng.normal(size=(20, 15)), rng.normal(size=20), rng, 39)
    for _ in range(40)
]
assert np.mean(np.array(found) < 0.05) < 0.2, "noise looks significant too often"
assert 0.3 < np.mean(found) < 0.7, (
    "without an effect all p-values are equally likely"
)
real = rng.normal(size=(20, 15))
for sign in (1, -1):
    assert (
        0
        < p_of_best(real, sign * real[:, 3] + 0.1 * rng.normal(size=20), rng)
        < 0.02
    )
