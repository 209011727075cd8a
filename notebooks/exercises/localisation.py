# %% [markdown]
# # Exercises: where is the defect?
#
# To [the chapter](../localisation.ipynb). Fill in each cell that says *your turn*; the cell below it complains until it is right. Solutions are
# folded, and so is a mistake that looks right. The question nobody has answered yet is at the end of the chapter.

# %%
import numpy as np
import torch
from scipy.ndimage import label

rng = np.random.default_rng(0)

# %% [markdown]
# ## Warm-up: a covariance for every place
#
# A Gaussian for every place has a mean and a covariance at each of `places` positions. How many *different* numbers are that for `d` channels?


# %% tags=["exercise"]
def numbers(places, d):
    """Free parameters of one Gaussian with full covariance at each place."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# A covariance is symmetric: this counts each pair of channels twice.
def numbers(places, d):
    return places * (d + d * d)


# %% tags=["solution"]
def numbers(places, d):
    return places * (d + d * (d + 1) // 2)


# %% tags=["check"]
assert numbers(1, 1) == 2 and numbers(1, 2) == 5 and numbers(10, 3) == 90
assert numbers(256, 152) > 70 * numbers(256, 16), (
    "it grows with the square of the channels"
)

# %% [markdown]
# ## Look closer: small defects count as much as large ones
#
# Per-region overlap: for each connected defect of the mask, the share of its pixels above the threshold; then the mean over the *defects*. Diagonal neighbours
# are connected.


# %% tags=["exercise"]
def region_overlap(heat, mask, threshold):
    """Mean over the connected regions of the mask of the share of pixels found."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# A mean over pixels. A large stain found hides ten cracks missed.
def region_overlap(heat, mask, threshold):
    return (heat > threshold)[mask].mean()


# %% tags=["solution"]
def region_overlap(heat, mask, threshold):
    regions, n = label(mask, structure=np.ones((3, 3)))
    found = heat > threshold
    return np.mean([found[regions == k + 1].mean() for k in range(n)])


# %% tags=["check"]
mask = np.zeros((20, 20), bool)
mask[:10, :10] = True  # a stain of a hundred pixels
mask[15, 15] = mask[16, 16] = True  # a scratch of two, diagonal
heat = np.zeros((20, 20))
heat[:10, :10] = 1
assert region_overlap(heat, mask, 0.5) == 0.5, "one of two defects"
heat[15, 15] = 1
assert region_overlap(heat, mask, 0.5) == 0.75, "half a scratch is half found"
heat[:10, 10:14] = 1
assert region_overlap(heat, mask, 0.5) == 0.75, "false alarms are counted elsewhere"
assert region_overlap(heat, mask, 1) == 0, "above means above"

# %% [markdown]
# ## Look closer: from cells to pixels
#
# A heat map of 4 x 4 cells is enlarged to 64 x 64 pixels. Cell $(0, 0)$ describes the pixels 0 to 15, so its value belongs to their *centre*, between pixels 7 and 8. Enlarge
# by straight lines between the centres (and keep the outer half of the border cells constant). PyTorch can do it: choose the right option. `cells` is a numpy array, and so is the answer.


# %% tags=["exercise"]
def enlarged(cells, side):
    """Square map of cells to side x side pixels, linear between the centres of cells."""
    raise NotImplementedError("your turn")


# %% tags=["mistake"]
# Corners on corners: each value moves outwards, by up to half a cell.
def enlarged(cells, side):
    batch = torch.from_numpy(cells)[None, None]
    large = torch.nn.functional.interpolate(
        batch, size=(side, side), mode="bilinear", align_corners=True
    )
    return large[0, 0].numpy()


# %% tags=["solution"]
def enlarged(cells, side):
    batch = torch.from_numpy(cells)[None, None]
    large = torch.nn.functional.interpolate(
        batch, size=(side, side), mode="bilinear", align_corners=False
    )
    return large[0, 0].numpy()


# %% tags=["check"]
cells = rng.normal(size=(4, 4))
large = enlarged(cells, 64)
assert large.shape == (64, 64)
assert enlarged(cells, 32).shape == (32, 32), "any side"
assert np.allclose(large[:8, :8], cells[0, 0]), "the outer half of a border cell"
halfway = (cells[0, 0] + cells[0, 1]) / 2
assert np.isclose(large[0, 15:17].mean(), halfway), (
    "a straight line between two centres"
)
assert not np.isclose(large[0, 14], large[0, 15]), "steps"
hill = np.zeros((4, 4))
hill[1, 2] = 1
rows, columns = np.indices((64, 64))
weights = enlarged(hill, 64)
centre = [(weights * where).sum() / weights.sum() for where in (rows, columns)]
assert np.allclose(centre, [23.5, 39.5]), "the hill has moved"
