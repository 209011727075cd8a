# %% [markdown]
# # Exercises: bring your own images
#
# To [the chapter](../own_images.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from sklearn.metrics import roc_auc_score

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: who goes where
#
# You photographed bottles from several sides: picture `i` shows `bottle[i]`, and `broken[i]` tells whether that *bottle* is broken. Train on intact bottles only; test on all broken ones, and on half of the
# intact ones (rounded down). Return two boolean arrays.


# %% tags=["exercise"]
def divided(bottle, broken, rng):
    """Which pictures to train on and which to test on, no bottle on both sides."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Half of the *pictures*: nearly every bottle is on both sides.
def divided(bottle, broken, rng):
    test = broken | (rng.random(len(bottle)) < 0.5)
    return ~test, test


# %% tags=["solution"]
def divided(bottle, broken, rng):
    intact = rng.permutation(np.unique(bottle[~broken]))
    held_out = intact[: len(intact) // 2]
    test = broken | np.isin(bottle, held_out)
    return ~test, test


# %% tags=["check"]
bottle = np.repeat(np.arange(8), 5)
broken = np.isin(bottle, [2, 6])
for _ in range(5):
    train, test = divided(bottle, broken, rng)
    assert not (train & test).any() and (train | test).all()
    assert not broken[train].any() and broken[test].sum() == 10
    assert not set(bottle[train]) & set(bottle[test]), "a bottle is on both sides"
    assert len(set(bottle[train])) == 3

# %% [markdown]
# ## Look closer: how much does the lamp tell?
#
# Before any network: can the mean brightness of a picture *alone* tell good from bad? If it can, the light changed with the label. Return the AUROC of the mean brightness, in the direction
# that tells more (so 0.5 or above).


# %% tags=["exercise"]
def told_by_brightness(images, bad):
    """AUROC of mean brightness, shape (n, h, w), whichever direction tells more."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Pictures of bad parts that are *darker* give an AUROC near 0, which is as bad a sign.
def told_by_brightness(images, bad):
    return roc_auc_score(bad, images.mean(axis=(1, 2)))


# %% tags=["solution"]
def told_by_brightness(images, bad):
    found = roc_auc_score(bad, images.mean(axis=(1, 2)))
    return max(found, 1 - found)


# %% tags=["check"]
bad = np.repeat([0, 1], 40)
images = rng.normal(100, 20, (80, 16, 16)) + rng.normal(0, 5, (80, 1, 1))
assert told_by_brightness(images, bad) < 0.75, "one lamp for all"
for change in (25, -25):
    assert told_by_brightness(images + change * bad[:, None, None], bad) > 0.95

# %% [markdown]
# ## Build: the same part twice
#
# Find pairs of a training and a test picture that show the same part from almost the same stand: the correlation of their pixels, each picture reduced to mean 0 and length 1, is above `limit`. Return the pairs as
# an array of shape (k, 2), row in `train` and row in `test`, sorted by the former.


# %% tags=["exercise"]
def twins(train, test, limit=0.9):
    """Pairs of pictures, shape (n, h, w) each, that correlate above the limit."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# A difference of pixels does not know the same part under another light.
def twins(train, test, limit=0.9):
    difference = np.abs(train[:, None] - test[None]).mean(axis=(2, 3))
    return np.argwhere(difference < (1 - limit) * train.std())


# %% tags=["solution"]
def twins(train, test, limit=0.9):
    def reduced(images):
        rows = images.reshape(len(images), -1).astype(float)
        rows -= rows.mean(axis=1, keepdims=True)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return np.argwhere(reduced(train) @ reduced(test).T > limit)


# %% tags=["check"]
train = rng.normal(100, 20, (30, 16, 16))
test = rng.normal(100, 20, (20, 16, 16))
test[3] = train[7] + rng.normal(0, 4, (16, 16))  # photographed again
test[11] = 0.6 * train[20] + 70  # photographed again, and the lamp was changed
assert twins(train, test).tolist() == [[7, 3], [20, 11]]
assert len(twins(train, test[:3])) == 0
assert twins(train, test, limit=0.995).tolist() == [[20, 11]], "the limit counts"
assert len(twins(train, 255 - train)) == 0, "a negative is no twin"
