# %% [markdown]
# # Exercises: labels or transfer?
#
# To [the chapter](../labels.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: two by two
#
# `a`: neither, `b`: transfer only, `c`: labels only, `d`: both. Return what labels bring (the mean of $c - a$ and $d - b$), what transfer
# brings (the mean of $b - a$ and $d - c$), and the interaction $(d - c) - (b - a)$.


# %% tags=["exercise"]
def factorial(a, b, c, d):
    """Main effect of labels, main effect of transfer, interaction."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Each measured where the other is missing: with an interaction they do not add up to what both bring.
def factorial(a, b, c, d):
    return c - a, b - a, (d - c) - (b - a)


# %% tags=["solution"]
def factorial(a, b, c, d):
    labels = ((c - a) + (d - b)) / 2
    transfer = ((b - a) + (d - c)) / 2
    return labels, transfer, (d - c) - (b - a)


# %% tags=["check"]
for a, b, c, d in (
    (0.5, 0.9, 0.9, 0.95),
    (0.6, 0.7, 0.8, 0.9),
    (0.5, 0.5, 0.9, 0.9),
):
    labels, transfer, interaction = factorial(a, b, c, d)
    assert np.isclose(labels + transfer, d - a), (
        "main effects share out the whole gain"
    )
assert np.isclose(factorial(0.6, 0.7, 0.8, 0.9)[2], 0), "nothing but a sum"
assert np.isclose(factorial(0.5, 0.9, 0.9, 0.95)[2], -0.35), (
    "each does what the other could"
)
assert np.isclose(factorial(0.5, 0.5, 0.9, 0.9)[1], 0), "transfer did nothing"
assert np.isclose(factorial(0.5, 0.9, 0.9, 0.95)[0], 0.225), (
    "labels, averaged over transfer"
)

# %% [markdown]
# ## Look closer: a defect nobody has labelled
#
# `kind[i]` is `"good"` or a type of defect, `train[i]` whether image `i` may be learnt from. For a test on an unseen `held_out` type: which rows may the head learn from, and
# which are tested? Return two arrays of row numbers; what may be learnt from is never tested, even if it is of the unknown type.


# %% tags=["exercise"]
def unseen(kind, train, held_out):
    """Rows to learn from and rows to test, when one type of defect is unknown."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The known types are still among the test images, and lift the AUROC of the unknown one.
def unseen(kind, train, held_out):
    return np.flatnonzero(train & (kind != held_out)), np.flatnonzero(~train)


# %% tags=["solution"]
def unseen(kind, train, held_out):
    learn = np.flatnonzero(train & (kind != held_out))
    test = np.flatnonzero(~train & np.isin(kind, ["good", held_out]))
    return learn, test


# %% tags=["check"]
kind = rng.choice(["good", "crack", "hole", "stain"], 300)
train = rng.random(300) < 0.5
for held_out in ("crack", "hole", "stain"):
    learn, test = unseen(kind, train, held_out)
    assert held_out not in kind[learn], "this type is to be unknown"
    assert set(kind[test]) == {"good", held_out}, "others are tested, too"
    assert train[learn].all() and not train[test].any(), (
        "train says what is for what"
    )
    assert len(learn) == (train & (kind != held_out)).sum(), (
        "row numbers, of all the rest"
    )
    assert len(test) == (~train & ((kind == "good") | (kind == held_out))).sum()

# %% [markdown]
# ## Look closer: another day, another prevalence
#
# The head learnt where half of the images were defective, and gives `p`. At the line one in a hundred is. Only the prior has changed. Correct the probability (Bayes: the odds are multiplied
# by the ratio of the prior odds).


# %% tags=["exercise"]
def at_prevalence(p, learnt, used):
    """Probability of a defect when its prevalence is not learnt but used."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# A ratio of probabilities, not of odds: right for small ones only.
def at_prevalence(p, learnt, used):
    return p * used / learnt


# %% tags=["solution"]
def at_prevalence(p, learnt, used):
    defect = p * used / learnt
    normal = (1 - p) * (1 - used) / (1 - learnt)
    return defect / (defect + normal)


# %% tags=["check"]
assert np.isclose(at_prevalence(0.5, 0.5, 0.01), 0.01), (
    "knowing nothing, the prior is left"
)
assert np.isclose(at_prevalence(0.7, 0.3, 0.3), 0.7), "nothing has changed"
certain = at_prevalence(np.array([0.0, 1.0]), 0.5, 0.01)
assert np.allclose(certain, [0, 1]), "certain stays certain"
assert np.isclose(at_prevalence(at_prevalence(0.8, 0.5, 0.1), 0.1, 0.5), 0.8), (
    "and back"
)
defective = rng.random(400_000) < 0.1
value = rng.normal(size=400_000) + 2 * defective
learnt = 1 / (
    1 + np.exp(-(2 * value - 2))
)  # right where half of them are defective
told = at_prevalence(learnt, 0.5, 0.1)
close = abs(told - 0.5) < 0.05
assert abs(defective[close].mean() - 0.5) < 0.05, (
    "of those told even odds, half are defective"
)
