# %% [markdown]
# # Exercises: is an anomaly close to the normal?
#
# To [the chapter](../nearness.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
from scipy.spatial.distance import cdist

rng = np.random.default_rng(0)


def energy(x, y):
    """Energy distance of two samples: 0 for equal distributions."""
    n, m = len(x), len(y)
    within = cdist(x, x).sum() / (n * (n - 1)) + cdist(y, y).sum() / (m * (m - 1))
    return 2 * cdist(x, y).mean() - within


# %% [markdown]
# ## Warm-up: nearness
#
# A distance has no natural unit. The chapter gives it one: 1 is as near to the normal as *further normal images* are, 0 as far from it
# as from a rival. Write it from four distances, of anomalies $A$, normal $N$, further normal $N'$
# and rival $R$: $(d(A, R) - d(A, N)) / (d(N', R) - d(N', N))$.


# %% tags=["exercise"]
def nearness(to_rival, to_normal, normal_to_rival, normal_to_normal):
    """d(A, R), d(A, N), d(N', R), d(N', N): how near the anomalies are."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# A share without ceiling or floor: further normal images would not be at 1, nor a rival at −1.
def nearness(to_rival, to_normal, normal_to_rival, normal_to_normal):
    return (to_rival - to_normal) / (to_rival + to_normal)


# %% tags=["solution"]
def nearness(to_rival, to_normal, normal_to_rival, normal_to_normal):
    return (to_rival - to_normal) / (normal_to_rival - normal_to_normal)


# %% tags=["check"]
assert nearness(10, 2, 10, 2) == 1, "further normal images define the ceiling"
assert nearness(6, 6, 10, 2) == 0, "halfway to the rival"
assert np.isclose(nearness(8, 4, 10, 2), 0.5)
assert nearness(2, 10, 10, 2) == -1, "at the rival"
assert np.isclose(nearness(30, 12, 30, 6), nearness(10, 4, 10, 2)), "no unit"
assert np.isclose(nearness(7, 1, 9, 1), 0.75), "all four distances count"
assert np.isclose(nearness(2, 12, 10, 2), -1.25), "-1 is no floor"

# %% [markdown]
# ## Look closer: the floor is not zero
#
# How far are normal images from normal images? Never split one photograph's crops over both halves: they are near for another reason.
# Return two boolean arrays, each true for a random half of the *groups*, whole and disjoint.


# %% tags=["exercise"]
def halves(groups, rng):
    """Two disjoint halves of the rows that share no group."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Both halves hold crops of every photograph: the floor comes out too low.
def halves(groups, rng):
    first = rng.permutation(len(groups)) < len(groups) // 2
    return first, ~first


# %% tags=["solution"]
def halves(groups, rng):
    names = rng.permutation(np.unique(groups))
    first = np.isin(groups, names[: len(names) // 2])
    return first, ~first


# %% tags=["check"]
groups = np.repeat(np.arange(12), 10)
photographs = rng.normal(size=(12, 6))[groups] + 0.3 * rng.normal(size=(120, 6))
floors = []
for _ in range(20):
    first, second = halves(groups, rng)
    assert not (first & second).any() and (first | second).all()
    assert not set(groups[first]) & set(groups[second]), "a photograph is in both"
    assert len(set(groups[first])) == 6, "halves"
    floors.append(energy(photographs[first], photographs[second]))
assert np.mean(floors) > 0.1, "photographs differ, and the floor must say so"
assert len(set(floors)) > 1, "always the same halves"

# %% [markdown]
# ## Build: equal numbers on both sides
#
# You have 400 photographs as rivals and 20 anomalies, and an estimator that is biased: `loose` below grows as samples shrink. Compare the
# anomalies' distance to the normal with the *rivals'* so that both are estimated from equally many rows: draw rivals often, and return
# the mean over the draws.


# %%
def loose(x, y):
    """Distance of means: biased upwards, the more the fewer rows."""
    return np.linalg.norm(x.mean(axis=0) - y.mean(axis=0))


# %% tags=["exercise"]
def rival_distance(rivals, normal, n_anomalies, rng, draws=50):
    """Distance of the rivals to the normal, as it would look with n_anomalies rows."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# All rivals at once: with them the distance is measured better, and so looks smaller.
def rival_distance(rivals, normal, n_anomalies, rng, draws=50):
    return loose(rivals, normal)


# %% tags=["solution"]
def rival_distance(rivals, normal, n_anomalies, rng, draws=50):
    found = [
        loose(rng.permutation(rivals)[:n_anomalies], normal) for _ in range(draws)
    ]
    return np.mean(found)


# %% tags=["check"]
normal, rivals = rng.normal(size=(400, 60)), rng.normal(size=(400, 60))
anomalies = [
    rng.normal(size=(20, 60)) for _ in range(50)
]  # as near as the rivals are
expected = np.mean([loose(rows, normal) for rows in anomalies])
assert abs(rival_distance(rivals, normal, 20, rng) / expected - 1) < 0.1
few, many = (
    np.std([rival_distance(rivals, normal, 20, rng, draws) for _ in range(20)])
    for draws in (1, 40)
)
assert few > 2 * many > 0, "a mean of more draws varies less"
