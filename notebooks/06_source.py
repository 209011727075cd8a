# %% [markdown]
# # Normal data as a source domain
#
# **Question.** Normal images are plentiful and need no labels. If a network first learns to describe *them*, do a few labelled
# anomalies then teach it more than they teach a network that knows only photographs?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](05_hypothesis.ipynb) (source and target, the four networks). *You will be able to* compare starting points
# for few-shot learning fairly, with the same draws and the same tests, and tell a gain from the luck of a draw.
# ```

# %% tags=["remove-cell"]
# On Colab this installs the book's package; anywhere else it does nothing.
import importlib.util

if importlib.util.find_spec("anomaly_transfer") is None:
    get_ipython().run_line_magic(
        "pip",
        "install -q 'anomaly-transfer[embedded,fast] @ git+https://github.com/OWNER/what-normal-knows'",
    )

# %% tags=["parameters", "hide-cell"]
profile = "laptop"  # smoke, laptop, study or full: see the preface

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown

from anomaly_transfer import domains, few_shot, plots, profiles

plots.use_style()
settings = profiles.get(profile)

# %% [markdown]
# ## The claim, and four starting points
#
# **P1.c**: normal samples are a close-by, plentiful source domain; using them for transfer is "quite encouraging"
# {cite:p}`sadrani2024`. The paper's protocol is unknown to us, so this is ours. A network starts
#
# | start | parameters | then |
# |---|---|---|
# | `random` | drawn at random | |
# | `imagenet` | from a million labelled photographs | |
# | `random+normal` | drawn at random | self-supervised on the source's normal images |
# | `imagenet+normal` | from photographs | self-supervised on the source's normal images |
#
# and is then frozen. A linear classifier (ridge) is fitted on its features of $k$ labelled images of normal and of each anomaly
# class, drawn from the source, and tested on the target, which shares no group with it. All four get the *same* draws. If
# the claim holds, `random+normal` lies well above `random`, and `imagenet+normal` above `imagenet`.
#
# Self-supervision here is SimCLR {cite:p}`chen2020` on small pictures, for a few minutes at most: what two cores can do. A
# gain that it does not show may still exist with more of it.

# %%
cases = [("surfaces", "brick"), ("elpv", "poly")]
found = pd.concat(
    few_shot.run(*case, start, 0, profile).frame()
    for case in cases
    for start in domains.STARTS
)
found["where"] = found["benchmark"] + " " + found["category"]

# %% [markdown]
# ## Is this anomalous?
#
# AUROC of each class against normal, mean over classes and draws. Bands: 95 % of the mean over draws (Student's t), so they
# say how much luck is in the few labels, not how much in the choice of test images.

# %% tags=["hide-input"]
together = found[found["level"] == few_shot.ALL]
detection = together[
    (together["task"] == "detection") & (together["anomaly_class"] != "control")
]
# A class that has too few images for the largest k would change the mean: only classes with all k.
complete = detection.groupby(["where", "anomaly_class"])["k"].transform("max")
detection = detection[
    complete == complete.groupby(detection["where"]).transform("max")
]

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC against number of labelled images for four starts on bricks with drawn defects"}, "figure": {"name": "fig-shots-brick", "caption": "Drawn defects on bricks: AUROC by labelled images of each class, for four starts. Dashed: chance. (Data: brick of scikit-image.)"}}
brick = few_shot.over_draws(
    detection[detection["category"] == "brick"], ["start", "k"]
)
figure = plots.curves(
    brick, "k", "start", "AUROC", "labelled images a class", 0.5, log=True
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC against number of labelled images for four starts on solar cells"}, "figure": {"name": "fig-shots-cells", "caption": "Polycrystalline solar cells, those that have enough labelled images: AUROC by labelled images of each class. Dashed: chance. (Data: ELPV.)"}}
cells = few_shot.over_draws(
    detection[detection["category"] == "poly"], ["start", "k"]
)
figure = plots.curves(
    cells, "k", "start", "AUROC", "labelled images a class", 0.5, log=True
)

# %% [markdown]
# ## Draw by draw
#
# The same draws for every start make a paired comparison possible: the gain of training on normal images, at each $k$.

# %% tags=["hide-input"]
by_draw = detection.pivot_table(
    index=["where", "k", "draw"], columns="start", values="value"
)
gains = pd.concat(
    few_shot.over_draws(
        (by_draw[f"{first}+normal"] - by_draw[first]).rename("value").reset_index(),
        ["where", "k"],
    ).assign(start=f"from {first}")
    for first in ("random", "imagenet")
)
gains["shots"] = "k = " + gains["k"].astype(str)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Gain in AUROC by self-supervision on normal images, from a random and from an ImageNet start, with intervals, for each number of labelled images"}, "figure": {"name": "fig-gains", "caption": "What self-supervision on normal images adds to the AUROC, by labelled images a class, paired over draws. Dashed: no gain. (Data: brick of scikit-image, ELPV.)"}}
figure = plots.intervals(
    gains,
    row="shots",
    hue="start",
    column="where",
    label="gain in AUROC",
    chance=0.0,
)

# %% tags=["remove-input"]
clear = gains.assign(up=gains["low"] > 0, down=gains["high"] < 0)
lines = [
    f"{start}: up in {part['up'].sum()}, down in {part['down'].sum()} of {len(part)} cases, "
    f"mean {part['value'].mean():+.3f}"
    for start, part in clear.groupby("start", sort=False)
]
top = by_draw.groupby("where").mean()
Markdown(
    "Clear of zero: "
    + "; ".join(lines)
    + ". And the rival: over all k, `imagenet` that was not trained on normal images has "
    + ", ".join(f"{row['imagenet']:.2f} ({where})" for where, row in top.iterrows())
    + ", `random+normal` "
    + ", ".join(
        f"{row['random+normal']:.2f} ({where})" for where, row in top.iterrows()
    )
    + "."
)

# %% [markdown]
# Three cautions. Each network was trained once, so that another training might come out differently. `random` keeps the
# statistics of its batch norms as they start, while training on normal images also sets them: part of what `random+normal` gains
# is that. And closeness is one virtue of a source, the amount that can be learnt from it another: a million photographs
# against some dozens of bricks.
#
# ## Which anomaly is it?
#
# Recognising the class is harder than detection: balanced accuracy over normal and all classes. The number of classes
# changes with $k$ where a class runs out of images, so it is named.

# %% tags=["hide-input"]
recognition = together[together["task"] == "recognition"]
table = recognition.pivot_table(
    index=["where", "anomaly_class", "k"], columns="start", values="value"
)
table = table[list(domains.STARTS)]
guess = [1 / int(classes.split()[0]) for _, classes, _ in table.index]
table.assign(guessing=guess).round(2)

# %% tags=["remove-input"]
best = table.idxmax(axis=1).value_counts()
Markdown(
    "Best start by number of rows: "
    + ", ".join(f"`{name}` {count}" for name, count in best.items())
    + "."
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# How wide the bands are at $k = 1$ beside those at $k = 20$: the choice of the one labelled image decides much. Two starts
# compared on *different* draws would need more repetitions to see what the paired comparison sees.
# ```
#
# ## What we learnt
#
# - Test a source domain against the source that everyone has already: ImageNet, not random parameters alone.
# - Ask of a source what it adds to what is there, and compare that with the rival, not with nothing.
# - Pair draws, keep groups apart, and say what a band covers.
#
# ## Exercises
#
# 1. *Warm-up.* Why is the classifier standardised by the source's *normal* images and not by the labelled ones?
# 2. *Look closer.* `few_shot.run` also gives single levels at k = 5. At which level does training on normal images change
#    most?
# 3. *Look closer.* Raise `self_supervised_epochs` in `profiles.toml` tenfold for one case. Does `random+normal` catch up?
# 4. *Research.* Self-supervision learns to ignore what its views change. Which of the views of `selfsupervised.view` could teach
#    a network to ignore a scratch? Design views that keep defects visible.
