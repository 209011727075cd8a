# %% [markdown]
# # Exercises: frozen representations
#
# To [the chapter](../frozen_features.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

rng = np.random.default_rng(0)
mixing = rng.normal(size=(4, 4))

# %% [markdown]
# ## Warm-up: the distance that knows directions
#
# The Mahalanobis distance $\sqrt{(x - \mu)^\top \Sigma^{-1} (x - \mu)}$ measures in units of what is usual in each *direction*, not in each channel. Write the distance of all rows of
# `x` at once, given mean and covariance.


# %% tags=["exercise"]
def distances(x, mean, covariance):
    """Mahalanobis distance of each row of x, shape (n, d): shape (n,)."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Each channel by its own spread: two channels that always move together count twice.
def distances(x, mean, covariance):
    return np.sqrt(((x - mean) ** 2 / np.diag(covariance)).sum(axis=1))


# %% tags=["solution"]
def distances(x, mean, covariance):
    centred = x - mean
    solved = np.linalg.solve(covariance, centred.T).T
    return np.sqrt((centred * solved).sum(axis=1))


# %% tags=["check"]
x = rng.normal(size=(50, 4)) @ mixing
mean, covariance = x.mean(axis=0), np.cov(x.T)
expected = [mahalanobis(row, mean, np.linalg.inv(covariance)) for row in x]
assert np.allclose(distances(x, mean, covariance), expected), (
    "not what SciPy says of each row"
)

# %% [markdown]
# ## Look closer: a stranger is farther, on average
#
# The mean and the covariance fit the images they were estimated from, so those images look more normal than new ones of the same kind.
# A fair score of a normal image comes from a Gaussian that has not seen it. Score every row by a Ledoit-Wolf Gaussian of the *other*
# folds (`fold[i]` names the fold of row `i`). Beware: what scikit-learn calls `mahalanobis` is the *square* of the distance.


# %% tags=["exercise"]
def out_of_fold(x, fold):
    """Distance of each row to a Gaussian that was not fitted on its fold."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Fitted on its own fold and on nothing else: few images, and all of them known.
def out_of_fold(x, fold):
    scores = np.empty(len(x))
    for k in np.unique(fold):
        gaussian = LedoitWolf().fit(x[fold == k])
        scores[fold == k] = np.sqrt(gaussian.mahalanobis(x[fold == k]))
    return scores


# %% tags=["solution"]
def out_of_fold(x, fold):
    scores = np.empty(len(x))
    for k in np.unique(fold):
        gaussian = LedoitWolf().fit(x[fold != k])
        scores[fold == k] = np.sqrt(gaussian.mahalanobis(x[fold == k]))
    return scores


# %% tags=["check"]
wide = rng.normal(size=(40, 40))
x, new = rng.normal(size=(100, 40)) @ wide, rng.normal(size=(2000, 40)) @ wide
fold = np.arange(100) % 5
fitted = LedoitWolf().fit(x)
known, fresh = (np.sqrt(fitted.mahalanobis(rows)).mean() for rows in (x, new))
fair = out_of_fold(x, fold)
assert known < fresh, "this is what the exercise is about"
assert abs(fair.mean() - fresh) < abs(known - fresh), "not what a new image gets"
moved = x.copy()
moved[0] += 100
again = out_of_fold(moved, fold)
own = (fold == 0) & (np.arange(100) > 0)
assert np.allclose(again[own], fair[own]), "a fold changed its own Gaussian"

# %% [markdown]
# ## Look closer: levels on one scale
#
# A level of many channels has larger distances and so outvotes the others. Bring each level to mean 0 and standard deviation 1 before you
# add. Which images may set that mean and deviation? `known` are scores of normal training images (out of fold), `scores` those to
# be judged; both have one column a level.


# %% tags=["exercise"]
def on_one_scale(known, scores):
    """Sum over the levels, each in units of what is usual among normal images."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The score of an image would depend on which others are judged along with it.
def on_one_scale(known, scores):
    return ((scores - scores.mean(axis=0)) / scores.std(axis=0)).sum(axis=1)


# %% tags=["solution"]
def on_one_scale(known, scores):
    return ((scores - known.mean(axis=0)) / known.std(axis=0)).sum(axis=1)


# %% tags=["check"]
known = rng.normal(size=(200, 2)) * [1, 20] + [3, 70]
scores = rng.normal(size=(300, 2)) * [1, 20] + [4, 75]
together = on_one_scale(known, scores)
alone = np.concatenate([on_one_scale(known, scores[i : i + 1]) for i in range(300)])
assert np.allclose(together, alone), "a score depends on its neighbours"
shares = [np.corrcoef(together, scores[:, level])[0, 1] for level in (0, 1)]
assert min(shares) > 0.5, "one level says everything"
itself = on_one_scale(known, known)
assert abs(itself.mean()) < 1e-9, "normal images are at 0 on average"
assert abs(itself.var() - 2) < 0.8, "two levels, each of variance one"
