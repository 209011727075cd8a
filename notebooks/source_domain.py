# %% [markdown]
# # Normal data as a source domain
#
# **Question.** Normal images are plentiful and need no labels. If a network first learns to describe *them*, do a few labelled
# anomalies then teach it more than they teach a network that knows only photographs?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](nearness.ipynb) (source and target, the four networks). *You will be able to* compare starting points
# for few-shot learning fairly, with the same draws and the same tests, and tell a gain from the luck of a draw.
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
import pandas as pd
from IPython.display import Markdown

from anomaly_transfer.analysis import hypothesis
from anomaly_transfer.claims import ledger
from anomaly_transfer.metrics import aggregate
from anomaly_transfer.pages import executions, plots
from anomaly_transfer.studies import few_shot, records
from anomaly_transfer.training import simclr, starts

plots.use_style()

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("source_domain", profile)

# %% [markdown]
# ## The claim, and four starting points
#
# **P1.c**: normal samples are a close-by, plentiful source domain; using them for transfer is "quite encouraging"
# {cite:p}`sadrani2024`. The paper's protocol is unknown to us, so this is ours. A network starts
#
# | start | parameters | then |
# |---|---|---|
# | `random` | drawn at random, batch norms calibrated on the source's normal images | |
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
#
# A trap stands in the first row. A network drawn at random carries batch norms with statistics that match no data (mean 0,
# variance 1), and its signal dies out on the way; whatever then trains on normal images also *sets* these statistics. An
# early version of this chapter took that for a gain by learning. So both networks that start at random get their batch norms
# calibrated on the same normal images, and differ by the training alone. A network from ImageNet keeps the statistics it came
# with, or those that training left (exercise 4 calibrates them too).

# %%
cases = [("surfaces", "brick"), ("elpv", "poly")]
found = pd.concat(
    few_shot.run(*case, start, 0, profile).frame()
    for case in cases
    for start in starts.STARTS
)
found["where"] = found["benchmark"] + " " + found["category"]

# %% [markdown]
# ## Is this anomalous?
#
# AUROC of each class against normal, mean over classes and draws. Bands: 95 % of the mean over draws (Student's t), so they
# say how much luck is in the few labels, not how much in the choice of test images.

# %% tags=["hide-input"]
detection = hypothesis.detection(found)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC against number of labelled images for four starts on bricks with drawn defects"}, "figure": {"name": "fig-shots-brick", "caption": "Drawn defects on bricks: AUROC by labelled images of each class, for four starts. Dashed: chance. (Data: brick of scikit-image.)"}}
brick = aggregate.mean_over_draws(
    detection[detection["category"] == "brick"], ["start", "k"]
)
figure = plots.curves(
    brick, "k", "start", "AUROC", "labelled images a class", 0.5, log=True
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC against number of labelled images for four starts on solar cells"}, "figure": {"name": "fig-shots-cells", "caption": "Polycrystalline solar cells, mean over the grades with enough labelled images to learn from: AUROC by labelled images of each class. Dashed: chance. (Data: ELPV.)"}}
cells = aggregate.mean_over_draws(
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
by_draw = hypothesis.gains(found)
by_draw["where"] = by_draw["benchmark"] + " " + by_draw["category"]
gains = aggregate.mean_over_draws(by_draw, ["where", "start", "k"])
gains["shots"] = "k = " + gains["k"].astype(str)
gains["start"] = "from " + gains["start"]

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
top = detection.pivot_table(index="where", columns="start", values="value")
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
# Did the networks learn anything from the normal images? Their loss tells: a network that finds nothing has
# $\log(2\cdot 16-1)$, since it has to find one view among 31.

# %% tags=["hide-input"]
loss = found[found["task"] == few_shot.LOSS]
learnt = loss.pivot_table(index=["where", "start"], columns="draw", values="value")
learnt = learnt.rename(columns=lambda epoch: f"epoch {epoch + 1}")
learnt.assign(guessing=simclr.GUESSING).round(2)

# %% tags=["remove-input"]
final = learnt.iloc[:, -1]
blind = final[final > simclr.GUESSING - 0.1]
Markdown(
    f"At the end, {len(final) - len(blind)} of {len(final)} networks do better than guessing by 0.1 or more. "
    + (
        "Not so: "
        + ", ".join(f"{where} {start}" for where, start in blind.index)
        + ". Where these differ clearly from their start all the same, that is no gain by learning: the bands cover the draw of "
        "the labels, and not how another training would have come out. The recorded runs train ten times as long."
        if len(blind)
        else ""
    )
)

# %% [markdown]
# Two cautions. Each network was trained once, so that another training might come out differently. And closeness is one virtue
# of a source, the amount that can be learnt from it another: a million photographs against some dozens of bricks.
#
# ## On every benchmark: recorded runs
#
# The same on all benchmarks with pictures and classes at the `study` profile: more images, longer self-supervision, larger
# pictures; twenty draws. (Hardware and date stand in the files under `results/study`.) All classes count here, the doubtful
# grades of solar cells and classes of things among them. The verdicts ([from random](../book/claims/P1c-from-random.md),
# [from ImageNet](../book/claims/P1c-from-imagenet.md)) are about certain defects only, so a data set can be open there and clear here.

# %% tags=["hide-input"]
recorded = records.frame("few_shot")
recorded["where"] = recorded["benchmark"] + " " + recorded["category"]
lines = aggregate.mean_over_draws(
    hypothesis.detection(recorded), ["where", "start", "k"]
)
order = list(starts.STARTS).index
lines = lines.sort_values("start", key=lambda s: s.map(order), kind="stable")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Small panels, one a data set: AUROC against number of labelled images for four starts"}, "figure": {"name": "fig-shots-all", "caption": "Recorded runs: AUROC by labelled images of each class, mean over classes, for four starts. Bands: 95 % of the mean over draws. Dashed: chance. (Data: ELPV, magnetic tile, CrackForest, textures of scikit-image, MNIST, CIFAR-10 as a JPEG copy.)"}}
figure = plots.curve_grid(
    lines,
    "k",
    "start",
    "where",
    "AUROC",
    "labelled images a class",
    0.5,
    log=True,
)

# %% tags=["hide-input"]
recorded_gains = hypothesis.gains(recorded)
recorded_gains["where"] = (
    recorded_gains["benchmark"] + " " + recorded_gains["category"]
)
at_five = recorded_gains[recorded_gains["k"] == hypothesis.SHOTS]
shown = aggregate.mean_over_draws(at_five, ["where", "start"])
shown["start"] = "from " + shown["start"]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Gain in AUROC by self-supervision on normal images with five labelled images a class, with intervals, for each data set and two starts"}, "figure": {"name": "fig-gains-all", "caption": "Recorded runs: what self-supervision on normal images adds to the AUROC with five labelled images a class, paired over draws. Dashed: no gain. (Data: ELPV, magnetic tile, CrackForest, textures of scikit-image, MNIST, CIFAR-10 as a JPEG copy.)"}}
figure = plots.intervals(
    shown, row="where", column="start", label="gain in AUROC", chance=0.0
)

# %% tags=["remove-input"]
clear = shown.assign(up=shown["low"] > 0, down=shown["high"] < 0)
findings = ledger.recorded()
over_sets = {
    claim.title: ledger.formatted(claim, findings[claim.id])
    for claim in ledger.claims()
    if claim.id.startswith("P1c")
}
Markdown(
    "Clear of zero: "
    + "; ".join(
        f"{start}, up in {part['up'].sum()} and down in {part['down'].sum()} of {len(part)} data sets"
        for start, part in clear.groupby("start", sort=False)
    )
    + ". The mean over data sets, as [the verdicts](verdicts.ipynb) have it: "
    + "; ".join(f"*{title}*, {text}" for title, text in over_sets.items())
    + "."
)

# %% [markdown]
# Did these networks learn anything? Their loss in the last epoch, beside that of guessing:

# %% tags=["hide-input"]
ended = recorded[recorded["task"] == few_shot.LOSS]
ended = ended[ended["draw"] == ended["draw"].max()].pivot_table(
    index="where", columns="start", values="value"
)
ended.assign(guessing=simclr.GUESSING).round(2)

# %% tags=["remove-input"]
idle = ended > simclr.GUESSING - 0.1
Markdown(
    "Better than guessing by 0.1 or more: "
    + "; ".join(
        f"`{start}` on {(~idle[start]).sum()} of {len(idle)} data sets"
        + (
            f" (not {', '.join(idle.index[idle[start]])})"
            if idle[start].any()
            else ""
        )
        for start in idle
    )
    + ". Where a network has learnt nothing from normal images, its gain or loss in AUROC says nothing of what could be learnt from them: "
    "moved a little by training, it is compared with itself. There the question of P1.c is open, and only more training could answer it."
)

# %% [markdown]
# This is the answer to P1.c that we can give: of one training a network, by one kind of self-supervision, and with as many normal
# images as a laptop can learn from in minutes. Whether it is the *normal* images that change a network for the worse, or any
# further training of this kind, it does not tell: a fifth start, from ImageNet and then as many photographs, would.
#
# ## Which anomaly is it?
#
# Recognising the class is harder than detection: balanced accuracy over normal and all classes. The number of classes
# changes with $k$ where a class runs out of images, so it is named.

# %% tags=["hide-input"]
recognition = found[
    (found["task"] == "recognition") & (found["level"] == few_shot.ALL)
]
table = recognition.pivot_table(
    index=["where", "anomaly_class", "k"], columns="start", values="value"
)
table = table[list(starts.STARTS)]
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
# - Pair draws, keep groups apart, and say what a band covers: a gain that is clear over draws may be the luck of one training.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/source_domain.ipynb). And five to try out here:
#
# 1. *Warm-up.* Why is the classifier standardised by the source's *normal* images and not by the labelled ones?
# 2. *Look closer.* `few_shot.run` also gives single levels at k = 5. At which level does training on normal images change
#    most?
# 3. *Look closer.* Raise `self_supervised_epochs` in `profiles.toml` tenfold for one case. Does `random+normal` catch up?
# 4. *Look closer.* Calibrate the network from ImageNet on the normal images as well (`simclr.calibrated`) and repeat the
#    few-shot detection of bricks. Does it gain or lose? Why might blowing up what normal images never vary in hurt here, and help
#    a random network?
# 5. *Research.* Self-supervision learns to ignore what its views change. Which of the views of `simclr.view` could teach
#    a network to ignore a scratch? Design views that keep defects visible.
#
# ## Further reading
#
# - {cite:t}`he2019`: training from scratch can catch up with a start from ImageNet, given time: what then is the start worth?.
# - {cite:t}`raghu2019`: the same question for medical images, with an answer that depends on the size of the network.
