# %% [markdown]
# # Exercises: cracks, from a score to a decision
#
# To [the chapter](../decisions.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
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

from anomaly_transfer.metrics import decision

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: the cost of never looking
#
# Without any detector you can call everything fine, or everything cracked. What does the cheaper of the two cost at weight `w`, by $C = w\,m + (1 - w)\,a$ with
# $m$ the share of cracks missed and $a$ that of false alarms?


# %% tags=["exercise"]
def blind(w):
    """Expected cost of the better of the two decisions that need no image; w may be an array."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# A toss of a coin costs one half at any weight, and is never better than the cheaper of the two.
def blind(w):
    return 0.5 + 0 * w


# %% tags=["solution"]
# All fine: every crack missed, cost w. All cracked: every wall an alarm, cost 1 - w.
def blind(w):
    return np.minimum(w, 1 - w)


# %% tags=["check"]
w = np.linspace(0, 1, 11)
assert np.allclose(blind(w), [decision.blind_cost(weight) for weight in w])
assert blind(0.5) == 0.5 and blind(0.0) == 0 and blind(1.0) == 0

# %% [markdown]
# ## Look closer: how much is one threshold worth?
#
# Return the expected cost of calling cracked what scores *above* the threshold, at prevalence `prevalence` where it is used and with a miss worth `ratio` false alarms.


# %% tags=["exercise"]
def cost(scores, cracked, threshold, prevalence, ratio):
    """Expected cost in units of the worst case, by the equation."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The errors are counted at the prevalence of the test set, where half of the walls crack.
def cost(scores, cracked, threshold, prevalence, ratio):
    missed = np.sum(scores[cracked] <= threshold)
    alarms = np.sum(scores[~cracked] > threshold)
    return (ratio * missed + alarms) / (ratio * cracked.sum() + (~cracked).sum())


# %% tags=["solution"]
def cost(scores, cracked, threshold, prevalence, ratio):
    misses = np.mean(scores[cracked] <= threshold)
    false_alarms = np.mean(scores[~cracked] > threshold)
    weight = prevalence * ratio / (prevalence * ratio + 1 - prevalence)
    return weight * misses + (1 - weight) * false_alarms


# %% tags=["check"]
cracked = np.repeat([False, True], 500)
scores = rng.normal(size=1000) + 1.5 * cracked
for prevalence, ratio in ((0.01, 10), (0.2, 1), (0.001, 1000)):
    weight = decision.cost_weight(prevalence, ratio)
    for threshold in (-1, 0.7, 3, scores[0], scores[-1]):
        alarms, misses = decision.error_rates(scores, cracked, threshold)
        expected = decision.expected_cost(alarms, misses, weight)
        assert np.isclose(
            cost(scores, cracked, threshold, prevalence, ratio), expected
        )

# %% [markdown]
# ## Build: the price of choosing in hindsight
#
# Choose the cheapest threshold on one set of walls and pay on another. Write a function that chooses (among the scores at hand, and calling everything cracked); the check pays.


# %% tags=["exercise"]
def cheapest(scores, cracked, weight):
    """The threshold of least cost on these images; above it is called cracked."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The threshold with most right decisions is the cheapest at one weight only.
def cheapest(scores, cracked, weight):
    candidates = np.unique(scores)
    right = [np.mean((scores > c) == cracked) for c in candidates]
    return candidates[np.argmax(right)]


# %% tags=["solution"]
def cheapest(scores, cracked, weight):
    candidates = np.r_[scores.min() - 1, np.unique(scores)]
    misses = np.array([np.mean(scores[cracked] <= c) for c in candidates])
    alarms = np.array([np.mean(scores[~cracked] > c) for c in candidates])
    return candidates[np.argmin(weight * misses + (1 - weight) * alarms)]


# %% tags=["check"]
def paid(threshold, scores, cracked, weight):
    alarms, misses = decision.error_rates(scores, cracked, threshold)
    return decision.expected_cost(alarms, misses, weight)


walls = np.repeat([False, True], 20)
hindsight, honest = [], []
for _ in range(200):
    here, there = (rng.normal(size=40) + walls for _ in range(2))
    for weight in (0.05, 0.5, 0.95):
        chosen = cheapest(here, walls, weight)
        hindsight.append(paid(chosen, here, walls, weight))
        honest.append(paid(chosen, there, walls, weight))
        assert hindsight[-1] <= decision.blind_cost(weight) + 1e-12, (
            "worse than eyes closed"
        )
        least = min(
            paid(c, here, walls, weight) for c in np.r_[here.min() - 1, here]
        )
        assert np.isclose(hindsight[-1], least), "a cheaper one was there"
assert np.mean(honest) > 1.1 * np.mean(hindsight), (
    "hindsight is never worth what it says"
)
