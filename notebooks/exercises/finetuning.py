# %% [markdown]
# # Exercises: fine-tuning without forgetting
#
# To [the chapter](../finetuning.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from sklearn.metrics import roc_auc_score

rng = np.random.default_rng(0)

# %% [markdown]
# ## Look closer: a loss that cannot fall
#
# Estimate mean and covariance anew from the `n` training images after each epoch (`numpy.cov`, more images than the `d` dimensions). What is the
# mean squared Mahalanobis distance of these same images, whatever the network does?


# %% tags=["exercise"]
def mean_squared_distance(n, d):
    """Mean squared distance of n training images to their own Gaussian in d dimensions."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# This is what images have that the Gaussian has not seen, if it is the true one.
def mean_squared_distance(n, d):
    return d


# %% tags=["solution"]
# The sum of the squared distances is the trace of inverse covariance times scatter, and
# the scatter is n - 1 times the covariance.
def mean_squared_distance(n, d):
    return d * (n - 1) / n


# %% tags=["check"]
for n, d in ((10, 3), (200, 30)):
    x = np.exp(rng.normal(size=(n, d)))  # far from a Gaussian: it does not matter
    centred = x - x.mean(axis=0)
    squared = (centred @ np.linalg.inv(np.cov(x.T)) * centred).sum(axis=1)
    assert np.isclose(squared.mean(), mean_squared_distance(n, d))

# %% [markdown]
# ## Look closer: when to stop
#
# One validation value an epoch arrives; epoch 0 is the untouched network. Stop looking after `patience` epochs in a row without a new best. Which epoch is
# kept? Higher is better, and an equal value is no new best.


# %% tags=["exercise"]
def kept_epoch(validation, patience):
    """The epoch with the best value among those that were looked at."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# It keeps the epoch at which it noticed, which is one of forgetting.
def kept_epoch(validation, patience):
    best = 0
    for epoch, value in enumerate(validation):
        if value > validation[best]:
            best = epoch
        if epoch - best >= patience:
            return epoch
    return best


# %% tags=["solution"]
def kept_epoch(validation, patience):
    best = 0
    for epoch, value in enumerate(validation):
        if value > validation[best]:
            best = epoch
        if epoch - best >= patience:
            break
    return best


# %% tags=["check"]
assert kept_epoch([0.80, 0.84, 0.83, 0.82, 0.90], patience=2) == 1, (
    "it never saw epoch 4"
)
assert kept_epoch([0.80, 0.84, 0.83, 0.82, 0.90], patience=3) == 4
assert kept_epoch([0.9, 0.8, 0.7], patience=1) == 0, "do not train at all"
assert kept_epoch([0.5, 0.5, 0.6], patience=5) == 2
assert kept_epoch([0.5, 0.5, 0.6], patience=1) == 0, "equal is no new best"
assert kept_epoch([0.5, 0.6, 0.55, 0.58, 0.7], patience=2) == 1, (
    "better than the last is no new best"
)
assert kept_epoch([0.5, 0.4, 0.6, 0.55, 0.7], patience=2) == 4, "in a row"

# %% [markdown]
# ## Build: anomalies from normal images
#
# Make a stand-in by cutting a square of `side` pixels from a random place of the image and pasting it at another random one (which may by chance be the same). Leave the original
# untouched.


# %% tags=["exercise"]
def cut_and_paste(image, side, rng):
    """A copy of the image, shape (height, width), with one square from elsewhere in it."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Without the copy the training image itself is changed, for good.
def cut_and_paste(image, side, rng):
    height, width = image.shape
    (top, down), (left, right) = (
        rng.integers(0, length - side + 1, 2) for length in (height, width)
    )
    image[down : down + side, right : right + side] = image[
        top : top + side, left : left + side
    ]
    return image


# %% tags=["solution"]
def cut_and_paste(image, side, rng):
    height, width = image.shape
    (top, down), (left, right) = (
        rng.integers(0, length - side + 1, 2) for length in (height, width)
    )
    changed = image.copy()
    changed[down : down + side, right : right + side] = image[
        top : top + side, left : left + side
    ]
    return changed


# %% tags=["check"]
sheen = np.add.outer(np.arange(32), np.zeros(32)) + rng.normal(size=(32, 32))
images = np.stack([sheen + rng.normal(size=(32, 32)) for _ in range(40)])
before = images.copy()
made = np.stack([cut_and_paste(image, 8, rng) for image in images])
assert (images == before).all(), "the training images have changed"
assert made.shape == images.shape
for image, changed in zip(images, made, strict=True):
    rows, columns = np.nonzero(image != changed)
    if not len(rows):
        continue  # pasted where it was cut
    assert np.ptp(rows) < 8 and np.ptp(columns) < 8, "more than one square"
    assert np.isin(changed, image).all(), "new values"
unusual = [
    ((batch - before.mean(axis=0)) ** 2).mean(axis=(1, 2))
    for batch in (before, made)
]
seen = roc_auc_score(np.repeat([0, 1], 40), np.concatenate(unusual))
assert seen > 0.9, (
    "on a surface with a gradient, a square from elsewhere stands out"
)
