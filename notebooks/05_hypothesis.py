# %% [markdown]
# # Is an anomaly close to the normal?
#
# **Question.** The first paper's hypothesis: the space of normal patterns correlates well with *each* of the spaces of anomalous
# patterns {cite:p}`sadrani2024`. Is that so, for which anomalies, and would it mean anything if a picture of a cracked brick
# is close to a picture of a brick because most of it *is* a brick?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](04_measures.ipynb) (measures and their blind spots) and [](03_benchmarks.ipynb) (the data). *You will be
# able to* put any relation on a scale between what it must beat and what it can reach at best, and say at which level
# of detail a hypothesis holds.
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

from anomaly_transfer import (
    benchmarks,
    domains,
    plots,
    profiles,
    relations,
    similarity,
    sources,
    twins,
)
from anomaly_transfer.glue import glue

plots.use_style()
settings = profiles.get(profile)

# %% [markdown]
# ## What the paper says, and what we test
#
# We know the paper by its abstract: its network, its measure, its data and its numbers are unknown to us. So this is *our
# protocol*, not a reproduction. Four claims can be tested:
#
# - **P1.a** normal patterns correlate well with *each* class of anomalous patterns;
# - **P1.b** the usual large source domains (natural photographs) do not correlate well with surfaces and materials;
# - **P1.c** normal images are therefore a good source for transfer (the [next chapter](06_source.ipynb));
# - **P1.d** normal and anomalous can be separated, though with narrow margins.
#
# "Correlates well" needs a scale. A category is divided by groups into a *source*, which may be learnt from, and a *target*.
# With $N$ the source's normal images, $A$ an anomaly class of the target, $N'$ as many *normal* images of the target, $R$
# natural photographs, and $d$ a distance between two sets,
#
# $$
# \text{nearness}(A) = \frac{d(A, R) - d(A, N)}{d(N', R) - d(N', N)} .
# $$
#
# It is 1 where the class lies between normal and photographs just as fresh normal images do, 0 where it is as far from one as
# from the other, and −1 where it lies as photographs do. All four sets are of comparable size, and $N'$ is drawn from the same
# groups as $A$, so that what a small sample or a certain module does to a distance, it does to both. Its interval is Fieller's
# {cite:p}`fieller1954`, over random halves of all sets. Where normal images are not clearly nearer to normal ones than to
# photographs, there is no scale, and we say so.
#
# Said beforehand: $d$ is MMD; a class is *near* (P1.a) if the whole interval of its nearness lies above 0.5, and *nearer* to
# normal than to photographs (P1.b) if it lies above 0. It *differs* from normal if it is farther from $N$ than $N'$ is
# in a permutation test, corrected for all tests of a benchmark {cite:p}`benjamini1995`. (The form of the index was settled
# while looking at two categories: a first version had no scale for classes that resemble photographs. The thresholds stayed.)
#
# ## The rivals
#
# A grey solar cell differs from a colour photograph by colour alone. So the rivals are made grey where the benchmark is.

# %% tags=["hide-input"]
cells = benchmarks.get("elpv").load("mono", settings.limit)
rivals = sources.beside(cells.images, "elpv/mono", 6)
shown = {name: [images[k] for k in range(6)] for name, images in rivals.items()}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six crops each of natural photographs, other materials and noise, all grey"}, "figure": {"name": "fig-rivals", "caption": "What solar cells are compared with: crops of photographs, other materials, and noise with the brightness of the cells. (Pictures: scikit-image and scikit-learn.)"}}
figure = plots.image_sheet(shown)

# %% [markdown]
# ## Whole images
#
# Solar cells by the share of annotators who called them defective, and drawn defects on bricks and on solar cells; the
# network is the frozen one of the last chapters, trained on ImageNet.

# %%
cases = [
    ("elpv", "mono"),
    ("elpv", "poly"),
    ("surfaces", "brick"),
    ("surfaces", "mono"),
]
found = pd.concat(
    relations.run(*case, "imagenet", 0, profile).frame() for case in cases
)
verdicts = relations.verdicts(found)
middle = found[found["measure"] == "a_distance"]["level"].iloc[0]

# %% tags=["hide-input"]
verdicts["where"] = verdicts["benchmark"] + " " + verdicts["category"]
verdicts["case"] = verdicts["where"] + ": " + verdicts["anomaly_class"]
images = verdicts[verdicts["region"] == "image"].rename(
    columns={"nearness": "value"}
)
deep = images[images["level"].isin([middle, "head"])]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Nearness with intervals of each anomaly class at a middle level and at the last level of the network; most lie near one"}, "figure": {"name": "fig-nearness", "caption": "Nearness of whole images, at a middle level and at the last: 1 as near to normal as fresh normal images, 0 halfway, −1 like photographs. Dashed: 0.5, above which we call a class near. Where there is no scale, nothing is drawn. (Data: ELPV; brick of scikit-image.)"}}
figure = plots.intervals(
    deep.dropna(subset="low"),
    row="case",
    column="level",
    label="nearness",
    chance=relations.NEAR,
)

# %% tags=["remove-input"]
real = images[images["anomaly_class"] != "control"]
control = images[images["anomaly_class"] == "control"]
glue("near-share", float(real["near"].mean()))
glue("near-median", float(real["value"].median()))
Markdown(
    f"Over all five levels, {real['near'].sum()} of {len(real)} cases are near by our rule, {real['nearer'].sum()} are nearer "
    f"to normal than to photographs, and {real['differs'].sum()} differ from normal after correction. The median "
    f"nearness is {real['value'].median():.2f}; that of the control, on which nothing was drawn, is "
    f"{control['value'].median():.2f}."
)

# %% [markdown]
# So the hypothesis holds? Look at what is being compared. In a picture of a solar cell with a crack, nearly every pixel is
# a normal pixel. That such a picture is close to normal pictures follows from where the camera pointed.
#
# ## Only the defect
#
# For drawn defects we have exact masks. Now one *patch* of each picture is taken, from a level whose patches have 16 input
# pixels a side: the patch that the defect covers most, and, in the same picture, the patch farthest from any defect. Normal
# patches are taken at the same places.

# %% tags=["hide-input"]
patches = verdicts[verdicts["region"] != "image"].rename(
    columns={"nearness": "value"}
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Nearness with intervals of defect patches and of background patches: background near one, defects much lower"}, "figure": {"name": "fig-patches", "caption": "Nearness of single patches: on the defect, and in the same pictures as far from it as can be. Dashed: 0.5. (Data: brick of scikit-image, ELPV cells, drawn defects.)"}}
figure = plots.intervals(
    patches.dropna(subset="low"),
    row="case",
    hue="region",
    label="nearness",
    chance=relations.NEAR,
)

# %% tags=["remove-input"]
drawn = patches[patches["anomaly_class"] != "control"]
on, off = (drawn[drawn["region"] == r] for r in ("defect", "background"))
glue("near-on-defect", float(on["value"].median()))
glue("near-off-defect", float(off["value"].median()))
Markdown(
    f"On the defect, {on['near'].sum()} of {len(on)} classes are near, with a median nearness of {on['value'].median():.2f}; "
    f"beside it, {off['near'].sum()} of {len(off)}, with {off['value'].median():.2f}. And {on['nearer'].sum()} of "
    f"{len(on)} defects are clearly nearer to normal patches than to patches of photographs."
)

# %% [markdown]
# This is the chapter's finding. *Images* with anomalies are close to normal images; *anomalies* mostly are not. What the
# hypothesis calls a correlation of two spaces is, for defects, to a good part the correlation of normal with normal.
#
# ## Does the choice of measure matter?
#
# The same nearness by every measure of the last chapter, at the middle level.

# %% tags=["hide-input"]
at_middle = found[
    (found["region"] == "image")
    & (found["level"] == middle)
    & (found["anomaly_class"] != "control")
]
wide = at_middle.assign(
    case=at_middle["benchmark"]
    + " "
    + at_middle["category"]
    + ": "
    + at_middle["anomaly_class"]
).pivot(
    index="case",
    columns="measure",
    values=["value against photographs", "low against photographs"],
)
value, low = (wide[what] for what in wide.columns.levels[0][::-1])
wide = value.where(low.notna())[[m.name for m in similarity.UNPAIRED]]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of nearness by anomaly class and measure at the middle level"}, "figure": {"name": "fig-by-measure", "caption": "Nearness of whole images by class and measure, middle level. Blank: no scale, since by this measure normal images are not clearly nearer to normal ones than to photographs. (Data: ELPV; brick of scikit-image.)"}}
figure = plots.heat_table(wide.rename_axis(None), label="nearness", low=0.0)

# %% tags=["remove-input"]
agree = wide.corrwith(wide[relations.PRIMARY], method="spearman").drop(
    relations.PRIMARY
)
Markdown(
    "Rank correlation of each measure's nearness with that of MMD, over the classes: "
    + "; ".join(f"{name} {value:.2f}" for name, value in agree.items())
    + ". The lower the number, the more a measure orders the classes in a way of its own: whether spaces 'correlate' "
    "depends on the instrument."
)

# %% [markdown]
# ## Is it the network?
#
# Any statement about "spaces" is about a network's view. Three others: the same network *untrained*, and both trained further
# by self-supervision (SimCLR {cite:p}`chen2020`) on the source's normal images alone.

# %%
views = pd.concat(
    relations.run("surfaces", "brick", start, 0, profile).frame()
    for start in domains.STARTS
)
by_view = relations.verdicts(views).rename(columns={"nearness": "value"})

# %% tags=["hide-input"]
by_view = by_view[by_view["level"].isin([middle, "head", "stage5"])]
by_view = by_view[by_view["anomaly_class"] != "control"]
summary = by_view.groupby(["start", "region"], sort=False).agg(
    cases=("value", "size"),
    scale=("low", lambda low: low.notna().sum()),
    median=("value", "median"),
    near=("near", "sum"),
    differs=("differs", "sum"),
)
summary.rename(
    columns={
        "scale": "with a scale",
        "median": "median nearness",
        "near": "near (P1.a)",
        "differs": "differ from normal",
    }
).round(2)

# %% tags=["remove-input"]
without = summary.loc["random"]
Markdown(
    f"In the untrained network, {int(without['scale'].sum())} of {int(without['cases'].sum())} cases have a scale at all, and "
    f"{int(without['differs'].sum())} differ from normal; in the pre-trained one "
    f"{int(summary.loc['imagenet', 'scale'].sum())} and {int(summary.loc['imagenet', 'differs'].sum())}. A network that "
    "sees no difference finds everything close: nearness is worth something only beside the power to see."
)

# %% [markdown]
# ## How wide is the margin? (P1.d)
#
# A linear classifier is fitted on labelled source images, and tells the target's. *Margin*: from the 95th percentile of normal
# scores to the 5th of anomalous ones, in standard deviations within the classes; negative where the bulks overlap.

# %% tags=["hide-input"]
margins = images[images["level"] == middle].dropna(subset="separability")
margins = margins.set_index("case")[["separability", "margin", "n"]]
margins.columns = ["AUROC", "margin", "images"]
margins.round(2)

# %% tags=["remove-input"]
separable = margins[~margins.index.str.contains("control")]
Markdown(
    f"AUROC above 0.9 in {(separable['AUROC'] > 0.9).sum()} of {len(separable)} cases; the margin is positive in "
    f"{(separable['margin'] > 0).sum()} and at least {relations.NARROW:.0f} in "
    f"{(separable['margin'] >= relations.NARROW).sum()}. Where classes can be separated, margins are narrow, as the paper says."
)

# %% [markdown]
# ## Two networks, one set of probes
#
# The paired form of the question. One network is trained (by self-supervision, from ImageNet) on half of the source's normal
# cells, others on the other half, on defective cells, on photographs, or not at all; equally many images each. All are shown the
# same target cells. How alike are their descriptions, by debiased CKA?

# %%
pairs = twins.run("elpv", "mono", "imagenet", 0, profile).frame()

# %% tags=["hide-input"]
shown = pairs[
    (pairs["measure"] == twins.PRIMARY)
    & pairs["level"].isin([middle, "stage6", "head"])
].rename(columns={"trained_on": "trained on"})

# %% tags=["hide-input"] mystnb={"image": {"alt": "Debiased CKA with intervals between a network trained on normal cells and networks trained on other things, at three levels"}, "figure": {"name": "fig-twins", "caption": "Debiased CKA between a network trained on normal cells and networks trained on something else; the same probes for all. (Data: ELPV; photographs of scikit-image and scikit-learn.)"}}
figure = plots.intervals(
    shown,
    row="trained on",
    column="level",
    label="debiased CKA",
    chance=None,
)

# %% tags=["remove-input"]
head = shown[shown["level"] == "head"].set_index("trained on")
line = [f"{name} {row['value']:.2f}" for name, row in head.iterrows()]
Markdown(
    "At the last level: "
    + "; ".join(line)
    + ". What a network learns from defective cells is compared with the ceiling (other normal cells) and with what "
    "photographs teach; that all share a start keeps every number high."
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# The control. On it nothing was drawn, so it must come out near, at 1, and it does; a study without such a row cannot know
# whether its pipeline would have called anything near.
# ```
#
# ## What we learnt
#
# - For whole images the hypothesis holds nearly everywhere, and says little: an anomalous image is mostly normal.
# - On the defect itself it mostly fails. Report at which level of detail a similarity was measured.
# - Measures disagree, and an untrained network finds everything close: name the instrument.
# - Separable and close is no contradiction: margins are narrow.
#
# ## Exercises
#
# 1. *Warm-up.* Which single number of this chapter would you have to see to believe P1.a for *your* defects?
# 2. *Look closer.* Replace `"photographs"` by `"materials"` in {numref}`fig-by-measure`. Are other surfaces a better rival?
# 3. *Look closer.* Run `relations.run("surfaces", "grass", "imagenet", 0, profile)`. Detectors failed on grass. Does nearness
#    of the defect patches tell why?
# 4. *Research.* A defect's patch also sees its surroundings. Mask the defect's pixels before the network instead of choosing
#    patches after it. How much of the nearness of images remains?
