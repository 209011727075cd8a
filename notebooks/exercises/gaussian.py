# %% [markdown]
# # Exercises: the Gaussian of the normal
#
# To [the chapter](../gaussian.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from sklearn.covariance import shrunk_covariance

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: shrinking
#
# With fewer images than dimensions the empirical covariance $S$ has no inverse. Shrinkage mixes it with a ball of the same mean variance:
# $(1 - a)\, S + a\, \frac{\operatorname{tr} S}{d}\, I$.


# %% tags=["exercise"]
def shrunk(covariance, a):
    """The covariance, mixed with share a of a ball of the same trace."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# In millimetres this ball is tiny, in kilometres huge: it must have the data's own scale.
def shrunk(covariance, a):
    return (1 - a) * covariance + a * np.eye(len(covariance))


# %% tags=["solution"]
def shrunk(covariance, a):
    d = len(covariance)
    return (1 - a) * covariance + a * np.trace(covariance) / d * np.eye(d)


# %% tags=["check"]
x = 30 * rng.normal(size=(10, 25))
covariance = np.cov(x.T)
assert np.linalg.matrix_rank(covariance) < 25, (
    "ten images cannot fill 25 dimensions"
)
found = shrunk(covariance, 0.2)
assert np.linalg.eigvalsh(found).min() > 0, "no inverse"
assert np.allclose(shrunk(1e6 * covariance, 0.2), 1e6 * found), (
    "it depends on the unit"
)
assert np.isclose(np.trace(found), np.trace(covariance)), (
    "the mean variance has changed"
)
assert np.allclose(found, shrunk_covariance(covariance, 0.2)), "not this mixture"

# %% [markdown]
# ## Look closer: which components speak?
#
# The squared distance is a sum over principal components, $\sum_i (v_i^\top (x - \mu))^2 / \lambda_i$ with $v_i$ the eigenvectors of the
# covariance and $\lambda_i$ their variances. Return the part of each, smallest variance first,
# for each row of `x`.


# %% tags=["exercise"]
def by_component(x, mean, covariance):
    """Shape (n, d): what each component adds to the squared distance of each row."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The rows of this matrix are no eigenvectors; its columns are.
def by_component(x, mean, covariance):
    variances, directions = np.linalg.eigh(covariance)
    return ((x - mean) @ directions.T) ** 2 / variances


# %% tags=["solution"]
def by_component(x, mean, covariance):
    variances, directions = np.linalg.eigh(covariance)
    return ((x - mean) @ directions) ** 2 / variances


# %% tags=["check"]
covariance = np.cov((rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5))).T)
mean = rng.normal(size=5)
x = rng.multivariate_normal(mean, covariance, 5000)
parts = by_component(x, mean, covariance)
squared = ((x - mean) @ np.linalg.inv(covariance) * (x - mean)).sum(axis=1)
assert np.allclose(parts.sum(axis=1), squared), "together the squared distance"
assert np.allclose(parts.mean(axis=0), 1, atol=0.15), (
    "each adds one on normal images"
)
smallest = np.linalg.eigh(covariance)[1][:, 0]
along = by_component(mean + smallest[None], mean, covariance)[0]
assert along.argmax() == 0 and along[1:].max() < 1e-9, (
    "smallest variance first; eigenvectors are columns"
)

# %% [markdown]
# ## Build: a threshold that keeps its promise
#
# Promise: a *new* normal image is above the threshold with probability at most `alpha`, over the draw of all of them and whatever the scores' distribution. Among `n` scores of normal images
# that the model has not seen, a new one is equally likely to have any of the `n + 1` ranks. Which of the sorted scores is the smallest
# threshold with that promise? (If none is, the answer is infinity.)


# %% tags=["exercise"]
def threshold(held_out, alpha):
    """The smallest held-out score that a new normal image exceeds with probability at most alpha."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Right for very many images. With few, the highest score is not high enough.
def threshold(held_out, alpha):
    return np.quantile(held_out, 1 - alpha)


# %% tags=["solution"]
def threshold(held_out, alpha):
    n = len(held_out)
    # Less a little, or rounding makes of a whole number the next one.
    rank = int(np.ceil((1 - alpha) * (n + 1) - 1e-9))
    return np.sort(held_out)[rank - 1] if rank <= n else np.inf


# %% tags=["check"]
for n, alpha in ((9, 0.1), (19, 0.1), (99, 0.05)):
    draws = rng.exponential(size=(20_000, n + 1))
    above = np.mean([row[-1] > threshold(row[:-1], alpha) for row in draws])
    assert above < alpha + 0.008, "the promise is broken"
    assert above > alpha - 0.02, "more careful than it promised to be"
for n, alpha in ((14, 0.1), (18, 0.1), (20, 0.1), (30, 0.05)):
    chosen = threshold(rng.permutation(n) + 1.0, alpha)  # scores 1 to n
    above = (n + 1 - chosen) / (n + 1)  # a new one has any of n + 1 ranks
    assert above <= alpha, "the promise is broken where alpha (n + 1) is no integer"
    assert above + 1 / (n + 1) > alpha, "a smaller one would do"
assert threshold(np.arange(5.0), 0.1) == np.inf, (
    "five images cannot promise one in ten"
)
