# %% [markdown]
# # How to measure a relationship
#
# **Question.** The first paper says that normal patterns and anomalous patterns *correlate*. Nobody can pair a normal image
# with an anomalous one, so what could that mean, and which number would show it?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](frozen_features.ipynb) (features). *You will be able to* choose a measure for two sets of images, say what it
# cannot see and how many images it needs, and recognise a similarity that was made by a small sample.
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

from anomaly_transfer import benchmarks, profiles, similarity
from anomaly_transfer.pages import cards, executions, plots
from anomaly_transfer.similarity import PAIRED, UNPAIRED, simulation
from anomaly_transfer.studies import detection, normal_similarity

plots.use_style()
settings = profiles.get(profile)
repeats = 2 * settings.halves

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("measures", profile)

# %% [markdown]
# ## Two different questions
#
# "Are these two spaces related?" can be asked in two ways, and they need different data.
#
# *Unpaired.* One network, two sets of images: normal ones $x_1 \dots x_n$ and anomalous ones $y_1 \dots y_m$. How far apart
# are the two clouds of features, and do the same directions vary? Nothing links $x_i$ with $y_i$.
#
# *Paired.* Two networks, one set of images: each image has two descriptions. Do both networks find the same images alike?
# Here row $i$ of both tables is the same image. CKA, CCA and Procrustes are of this kind. They *cannot* compare normal
# with anomalous images, because any pairing of those would be made up.
#
# The sources: MMD {cite:p}`gretton2012`, energy distance {cite:p}`szekely2013`, Fréchet distance {cite:p}`heusel2017`, sliced
# Wasserstein {cite:p}`bonneel2015` (computed by POT {cite:p}`flamary2021`), covariance alignment {cite:p}`robert1976`,
# principal angles {cite:p}`bjorck1973`, proxy A-distance {cite:p}`bendavid2007`, and the Mahalanobis overlap, which is what the
# Gaussian of the last chapters sees; CKA {cite:p}`kornblith2019` with its debiased {cite:p}`song2012` and minibatch
# {cite:p}`nguyen2021` forms, SVCCA {cite:p}`raghu2017`, PWCCA {cite:p}`morcos2018`, Procrustes {cite:p}`ding2021` and
# representational similarity {cite:p}`kriegeskorte2008`.
#
# Two of them will carry the next chapters, so in words. *MMD* asks: is an image more like those of its own set than like those of
# the other? "Like" is a kernel $k$, near 1 for images that are close and near 0 for images much farther apart than a typical
# pair; the bandwidth $m$ says what is typical. *CKA* asks: do two networks agree on which images are like each other?
# Each network gives a table of likenesses between all images ($K$ and $L$); HSIC is the covariance of the two tables, and CKA
# is that covariance divided so that agreement with oneself is 1. "Debiased" ($\widehat{\mathrm{HSIC}}$) means that two
# networks without any agreement get 0 on average; the naive estimate ($\mathrm{HSIC}_b$) does not do that.
#
# The definitions, with $m$ the median squared distance within a reference sample that all comparisons share,
# $\mu$ and $\Sigma$ mean and covariance, $\theta$ a random direction or a principal angle, $F$ a distribution function, $h_i$
# canonical directions, and $\|\cdot\|_*$ the sum of singular values:

# %% tags=["hide-input"]
Markdown(cards.equations([*UNPAIRED, *PAIRED]))

# %% [markdown]
# ## A similarity made of nothing
#
# Before any anomaly: what do the paired measures say of two descriptions that have *nothing* in common, two independent
# Gaussian tables with 512 columns? A measure worth its name says zero.

# %%
floor = simulation.noise_floor(PAIRED, sizes=(16, 32, 64, 128), d=512, repeats=5)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Values of eight paired measures for unrelated data against the number of images, one line for each"}, "figure": {"name": "fig-floor", "caption": "What paired measures say of two unrelated tables with 512 columns, by the number of images. Lines: the mean of five repetitions; bands: nearly all of them. For Procrustes, a distance, the value of no relation is 1; for all others 0. (Data: simulated.)"}}
figure = plots.curves(
    floor, "n", "measure", "value", "images", chance=0.0, log=True
)

# %% tags=["remove-input"]
at_32 = floor[floor["n"] == 32].set_index("measure")["value"]
naive, debiased = at_32["Linear CKA, naive"], at_32["Linear CKA, debiased"]
Markdown(
    f"With 32 images, naive CKA finds {naive:.2f} in pure noise, and the debiased form {debiased:.2f}. SVCCA finds "
    f"{at_32['SVCCA, 10 components']:.2f}, PWCCA {at_32['PWCCA, 10 components']:.2f}. Procrustes says "
    f"{at_32['Procrustes distance']:.2f} where it should say 1. Anomaly classes often have a few dozen images: a "
    "study that reports one of these without a null would find spaces alike whatever they hold."
)

# %% [markdown]
# The reason is geometry, not a bug: in 512 dimensions a few dozen random points are nearly orthogonal to each other, so
# both tables look like the same thing, namely a simplex. The debiased estimator removes what chance contributes
# on average. Where no debiased form exists (CCA, Procrustes), only a permutation test tells a relation from a small sample.
#
# ## What each measure sees
#
# Now two sets, unpaired. We draw Gaussian clouds with 50 dimensions that differ in one known way, and ask how often each
# measure tells them from two clouds of the same distribution. *Shift*: the means lie apart. *Spread*: the second is wider.
# *Directions*: equally wide, but along other axes. *Mixture*: only a quarter of the second is shifted, as when an anomaly
# touches only some images.

# %%
changes = [change for change in simulation.CHANGES if change != "nothing"]
seen = simulation.power(UNPAIRED, changes, (24,), d=50, effect=1.0, repeats=repeats)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of the share of cases in which each of nine measures tells two samples of 24 apart, for four kinds of change"}, "figure": {"name": "fig-sees", "caption": "How often each measure tells 24 images from 24 others that differ in one way, when it is wrong about equal samples once in twenty. Dark is often. (Data: simulated.)"}}
figure = plots.heat_table(
    seen.pivot(index="measure", columns="change", values="value")[
        changes
    ].rename_axis(None),
    label="share told apart",
    low=0.0,
)

# %% tags=["remove-input"]
by_change = seen.pivot(index="measure", columns="change", values="value")
champions = {
    change: " and ".join(values.index[values == values.max()])
    for change, values in by_change.items()
}
everywhere = set.intersection(
    *(set(v.index[v == v.max()]) for _, v in by_change.items())
)
primary = by_change.loc["MMD, one bandwidth"]
blind = by_change[(by_change < 0.2).any(axis=1)]
Markdown(
    f"Leading for every change: {', '.join(everywhere) or 'none'}. The most often right: "
    + "; ".join(
        f"*{champions[change]}* for {change} ({by_change[change].max():.2f})"
        for change in changes
    )
    + f". {len(blind)} of {len(by_change)} measures are close to blind (below 0.20) for at least one change. MMD, "
    f"which will decide in the next chapter, sees the shift in {primary['shift']:.0%} of cases, the mixture in "
    f"{primary['mixture']:.0%} and new directions in {primary['directions']:.0%}. That a measure finds no difference says "
    "little until one knows what it cannot see."
)

# %% tags=["hide-input"]
cards.measures(UNPAIRED)

# %% tags=["hide-input"]
cards.measures(PAIRED)

# %% [markdown]
# ## How many anomalies does it take?
#
# The same for a shift, with more and fewer images. The curves say from how many images on a measure would notice an anomaly
# class of which it should say "this is not normal".

# %%
needed = simulation.power(
    UNPAIRED,
    ["shift"],
    (8, 16, 32, 64),
    d=50,
    effect=1.0,
    repeats=repeats,
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of cases told apart against the number of images, one line for each of nine measures"}, "figure": {"name": "fig-power", "caption": "How often each measure tells two samples apart whose means differ, by the number of images in either. Dashed: how often it is wrong about equal samples. (Data: simulated.)"}}
figure = plots.curves(
    needed,
    "n",
    "measure",
    "share told apart",
    "images in either sample",
    chance=0.05,
    log=True,
)

# %% tags=["remove-input"]
enough = needed[needed["value"] >= 0.8].groupby("measure")["n"].min()
never = sorted(set(needed["measure"]) - set(enough.index))
Markdown(
    "The fewest images with which a measure notices this shift in at least 80 % of cases: "
    + "; ".join(f"{name} {n}" for name, n in enough.sort_values().items())
    + (f". Not with 64: {', '.join(never)}." if never else ".")
)

# %% [markdown]
# ## An interval that holds what it promises
#
# A value needs an interval. The usual bootstrap draws images with replacement, so a resample holds copies; and to a
# distance between samples, a copy is a perfect match. Half-sampling {cite:p}`shao1989` draws random halves *without*
# replacement instead: the spread of the statistic over halves estimates the standard error of the whole. We test both
# on samples of equal distribution and on shifted ones: of intervals that promise 95 %, how many hold the true value?

# %%
covered = pd.DataFrame(
    {
        (similarity.get(name).title, change): simulation.coverage(
            similarity.get(name), change, 32, 20, 1.0, repeats
        )
        for name in ("mmd", "energy", "frechet")
        for change in ("nothing", "shift")
    }
).T
covered.map("{:.0%}".format)

# %% tags=["remove-input"]
Markdown(
    f"At worst, {covered['halves'].min():.0%} of the intervals by half-sampling hold the truth, and "
    f"{covered['bootstrap'].min():.0%} of those by the bootstrap. (More than 95 % means wider than need be. A quadratic "
    "measure such as MMD is less certain near zero in half the sample than in the whole, so that its intervals are cautious "
    "there.) Every interval of similarity in this book is by half-sampling, of whole groups where images belong together."
)

# %% [markdown]
# ## On pictures whose truth is known
#
# Simulated clouds are not features. On bricks with drawn defects we know the severity, so a measure of distance should
# grow with it. Normal images and defects come from the same blocks; `control` images were handled like defects, but nothing
# was drawn. Each value is divided by the largest of its measure, so that all fit into one picture.

# %%
category = benchmarks.get("surfaces").load("brick", settings.limit)
table = category.annotations.open()
features = detection.features_for("pooled", None, settings, category)
x = features["stage6"]
normal = np.flatnonzero(table["anomaly_class"] == "normal")
reference, further = normal[::2], normal[1::2]
blocks = table["group"].to_numpy()


def against_normal(measure, rows):
    """Interval of the distance between the reference and some rows."""
    statistic = measure.on(x, x[reference], blocks)
    return similarity.relate(
        measure, statistic, rows, reference, blocks, 0, settings.halves
    )


# %% tags=["hide-input"]
steps = {"normal": further, "control": table["anomaly_class"] == "control"}
for grade in sorted(set(table["grade"]) - {0}):
    steps[f"severity {grade:.2f}"] = table["grade"] == grade
rows_of = {
    name: np.flatnonzero(rows) if rows.dtype == bool else rows
    for name, rows in steps.items()
}
fewest = min(map(len, rows_of.values()))
rng = np.random.default_rng(0)
rows_of = {name: rng.permutation(r)[:fewest] for name, r in rows_of.items()}
graded = [
    {
        "measure": measure.title,
        "images": name,
        "farther": measure.farther,
        **against_normal(measure, rows).model_dump(),
    }
    for measure in UNPAIRED
    for name, rows in rows_of.items()
]
graded = pd.DataFrame(graded)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of nine measures between normal bricks and further normal, control and three severities of drawn defects"}, "figure": {"name": "fig-graded", "caption": "Reference normal bricks against further normal ones, the control, and defects of three severities, equally many of each; as a share of the largest value of each measure. Covariance alignment, principal angles and overlap are similarities: they should fall. (Data: brick of scikit-image.)"}}
shown = graded.pivot(index="measure", columns="images", values="value")
shown = shown.loc[[m.title for m in UNPAIRED], list(rows_of)]
figure = plots.heat_table(
    shown.div(shown.max(axis=1), axis=0).rename_axis(None),
    label="share of largest",
    low=0.0,
)

# %% tags=["remove-input"]
severities = [name for name in rows_of if name.startswith("severity")]
trend = shown[["control", *severities]].diff(axis=1).iloc[:, 1:]
sign = np.array([1 if m.farther else -1 for m in UNPAIRED])
decisive = similarity.get(normal_similarity.PRIMARY).title
ordered = (trend.mul(sign, axis=0) > 0).all(axis=1)
strongest = graded[graded["images"] == severities[-1]].set_index("measure")
same = graded[graded["images"] == "control"].set_index("measure")
apart = [
    m.title
    for m in UNPAIRED
    if (
        strongest.loc[m.title, "low"] > same.loc[m.title, "high"]
        if m.farther
        else strongest.loc[m.title, "high"] < same.loc[m.title, "low"]
    )
]
Markdown(
    f"In the right order from the control over the three severities: {', '.join(ordered.index[ordered]) or 'none'}. The interval "
    f"of the strongest defects is clear of that of the control for {', '.join(apart) or 'none'}. Each class here has {fewest} "
    "images, as many as a factory might have."
    + (
        ""
        if decisive in apart
        else f" {decisive}, which will decide in the next chapter, is not among the latter: with so few images it will leave "
        "open whether a single class differs, and the next chapter says so of each."
    )
)

# %% [markdown]
# ## What it costs
#
# Milliseconds for one value. A permutation test needs a hundred and more of them.

# %% tags=["hide-input", "nbval-ignore-output"]
sizes = [(50, 100), (50, 1280), (200, 100), (200, 1280)]
simulation.costs([*UNPAIRED, *PAIRED], sizes).map("{:.1f}".format)

# %% [markdown]
# What depends on inner products of images only (MMD, energy, Fréchet, covariance, angles, CKA) costs nothing more in more
# dimensions once those are computed, and grows with the square or the cube of the number of images.
#
# ## Which survive
#
# For the next chapter one measure must decide, and it was chosen before any anomaly was looked at: **MMD with one bandwidth
# for all comparisons**. It is unbiased, so a small class is not closer or farther for being small; bounded, so that one
# odd image cannot rule; and unchanged by rotation and scale, which differ from level to level of a network for no reason of
# interest. (It is a *squared* distance.) All others will be shown beside it. Of the paired measures, **debiased CKA** decides.
#
# ```{admonition} What would surprise you
# :class: tip
# The Fréchet distance, the standard score of generated images, is not zero between further normal bricks and the reference in
# {numref}`fig-graded`, though they come from the same blocks. At small $n$ it measures the number of images as well. It can
# only be read beside as many images whose relation is known.
# ```
#
# ## What we learnt
#
# - CKA, CCA and Procrustes answer a question about two networks. Normal against anomalous images is another one.
# - With fewer images than dimensions, naive similarity is a property of the sample size. Debias it, or test it.
# - Each measure is blind to something: a table of what each sees belongs beside every result.
# - A copy is a perfect match to a distance between samples, so a bootstrap interval may miss. Test intervals where the
#   truth is known.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/measures.ipynb). And four to try out here:
#
# 1. *Warm-up.* Change `d=512` to 32 in the first experiment. With how many images does naive CKA become harmless?
# 2. *Look closer.* Principal angles use 10 dimensions. Use `similarity.unpaired.subspace(k)` for other `k` on the bricks. From
#    which `k` on does the order of the severities break?
# 3. *Look closer.* Rerun {numref}`fig-graded` with `features["stem"]` and with `features["head"]`. Which level sees the drawn
#    defects best, and is it the one that the detectors of the last chapters like best?
# 4. *Research.* The permutation test treats images of one block as exchangeable. Construct a case with groups in which it finds
#    a difference that is not there, and mend it with the argument `groups` of `similarity.relate`.
#
# ## Further reading
#
# - {cite:t}`klabunde2025`: a survey of the measures for two networks, with what each is invariant to.
# - {cite:t}`davari2023`: how CKA can be moved without changing what a network does.
