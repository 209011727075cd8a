# %% [markdown]
# # Exercises: normal data as a source domain
#
# To [the chapter](../source_domain.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %% tags=["remove-cell"]
# Installs the book's package where it is missing, as on Colab.
import importlib.util

if importlib.util.find_spec("anomaly_transfer") is None:
    get_ipython().run_line_magic(
        "pip",
        "install -q 'anomaly-transfer[embedded,fast] @ git+https://github.com/OWNER/what-normal-knows'",
    )

# %%
import numpy as np
import torch

from anomaly_transfer.training import simclr

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: few shots, drawn fairly
#
# Draw `k` labelled normal and `k` labelled anomalous images to learn from. No test image may share a group with them, so everything else
# of *their groups* is set aside. `labels` are 0 and 1. Return two arrays of row numbers: to learn from, and to test on.


# %% tags=["exercise"]
def few_shots(labels, groups, k, rng):
    """Row numbers of k images of each label, and of all that share no group with them."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Not the same image, but the next crop of the same photograph.
def few_shots(labels, groups, k, rng):
    shots = np.concatenate(
        [
            rng.choice(np.flatnonzero(labels == label), k, replace=False)
            for label in (0, 1)
        ]
    )
    return shots, np.setdiff1d(np.arange(len(labels)), shots)


# %% tags=["solution"]
def few_shots(labels, groups, k, rng):
    shots = np.concatenate(
        [
            rng.choice(np.flatnonzero(labels == label), k, replace=False)
            for label in (0, 1)
        ]
    )
    return shots, np.flatnonzero(~np.isin(groups, groups[shots]))


# %% tags=["check"]
groups = np.repeat(np.arange(40), 5)
labels = rng.integers(0, 2, 200)
for k in (1, 5, 40):
    shots, test = few_shots(labels, groups, k, rng)
    assert len(set(shots)) == len(shots) == 2 * k, (
        "an image is drawn twice, or too few are"
    )
    assert labels[shots].sum() == k, "k of each label"
    assert not set(groups[shots]) & set(groups[test]), (
        "a photograph is on both sides"
    )
    assert set(test) == set(np.flatnonzero(~np.isin(groups, groups[shots]))), (
        "too much set aside (row numbers, not a mask?)"
    )
drawn = [few_shots(labels, groups, 5, rng)[0] for _ in range(10)]
for kind in (0, 1):
    seen = {
        tuple(sorted(rows[labels[rows] == kind])) for rows in map(np.array, drawn)
    }
    assert len(seen) > 5, "always the same shots"

# %% [markdown]
# ## Look closer: whose mean, whose spread?
#
# A linear classifier on ten labelled images wants features on one scale. Five anomalies are a poor source of a mean; the many *normal*
# images of the source domain are a good one. Standardise `x` with them. A channel that never varies among them must not become
# infinite: leave it out (set it to 0).


# %% tags=["exercise"]
def standardised(x, source):
    """x in units of the source's spread, 0 where the source does not vary."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The labelled images standardise themselves: what they have in common, a shift of all
# anomalies, is gone when only anomalies are passed.
def standardised(x, source):
    spread = x.std(axis=0)
    return np.where(
        spread > 0, (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1), 0
    )


# %% tags=["solution"]
def standardised(x, source):
    # Not by the deviation: that of a constant 0.3 is not quite zero.
    varies = np.ptp(source, axis=0) > 0
    spread = np.where(varies, source.std(axis=0), 1)
    return np.where(varies, (x - source.mean(axis=0)) / spread, 0)


# %% tags=["check"]
source = rng.normal(size=(5000, 3)) * [1, 10, 0] + [5, 0, 0.3]
x = np.array([[6.0, 10.0, 9.0], [4.0, -10.0, 0.3]])
found = standardised(x, source)
assert np.isfinite(found).all() and (found[:, 2] == 0).all(), (
    f"the third channel never varies, although its std is {source.std(axis=0)[2]}"
)
assert np.allclose(found[:, :2], [[1, 1], [-1, -1]], atol=0.2), (
    "source mean, source spread"
)
assert np.allclose(standardised(x[:1], source), found[:1]), (
    "it depends on the others"
)
assert np.allclose(standardised(1e-6 * x, 1e-6 * source), found), (
    "it depends on the unit"
)

# %% [markdown]
# ## Build: the loss that needs no label
#
# Each image gives two views. Each view is to find its partner among *all* other views: a cross-entropy over cosines divided by the
# temperature $\tau$, where a view may not find itself, and the mean over all $2n$ views. Write it for `first[i]` and `second[i]`, views of image `i`.


# %% tags=["exercise"]
def contrast(first, second, temperature):
    """NT-Xent (SimCLR), a scalar tensor."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Only views of the other kind are rivals here; the views of the same kind push too.
def contrast(first, second, temperature):
    a, b = (
        torch.nn.functional.normalize(views, dim=1) for views in (first, second)
    )
    return torch.nn.functional.cross_entropy(
        a @ b.T / temperature, torch.arange(len(a))
    )


# %% tags=["solution"]
def contrast(first, second, temperature):
    z = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    cosines = z @ z.T / temperature
    cosines.fill_diagonal_(-torch.inf)
    n = len(first)
    partner = torch.cat([torch.arange(n) + n, torch.arange(n)])
    return torch.nn.functional.cross_entropy(cosines, partner)


# %% tags=["check"]
torch.manual_seed(0)
for n in (2, 8):
    first = torch.randn(n, 6)
    second = first + 0.5 * torch.randn(n, 6)
    alike = torch.log(torch.tensor(2.0 * n - 1))
    assert torch.isclose(contrast(first, second, 1e6), alike, atol=1e-4), (
        "when hot all views are alike: one of 2n - 1, itself left out"
    )
    expected = simclr.contrast(first, second)
    assert torch.isclose(contrast(first, second, simclr.TEMPERATURE), expected), (
        "the mean over all 2n views"
    )
    assert torch.isclose(
        contrast(5 * first, second, simclr.TEMPERATURE), expected
    ), "a cosine does not know how long a vector is"
