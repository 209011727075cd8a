# %% [markdown]
# # Exercises: the benchmarks, and what each hides
#
# To [the chapter](../benchmarks.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: what chance is worth
#
# A detector that guesses has an AUROC of one half on every benchmark. What is its average precision, when there are very many
# images and the labels (1 is anomalous) are as given?


# %% tags=["exercise"]
def chance_average_precision(labels):
    """Average precision of a detector that guesses."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# True only where half of the images are anomalous. Average precision is a number about a mix.
def chance_average_precision(labels):
    return 0.5


# %% tags=["solution"]
def chance_average_precision(labels):
    return np.mean(labels)


# %% tags=["check"]
for share in (0.02, 0.2, 0.7):
    labels = rng.random(40_000) < share
    guessed = average_precision_score(labels, rng.random(40_000))
    assert abs(chance_average_precision(labels) - guessed) < 0.02
    assert abs(roc_auc_score(labels, rng.random(40_000)) - 0.5) < 0.03

# %% [markdown]
# ## Look closer: one class of ten
#
# Any labelled set makes a benchmark for one class: call one class normal. Return the row numbers to train on, those to test on, and the test
# labels (1 is anomalous). The set comes with its own train and test part.


# %% tags=["exercise"]
def one_class(classes, is_train, normal):
    """Rows to train on, rows to test on, and whether each test row is anomalous."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The other nine classes of the train part are anomalies. Nothing may be fitted on them.
def one_class(classes, is_train, normal):
    train, test = np.flatnonzero(is_train), np.flatnonzero(~is_train)
    return train, test, (classes[test] != normal).astype(int)


# %% tags=["solution"]
def one_class(classes, is_train, normal):
    train = np.flatnonzero(is_train & (classes == normal))
    test = np.flatnonzero(~is_train)
    return train, test, (classes[test] != normal).astype(int)


# %% tags=["check"]
classes, is_train = rng.integers(0, 10, 500), rng.random(500) < 0.8
for normal in range(10):
    train, test, anomalous = one_class(classes, is_train, normal)
    assert set(classes[train]) == {normal}, (
        "an anomaly is among the training images"
    )
    assert is_train[train].all() and (classes[is_train] == normal).sum() == len(
        train
    )
    assert len(set(train)) == len(train), "an image is taken twice"
    assert not is_train[test].any() and len(test) == (~is_train).sum()
    assert (anomalous == (classes[test] != normal)).all()

# %% [markdown]
# ## Build: two detectors on the same images
#
# Whether detector `a` is better than `b` is asked of the *same* images: what makes an image hard is hard for both, and drops out of the
# difference. Return `n` bootstrapped differences of the AUROC (of `a` minus `b`). (Draw normal and anomalous images apart, so that neither
# kind runs out.)


# %% tags=["exercise"]
def differences(labels, a, b, n, rng):
    """Bootstrapped AUROC of a minus AUROC of b, shape (n,)."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Two draws are two sets of images: the luck of both is added instead of taken away.
def differences(labels, a, b, n, rng):
    kinds = [np.flatnonzero(labels == kind) for kind in (0, 1)]
    found = []
    for _ in range(n):
        one, other = (
            np.concatenate([rng.choice(kind, len(kind)) for kind in kinds])
            for _ in range(2)
        )
        found.append(
            roc_auc_score(labels[one], a[one])
            - roc_auc_score(labels[other], b[other])
        )
    return np.array(found)


# %% tags=["solution"]
def differences(labels, a, b, n, rng):
    kinds = [np.flatnonzero(labels == kind) for kind in (0, 1)]
    found = []
    for _ in range(n):
        rows = np.concatenate([rng.choice(kind, len(kind)) for kind in kinds])
        found.append(
            roc_auc_score(labels[rows], a[rows])
            - roc_auc_score(labels[rows], b[rows])
        )
    return np.array(found)


# %% tags=["check"]
labels = np.repeat([0, 1], 60)
hard = rng.normal(size=120)
a, b = (labels * gap + hard + 0.2 * rng.normal(size=120) for gap in (1.3, 1.0))
found = differences(labels, a, b, 100, rng)
alone = differences(labels, a, np.where(labels, 1.0, 0.0), 100, rng)
assert len(found) == 100
assert (
    abs(found.mean() - (roc_auc_score(labels, a) - roc_auc_score(labels, b))) < 0.02
)
assert found.std() < alone.std(), "the luck of the draw is still in it"
