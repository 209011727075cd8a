# %% [markdown]
# # Preface: what normal knows
#
# Below are ten solar cells, photographed in the dark while a current makes them glow. Five are certainly broken. Which?
# (The answer is at the end of this page.) You have probably
# never seen such pictures before, and still you may find the broken ones: you compare each cell with the others, and
# with all the pictures of other things that you have seen in your life.
#
# A network can try the same. It has seen a million photographs of dogs, boats and coffee cups, then a few hundred
# *normal* cells, and not one broken cell. This book asks how far that gets it, and why.

# %% tags=["remove-cell"]
# Installs the book's package where it is missing, as on Colab.
import importlib.util

if importlib.util.find_spec("anomaly_transfer") is None:
    get_ipython().run_line_magic(
        "pip",
        "install -q 'anomaly-transfer[embedded,fast] @ git+https://github.com/OWNER/what-normal-knows'",
    )

# %% tags=["parameters", "hide-cell"]
profile = "laptop"  # smoke, laptop, study or full: see "Profiles" below

# %% tags=["hide-input"] mystnb={"image": {"alt": "Ten glowing solar cells in two rows; some show dark cracks or dark areas"}, "figure": {"name": "fig-which", "caption": "Ten solar cells under electroluminescence, five of them certainly defective. Which? (The answer is at the end of this page. Cells: ELPV, CC BY-NC-SA 4.0.)"}}
import numpy as np

from anomaly_transfer import benchmarks
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.pages import plots

plots.use_style()
cells = benchmarks.get("elpv").load("poly")
table = cells.annotations.open()
rng = np.random.default_rng(4)
chosen = np.concatenate(
    [
        rng.choice(np.flatnonzero(table["anomaly_class"] == kind), 5)
        for kind in (NORMAL, "p = 1")
    ]
)
chosen = rng.permutation(chosen)
figure = plots.image_sheet(
    {
        "A": [cells.images[i] for i in chosen[:5]],
        "B": [cells.images[i] for i in chosen[5:]],
    }
)

# %% [markdown]
# ## Three papers, one question
#
# Defects are rare, and the next one may look like none before. So a detector should need normal images only, and all
# else it knows must be *transferred* from somewhere. Three papers say from where, and how:
#
# 1. {cite:t}`sadrani2024` claim that the space of normal patterns *correlates* with the space of each kind of
#    anomaly, better than large collections of photographs do, so that normal images are a good source to learn from.
# 2. {cite:t}`rippel2022` fine-tune a pre-trained network on normal images so that they form a Gaussian, measure the
#    Mahalanobis distance from it, and stop before the network forgets what it knew.
# 3. {cite:t}`minhas2019` transfer a classifier and report that it beats methods that learn from one class alone.
#
# We could read the abstracts of these papers but not all of their methods and tables. Where a protocol is not known to
# us, the chapter says *our protocol* and gives its reasons; we never claim to reproduce a table we have not seen.
#
# ## How to read the numbers
#
# - Every result on these pages was computed by the code of the page when the site was built, or is read from a *record*
#   that names its code, data, weights, hardware and date. None of ours was typed; what others published stands in tables of its own,
#   with its source.
# - Headline results come with a 95 % interval. A difference between two methods is *paired* wherever the runs allow it: same images,
#   same splits. Where it is not, the page says so.
# - A claim that fails is a finding, and gets a page like any other.

# %% [markdown]
# ## Three ways to use this book
#
# **Read it.** Each chapter asks one question; the figures carry the argument. On the site, *Show code cell source*
# reveals how a figure was made.
#
# **Learn with it.** Each chapter is a notebook that runs on its own, on Colab (the rocket button of each page) or on a laptop
# without a GPU: `pip install jupyterlab`, download the notebook (the button with the arrow), open it; its first cell installs the rest.
# Change something and run it again; the exercises at the end say what, and each chapter has three more that check your answer.
#
# **Regenerate it.** In a copy of the repository, `make book` runs every chapter on real images and builds this site;
# only what is stale is computed.
#
# ## Profiles
#
# How large an experiment is, is set in one place: the cell `profile = ...` at the top of each notebook. This page was built with the profile marked below.

# %% tags=["hide-input"]
import pandas as pd

from anomaly_transfer import profiles

rows = [profiles.get(name).model_dump() for name in profiles.names()]
sizes = pd.DataFrame(rows).set_index("name")[
    ["purpose", "image_size", "seeds", "bootstrap"]
]
sizes["seeds"] = sizes["seeds"].map(len)
sizes.insert(
    0,
    "this page",
    ["→" if name == profiles.get(profile).name else "" for name in sizes.index],
)
sizes

# %% [markdown]
# And this is the machine it was built on. Seconds for each chapter stand on the page
# [Execution times and versions](../book/executions.md).

# %% tags=["hide-input", "nbval-ignore-output"]
from anomaly_transfer import provenance
from anomaly_transfer.device import default_device
from anomaly_transfer.features.extraction import default_engine

device = default_device()
live = {
    "profile": profiles.get(profile).name,
    "hardware": provenance.hardware(),
    "device": device,
    "feature extraction": default_engine(device),
    "date (UTC)": provenance.now(),
    **provenance.versions(),
}
pd.DataFrame({"value": live})

# %% [markdown]
# ## The answer
#
# The same cells again, normal ones in the first row, defective ones in the second.

# %% tags=["hide-input"] mystnb={"image": {"alt": "The same ten solar cells, the five normal ones in the first row and the five defective ones in the second"}, "figure": {"name": "fig-which-answer", "caption": "The same cells, sorted. Some defects are cracks or dead areas that anyone sees; others pass for texture. (Cells: ELPV, CC BY-NC-SA 4.0.)"}}
broken = table["anomaly_class"].iloc[chosen].to_numpy() != NORMAL
rows = {
    "normal": [cells.images[i] for i in chosen[~broken]],
    "certainly defective (p = 1)": [cells.images[i] for i in chosen[broken]],
}
figure = plots.image_sheet(rows, mark=["certainly defective (p = 1)"])

# %% [markdown]
# About these ten the experts were sure. About many others they were not, and said so. What they said, and how easily it misleads an experiment, is the subject of the next chapter.
