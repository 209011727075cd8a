# %% [markdown]
# # Exercises: limits
#
# To [the chapter](../limits.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import heapq

import numpy as np

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: how many jobs?
#
# An entry of the plan lists benchmarks with their numbers of categories, variants and seeds; a job is one of each. Count the jobs of an entry.


# %% tags=["exercise"]
def n_jobs(categories, variants, seeds):
    """categories: how many each benchmark has, e.g. {"elpv": 2, "mnist": 10}."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Benchmarks are not the unit: a benchmark of ten classes is ten jobs each time.
def n_jobs(categories, variants, seeds):
    return len(categories) * len(variants) * len(seeds)


# %% tags=["solution"]
def n_jobs(categories, variants, seeds):
    return sum(categories.values()) * len(variants) * len(seeds)


# %% tags=["check"]
assert n_jobs({"elpv": 2, "mnist": 10}, ["protocol", "euclidean"], range(5)) == 120
assert n_jobs({"mvtec_ad": 15}, ["protocol"], range(5)) == 75
assert n_jobs({}, ["protocol"], range(5)) == 0

# %% [markdown]
# ## Look closer: a forecast has an error too
#
# A forecast scales a measured time. You have measured several runs of one kind, and will run `n` of them. Return the expected total and a standard deviation of it, if runs vary as the
# measured ones did and independently, *and* the mean is known only as well as the measured runs tell it.


# %% tags=["exercise"]
def forecast(measured, n):
    """Expected total time of n runs and its standard deviation."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# With many runs luck averages out, and the error of the mean, which does not, is forgotten.
def forecast(measured, n):
    return n * np.mean(measured), np.std(measured, ddof=1) * np.sqrt(n)


# %% tags=["solution"]
# Two parts: the luck of the n runs, and n times the error of the mean.
def forecast(measured, n):
    spread = np.std(measured, ddof=1)
    return n * np.mean(measured), spread * np.sqrt(n + n**2 / len(measured))


# %% tags=["check"]
errors, told = [], []
for _ in range(4000):
    measured = rng.normal(60, 10, 8)
    total, deviation = forecast(measured, 100)
    errors.append(rng.normal(60, 10, 100).sum() - total)
    told.append(deviation)
assert abs(np.mean(errors)) < 20
assert abs(np.sqrt(np.mean(np.square(told))) / np.std(errors) - 1) < 0.1
total, few = forecast([50.0, 50.0, 80.0], 3)
assert np.isclose(total, 180)
assert np.isclose(few, np.sqrt(300) * np.sqrt(3 + 3)), (
    "both parts: luck, and the error of the mean"
)

# %% [markdown]
# ## Build: when will it be done?
#
# A queue gives the next job to the worker that is free first. Jobs come in the order given. How long does it take with `workers` workers? Then: does it help to send the longest jobs first?


# %% tags=["exercise"]
def finished(times, workers):
    """When the last of the jobs ends, each started by the first free worker."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Work can be divided, jobs cannot: the last long one keeps a single worker busy.
def finished(times, workers):
    return sum(times) / workers


# %% tags=["solution"]
def finished(times, workers):
    free = [0.0] * workers
    for time in times:
        heapq.heappush(free, heapq.heappop(free) + time)
    return max(free)


# %% tags=["check"]
assert finished([1, 1, 1, 1], 2) == 2
assert finished([1, 1, 1, 5], 2) == 6, "the long one starts last"
assert finished([5, 1, 1, 1], 2) == 5, "the long one starts first"
times = rng.exponential(size=50)
as_they_come, longest_first = (
    finished(order, 8) for order in (times, sorted(times)[::-1])
)
assert max(times.max(), times.sum() / 8) <= longest_first
assert longest_first <= as_they_come, "nearly always; it is no theorem"
