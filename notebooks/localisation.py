# %% [markdown]
# # Where is the defect?
#
# **Question.** An inspector wants to see *where*. The objective of fine-tuning sees an image only as a mean over all its places. Does
# a network that was tuned in this way still say where the defect is, better or worse than before?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](frozen_features.ipynb) (patch detectors) and [](finetuning.ipynb) (fine-tuning and its stop).
# *You will be able to* choose between a Gaussian for every position and one for all, and to compare heat maps by number and by eye.
# ```

# %% tags=["remove-cell"]
# Installs the book's package where it is missing, as on Colab.
import importlib.util

if importlib.util.find_spec("anomaly_transfer") is None:
    get_ipython().run_line_magic(
        "pip",
        "install -q 'anomaly-transfer[embedded,fast] @ git+https://github.com/OWNER/what-normal-knows'",
    )

# %% tags=["parameters", "hide-cell"]
profile = "laptop"  # smoke, laptop, study or full: see the preface

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from IPython.display import Markdown
from PIL import Image

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.analysis import ablation
from anomaly_transfer.metrics import aggregate
from anomaly_transfer.pages import executions, plots
from anomaly_transfer.store import Store
from anomaly_transfer.studies import finetuning, localisation, protocol, records
from anomaly_transfer.studies.localisation import FROZEN, LAST

plots.use_style()
settings = profiles.get(profile)

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("localisation", profile)

# %% [markdown]
# ## A Gaussian for every position, or one for all
#
# Instead of the mean over all places, take the feature vector $f_{ij}$ at each place $(i, j)$ of a map, here of strides 8 and 16
# together, and ask how far it is from a Gaussian of normal patches:
#
# $$
# s_{ij}(x) = \sqrt{\left(f_{ij}(x) - \mu_{ij}\right)^\top \Sigma_{ij}^{-1} \left(f_{ij}(x) - \mu_{ij}\right)} .
# $$ (eq-patch)
#
# With a Gaussian for each position (`patch-gaussian`, the idea of PaDiM {cite:p}`defard2021`) a screw thread is normal where the thread
# is, and nowhere else. It is made for aligned images, and it has one sample an image for each covariance. *One* Gaussian for all positions
# (`patch-shared`: $\mu_{ij} = \mu$, $\Sigma_{ij} = \Sigma$) has hundreds of samples an image, and cannot know what belongs where.
# {cite:t}`rippel2022` report that their segmentation is *comparable* to the state of the art. How they turned tuned representations into
# maps is unknown to us; what follows is our protocol.
#
# ## The frozen network's heat maps
#
# Bricks, which nobody has aligned, with drawn defects. For each defective image alone: how well does its map tell defect
# pixels from the others (*pixel AUROC*)? The three best cases and the three worst:

# %%
store = Store()
category = benchmarks.get("surfaces").load("brick", settings.limit)
(fold,) = protocol.folds(category, 0, settings.tuned_folds, settings.tuned_test)[:1]
found = localisation.heat(category, fold, finetuning.DEFAULT, 0, settings, store)
detector = "patch-shared"
each = found.by_image(detector).sort_values(FROZEN, ascending=False)

# %% tags=["hide-input"]
kinds = category.annotations.open()["anomaly_class"].to_numpy()


def sheet(places, states):
    pictures = [
        category.images[row].convert("RGB").resize((128, 128))
        for row in found.rows[places]
    ]
    masks = [Image.fromarray(found.masks[place]) for place in places]
    rows = {"image": pictures, "defect": masks}
    rows |= {
        state: [plots.heat(found.maps[detector, state][place]) for place in places]
        for state in states
    }
    if LAST in states:
        change = found.maps[detector, LAST] - found.maps[detector, FROZEN]
        rows["change"] = [plots.heat(change[place]) for place in places]
    return plots.image_sheet(
        rows, mark=["defect"], columns=list(kinds[found.rows[places]])
    )


# %% tags=["hide-input"] mystnb={"image": {"alt": "Six bricks with their defects and heat maps: the three that are told best and the three that are told worst"}, "figure": {"name": "fig-heat-frozen", "caption": "Bricks, where their defects are, and heat maps of the frozen network (patch-shared): the three best (left) and the three worst (right). Each map runs from its own lowest to its own highest score. (Data: brick of scikit-image.)"}}
figure = sheet(np.r_[each.index[:3], each.index[-3:]], [FROZEN])

# %% tags=["remove-input"]
of_kind = (
    each[FROZEN]
    .groupby(kinds[found.rows[each.index]])
    .median()
    .sort_values(ascending=False)
)
Markdown(
    "Median pixel AUROC of single images, by kind of defect: "
    + ", ".join(f"{kind} {value:.3f}" for kind, value in of_kind.items())
    + f". The best image has {each[FROZEN].max():.3f}, the worst {each[FROZEN].min():.3f}; at one half, a map says nothing of where "
    "the defect is."
)

# %% [markdown]
# One thing stands out in several of these maps: the border glows. A likely cause is the padding: the network sees zeros beyond the border,
# so that a patch there is unlike all others, in normal images as well. A Gaussian for each position would know that; a shared one cannot.
# The cause is not tested here, but where the false alarms are can be: on normal images the shared one's scores should be higher at
# the border, and leaving an eighth out at each side should help it more than the other. (Images count if some of their defect is left.)

# %% tags=["hide-input"]
rows = {}
for name in localisation.DETECTORS:
    whole, inner = (part.by_image(name)[FROZEN] for part in (found, found.inner()))
    both = whole.index.intersection(inner.index)
    rows[name] = {
        "score at the border / inside": found.border(name),
        "pixel AUROC": whole[both].median(),
        "without the border": inner[both].median(),
    }
border = pd.DataFrame(rows).T.rename_axis("detector")
border.round(3)

# %% tags=["remove-input"]
helped = border["without the border"] - border["pixel AUROC"]
Markdown(
    "Normal images score "
    + ", ".join(
        f"{row.iloc[0]:.2f} times as high at the border ({name})"
        for name, row in border.iterrows()
    )
    + ". Leaving it out changes the median pixel AUROC of an image by "
    + ", ".join(f"{value:+.3f} ({name})" for name, value in helped.items())
    + ": "
    + (
        "the shared one's false alarms are at the border."
        if border.iloc[:, 0]["patch-shared"] > 1
        and helped["patch-shared"] > max(0, helped["patch-gaussian"])
        else "the border is not what sets the two apart."
    )
)

# %% [markdown]
# ## Before and after
#
# The same detectors, fitted anew on the maps of the network of the last epoch. Beside the pixel AUROC stands *PRO*, the per-region overlap
# {cite:p}`bergmann2020`: the share of each connected defect that lies above a threshold, mean over defects, so that a small one counts as
# much as a large one, and over thresholds with up to 30 % of normal pixels above them.

# %% tags=["hide-input"]
live = localisation.run(
    "surfaces", "brick", finetuning.DEFAULT, 0, profile, store
).frame()
names = {"pixel_auroc": "pixel AUROC", "pro": "PRO", "auroc": "AUROC of images"}
live["metric"] = live["metric"].map(names)
gained = live[(live["state"] == LAST) & (live["metric"] != names["auroc"])]
gained = gained[["detector", "state", "metric", "gain", "gain low", "gain high"]]
gained = gained.set_axis(
    ["detector", "state", "metric", "value", "low", "high"], axis=1
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Gain in pixel AUROC and PRO by fine-tuning on bricks, for two detectors, with intervals"}, "figure": {"name": "fig-localised-live", "caption": "What fine-tuning adds on bricks, paired on the same images, with 95 % intervals over images; one seed. Dashed: no gain. (Data: brick of scikit-image.)"}}
figure = plots.intervals(
    gained,
    row="detector",
    column="metric",
    label="gain",
    chance=0.0,
)

# %% tags=["remove-input"]
level = live.pivot(index=["detector", "metric"], columns="state", values="value")
change = each[LAST] - each[FROZEN]
Markdown(
    "Frozen, and at the last epoch: "
    + "; ".join(
        f"{name}, {metric} {row[FROZEN]:.3f} and {row[LAST]:.3f}"
        for (name, metric), row in level.iterrows()
    )
    + f". The validation stopped at epoch {found.epochs[localisation.STOPPED]}, the last one is {found.epochs[LAST]}. From the frozen network "
    f"to the last epoch the pixel AUROC of single images changes by {change.min():+.3f} to {change.max():+.3f}, and rises in "
    f"{(change > 0).mean():.0%} of {len(change)}."
)

# %% [markdown]
# The images whose maps gain most, and those that lose most:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six bricks with their defects, heat maps of the frozen network and heat maps of the last epoch: three that gain most and three that lose most"}, "figure": {"name": "fig-heat-change", "caption": "Heat maps before fine-tuning, at its last epoch, and the last minus the first: the three images that gain most (left) and the three that lose most (right). Each map runs from its own lowest to its own highest score. (Data: brick of scikit-image.)"}}
order = change.sort_values(ascending=False).index
figure = sheet(np.r_[order[:3], order[-3:]], [FROZEN, LAST])

# %% [markdown]
# ## On every benchmark with masks
#
# Recorded at the `study` profile (128 px, so that a map of stride 8 has 16 by 16 places), every seed with a training and a fold of
# its own. First what the two detectors reach without any tuning:

# %% tags=["hide-input"]
recorded = records.frame("localisation")
recorded["where"] = recorded["benchmark"] + " " + recorded["category"]
recorded["metric"] = recorded["metric"].map(names)
frozen = recorded[recorded["state"] == FROZEN]
reached = aggregate.over_seeds(frozen, ["where", "detector", "metric"])
reached = reached[reached["metric"] != names["auroc"]]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Pixel AUROC and PRO of two patch detectors on the frozen network, by data set"}, "figure": {"name": "fig-localised-frozen", "caption": "Frozen network: a Gaussian for every position (patch-gaussian) and one for all (patch-shared). Mean over seeds with 95 % intervals. (Data: the benchmarks as named; recorded.)"}}
figure = plots.intervals(
    reached,
    row="where",
    hue="detector",
    column="metric",
    label="value",
    chance=None,
)

# %% tags=["remove-input"]
pro = frozen[frozen["metric"] == "PRO"].pivot_table(
    index=["where", "seed"], columns="detector", values="value", sort=False
)
lead = (pro["patch-gaussian"] - pro["patch-shared"]).rename("value").reset_index()
lead = aggregate.over_seeds(lead, ["where"])
lead["sign"] = ablation.signs(lead)
pays, costs = (
    ", ".join(lead.loc[lead["sign"] == sign, "where"]) or "no data set"
    for sign in ("above zero", "below zero")
)
Markdown(
    "PRO with a Gaussian for each position minus that with one for all, paired by seed: "
    + ", ".join(
        f"{words} ({where})"
        for where, words in ablation.formatted(lead.set_index("where")).items()
    )
    + f". A Gaussian for each position is ahead beyond its interval on {pays}, and behind on {costs}. Nobody aligned bricks, grass, gravel "
    "or asphalt, and in a crop of grass no place has a content to know. So where it is ahead, more than knowing what belongs where is at work: the border is one "
    "candidate, many Gaussians instead of one another. We have not taken them apart."
)

# %% [markdown]
# And what fine-tuning adds:

# %% tags=["hide-input"]
after = recorded[recorded["state"] != FROZEN].assign(
    value=lambda rows: rows["gain"]
)
after = aggregate.over_seeds(after, ["where", "detector", "state", "metric"])
after["sign"] = ablation.signs(after)
after["line"] = after["where"] + ", " + after["detector"]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Gain in pixel AUROC and PRO by fine-tuning, by data set and detector"}, "figure": {"name": "fig-localised-gain", "caption": "What fine-tuning adds to two patch detectors, stopped by validation and at the last epoch: mean over seeds of paired gains with 95 % intervals. Dashed: no gain. (Data: the benchmarks as named; recorded.)"}}
figure = plots.intervals(
    after[after["metric"] != names["auroc"]],
    row="line",
    hue="state",
    column="metric",
    label="gain",
    chance=0.0,
)

# %% tags=["remove-input"]
final = after[after["state"] == LAST].set_index(["metric", "line"])


def told(metric):
    part = final.loc[metric]
    words = ablation.formatted(part)
    n = part["sign"].value_counts()
    return (
        f"{metric}: above zero beyond its interval in {n.get('above zero', 0)} of {len(part)} cases and below in {n.get('below zero', 0)}, "
        f"{words[part['value'].idxmin()]} to {words[part['value'].idxmax()]}"
    )


Markdown(
    "At the last epoch, over data sets and detectors (which share their networks and images, so that cases are not independent): "
    + "; ".join(told(metric) for metric in names.values())
    + "."
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# The detectors are fitted anew after fine-tuning, so that whatever *linear* change the network made to all patches is undone by the whitening.
# Only what it does to defects and normal patches differently can show in a heat map.
# ```
#
# ## What we learnt
#
# - A Gaussian for each position can know what belongs where, and pays with few samples; one for all has many and knows no place.
#   The first can be ahead even where nothing is aligned.
# - The objective never saw a place, and its maps have to be measured, not assumed; whether an objective for places would do better is
#   exercise 4.
# - Look at the worst maps first. A mean over pixels hides images in which the map points elsewhere.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/localisation.ipynb). And four to try out here:
#
# 1. *Warm-up.* The maps of strides 8 and 16 have 40 and 112 channels. How many numbers do covariances for each of 16 x 16 positions
#    hold, and how many images are they estimated from?
# 2. *Look closer.* Use `detector = "patch-gaussian"` in the sheets above. Which defects does it miss that the shared one finds?
# 3. *Look closer.* Tune with the variant `last-level`. The levels of the maps lie before the last one: do the maps change at all?
# 4. *Research.* Write an objective for patches, the mean of {eq}`eq-patch` over all places, in `training/mahalanobis.py`. Does localisation gain
#    where detection did not?
#
# ## Further reading
#
# - {cite:t}`bergmann2020`: where the per-region overlap comes from.
# - {cite:t}`cohen2020`: the patch, its nearest neighbour in normal images, and nothing to train.
