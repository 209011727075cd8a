# %% [markdown]
# # Exercises: one-class baselines
#
# To [the chapter](../one_class.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from scipy.spatial.distance import cdist, pdist
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: a kernel so wide that it sees the mean only
#
# With equal weights on all training images, the score of the one-class SVM is, up to a constant and a factor, minus a mean of Gaussian bumps
# $\exp(-\gamma \lVert x_i - x \rVert^2)$. Write that mean for rows `x`.


# %% tags=["exercise"]
def bumps(train, x, gamma):
    """Minus the mean over the training rows of exp(-gamma squared distance), shape (n,)."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The distance, not its square: a pointed bump, which never becomes a distance to the mean.
def bumps(train, x, gamma):
    return -np.exp(-gamma * cdist(x, train)).mean(axis=1)


# %% tags=["solution"]
def bumps(train, x, gamma):
    return -np.exp(-gamma * cdist(x, train, "sqeuclidean")).mean(axis=1)


# %% tags=["check"]
train, x = np.exp(rng.normal(size=(80, 3))), 3 * rng.normal(size=(200, 3))
to_mean = np.linalg.norm(x - train.mean(axis=0), axis=1)
to_nearest = cdist(x, train).min(axis=1)
assert spearmanr(bumps(train, x, 1e-7), to_mean).statistic > 0.9999, (
    "wide: distance to the mean"
)
close = to_nearest < 1
narrow = bumps(train, x[close], 30)
assert spearmanr(narrow, to_nearest[close]).statistic > 0.95, (
    "narrow: nearest neighbour"
)

# %% [markdown]
# ## Look closer: a scale without labels
#
# The classical choice of $\gamma$ is one over the *median* squared distance between two training images. Why is it better than a constant?


# %% tags=["exercise"]
def median_gamma(train):
    """1 over the median squared distance of two different training rows."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# One over the number of channels: right only if each has variance one half.
def median_gamma(train):
    return 1 / train.shape[1]


# %% tags=["solution"]
def median_gamma(train):
    return 1 / np.median(pdist(train, "sqeuclidean"))


# %% tags=["check"]
usual = bumps(train, x, median_gamma(train))
assert np.allclose(bumps(100 * train, 100 * x, median_gamma(100 * train)), usual), (
    "it has a unit"
)
assert np.allclose(bumps(train + 7, x + 7, median_gamma(train + 7)), usual)
three = np.array([[0.0], [1.0], [3.0]])  # squared distances 1, 4 and 9
assert np.isclose(median_gamma(three), 1 / 4), "a row is at no distance to itself"

# %% [markdown]
# ## Build: pseudo-negatives
#
# Train a classifier on normal features against Gaussian noise around zero with standard deviation `sigma`, as many rows as there are normal ones. The score is the
# decision value for *noise*.


# %% tags=["exercise"]
def pseudo_negatives(train, x, sigma, rng):
    """Score of rows x: large where they look like noise around zero, shape (n,)."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The noise sits on the mean of the normal images: nothing is left to tell them apart by a
# plane.
def pseudo_negatives(train, x, sigma, rng):
    noise = train.mean(axis=0) + sigma * rng.normal(size=train.shape)
    labels = np.repeat([0, 1], len(train))
    head = LogisticRegression().fit(np.concatenate([train, noise]), labels)
    return head.decision_function(x)


# %% tags=["solution"]
def pseudo_negatives(train, x, sigma, rng):
    noise = sigma * rng.normal(size=train.shape)
    labels = np.repeat([0, 1], len(train))
    head = LogisticRegression().fit(np.concatenate([train, noise]), labels)
    return head.decision_function(x)


# %% tags=["check"]
train = (
    np.abs(rng.normal(size=(200, 20))) + 0.5
)  # after a ReLU no feature is negative
weak, strong = 0.2 * train, 3 * train
scores = [
    pseudo_negatives(train, rows, 0.5, rng).mean() for rows in (weak, train, strong)
]
assert scores[0] > scores[1] + 1, "features that hardly fire look like noise"
assert scores[2] < scores[1] - 1, "and what fires too much looks more than normal"
