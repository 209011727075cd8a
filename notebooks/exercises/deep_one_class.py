# %% [markdown]
# # Exercises: deep transfer for one class
#
# To [the chapter](../deep_one_class.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
import torch

rng = np.random.default_rng(0)
torch.manual_seed(0)

# %% [markdown]
# ## Warm-up: how to cheat
#
# Deep SVDD wants the mean of $\lVert f(x) - c \rVert^2$ small. Take a linear layer $f(x) = Wx + b$. Give weights that reach loss 0 on *every* image.


# %% tags=["exercise"]
def cheating(centre, n_inputs):
    """Weight, shape (len(centre), n_inputs), and bias, of a layer without any loss."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# This reaches zero only if the centre is the origin: one reason to choose another one.
def cheating(centre, n_inputs):
    return np.zeros((len(centre), n_inputs)), np.zeros(len(centre))


# %% tags=["solution"]
# A constant is the most compact code, and tells nothing. Hence: no bias, or a guard.
def cheating(centre, n_inputs):
    return np.zeros((len(centre), n_inputs)), centre


# %% tags=["check"]
centre, images = rng.normal(size=4), rng.normal(size=(100, 9))
weight, bias = cheating(centre, 9)
assert weight.shape == (4, 9)
assert np.allclose(images @ weight.T + bias, centre)

# %% [markdown]
# ## Look closer: an alarm for collapse
#
# The loss of a network that collapses looks splendid. What gives it away is that the codes of *different* images become one. Say whether the codes have collapsed: their total
# variance (summed over the dimensions) is below `share` of what it was at the start.


# %% tags=["exercise"]
def collapsed(codes, at_start, share=0.01):
    """Whether codes, shape (n, d), vary less than a share of what they did at the start."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The variance of all numbers together: a constant code with different entries has plenty.
def collapsed(codes, at_start, share=0.01):
    return codes.var() < share * at_start.var()


# %% tags=["solution"]
def collapsed(codes, at_start, share=0.01):
    return codes.var(axis=0).sum() < share * at_start.var(axis=0).sum()


# %% tags=["check"]
at_start = rng.normal(size=(50, 8))
constant = np.tile(np.linspace(-3, 3, 8), (50, 1))
assert collapsed(constant + 1e-3 * at_start, at_start)
assert not collapsed(0.5 * at_start + 100, at_start), "moved, not collapsed"
one_gone = at_start.copy()
one_gone[:, 0] = 0
assert not collapsed(one_gone, at_start), "seven of eight dimensions still vary"
assert collapsed(0.05 * at_start, at_start) and not collapsed(
    0.2 * at_start, at_start
)

# %% [markdown]
# ## Build: attributions that add up
#
# Integrated gradients follow the straight line from a baseline (a normal image) to the image, and average the gradient of the score on the way; times the difference of image
# and baseline. (`score` takes a batch, shape (n, ...), and returns shape (n,).) Their sum is the difference of the two scores. Use `steps` midpoints.


# %% tags=["exercise"]
def integrated_gradients(score, image, baseline, steps):
    """Attribution of each input, of the shape of image."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# The gradient at the image alone. Where the score has flattened out, nothing is to blame.
def integrated_gradients(score, image, baseline, steps):
    point = image[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(point).sum(), point)
    return (image - baseline) * gradient[0]


# %% tags=["solution"]
def integrated_gradients(score, image, baseline, steps):
    share = (torch.arange(steps) + 0.5) / steps
    share = share.reshape(-1, *[1] * image.ndim)
    line = (baseline + share * (image - baseline)).requires_grad_()
    (gradient,) = torch.autograd.grad(score(line).sum(), line)
    return (image - baseline) * gradient.mean(dim=0)


# %% tags=["check"]
layer = torch.nn.Sequential(
    torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)
)


def score(batch):
    return layer(batch)[:, 0] ** 2


image, baseline = 3 * torch.randn(6), torch.zeros(6)
parts = integrated_gradients(score, image, baseline, 400)
difference = (score(image[None]) - score(baseline[None])).item()
assert parts.shape == image.shape
uneven = integrated_gradients(
    lambda b: b[:, 0] * b[:, 1] ** 2, torch.ones(2), torch.zeros(2), 400
)
assert torch.allclose(uneven, torch.tensor([1 / 3, 2 / 3]), atol=1e-2), (
    "who did what?"
)
assert abs(parts.sum().item() - difference) < 1e-2 * max(1, abs(difference)), (
    "the sum is wrong"
)
assert torch.allclose(integrated_gradients(score, image, image, 10), torch.zeros(6))
one = torch.ones(1)
once = integrated_gradients(lambda b: b[:, 0] ** 3, one, 0 * one, 1)
assert torch.isclose(once, 0.75 * one), "the midpoint of one step is one half"
away = integrated_gradients(lambda b: b[:, 0] ** 2, 3 * one, one, 100)
assert torch.isclose(away, 8 * one, atol=1e-3), "the line begins at the baseline"
