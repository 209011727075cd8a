# %% [markdown]
# # Exercises: how to measure a relationship
#
# To [the chapter](../measures.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: linear CKA
#
# Two networks describe the same images, in rows of `x` and of `y`. With the columns centred, linear CKA is
# $\lVert y^\top x \rVert^2 / (\lVert x^\top x \rVert\, \lVert y^\top y \rVert)$ in Frobenius norms.


# %% tags=["exercise"]
def cka(x, y):
    """Linear CKA (naive) of two descriptions of the same rows."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Not centred: two descriptions that share nothing but a large mean look alike.
def cka(x, y):
    norm = np.linalg.norm
    return norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y))


# %% tags=["solution"]
def cka(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    norm = np.linalg.norm
    return norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y))


# %% tags=["check"]
x, y = rng.normal(size=(500, 5)), rng.normal(size=(500, 7))
turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
assert abs(cka(x, 3 * x @ turn + 10) - 1) < 1e-9, (
    "turned, scaled and moved is the same"
)
assert cka(x + 10, y + 10) < 0.1, "nothing in common"
assert abs(cka(x, y) - cka(y, x)) < 1e-9
plus, half = (
    np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]),
    np.array([[1.0], [-1], [0], [0]]),
)
assert np.isclose(cka(plus, half), np.sqrt(0.5)), "one of two directions is shared"

# %% [markdown]
# ## Look closer: a p-value is never zero
#
# A permutation test compares what was observed with `null`, values under random relabelling. The observed labelling is one of the possible
# ones too. What is the p-value (large values speak against the null)?


# %% tags=["exercise"]
def p_value(observed, null):
    """Probability, without any effect, of a value at least as large as the observed one."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Nineteen draws cannot show that something happens never.
def p_value(observed, null):
    return np.mean(null >= observed)


# %% tags=["solution"]
def p_value(observed, null):
    return (1 + np.sum(null >= observed)) / (1 + len(null))


# %% tags=["check"]
assert np.isclose(p_value(9.0, np.zeros(19)), 1 / 20), (
    "the observed labelling counts, too"
)
assert np.isclose(p_value(0.0, np.zeros(19)), 1), "equal values count"
assert np.isclose(p_value(-9.0, np.zeros(19)), 1), (
    "only large values speak against the null"
)
nulls = rng.normal(size=(20_000, 20))
false_alarms = np.mean([p_value(row[0], row[1:]) < 0.05 + 1e-9 for row in nulls])
assert abs(false_alarms - 0.05) < 0.01, "it must reject one in twenty by chance"

# %% [markdown]
# ## Build: a distance that may be negative
#
# With the kernel $k(a, b) = a^\top b$, the squared MMD of two samples is $\overline{k(x, x')} + \overline{k(y, y')} - 2\,\overline{k(x, y)}$.
# If the first two means contain each row paired with *itself*, the value is above zero for two samples of one distribution, the more so
# the fewer rows there are. Write the estimate without that bias.


# %% tags=["exercise"]
def squared_mmd(x, y):
    """Unbiased squared MMD with the linear kernel; about 0 for two samples of one distribution."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The diagonal is the squared length of each row. It says nothing about two distributions.
def squared_mmd(x, y):
    return (x @ x.T).mean() + (y @ y.T).mean() - 2 * (x @ y.T).mean()


# %% tags=["solution"]
def squared_mmd(x, y):
    def within(z):
        kernel = z @ z.T
        return (kernel.sum() - np.trace(kernel)) / (len(z) * (len(z) - 1))

    return within(x) + within(y) - 2 * (x @ y.T).mean()


# %% tags=["check"]
def two(moved):  # of unlike size, and away from the origin
    return 3 + rng.normal(size=(8, 30)), 3 + moved + rng.normal(size=(15, 30))


draws = [squared_mmd(*two(0)) for _ in range(500)]
assert abs(np.mean(draws)) < 4 * np.std(draws) / np.sqrt(500), "biased"
assert min(draws) < 0, "an unbiased estimate of zero must be able to fall below it"
apart = [squared_mmd(*two(1)) for _ in range(500)]
assert abs(np.mean(apart) - 30) < 1.5, "thirty channels, each moved by one"
