# %% [markdown]
# # Bring your own images
#
# **Question.** You have a telephone, and something that breaks. What do you have to photograph, how do you get from there to a report that you can believe, and which mistakes make
# it worthless without anyone noticing?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* none; [](data.ipynb) and [](practice.ipynb) say why it is done like this. *You will be able to* lay out a folder of pictures, evaluate a detector on it, keep
# the detector and score new pictures with it, and to name four mistakes from what they do to the numbers.
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
import tempfile
from pathlib import Path

import pandas as pd
from IPython.display import Markdown
from PIL import Image

import anomaly_transfer as at
from anomaly_transfer import profiles
from anomaly_transfer.app import example
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.metrics import decision
from anomaly_transfer.pages import executions, explorers, plots

plots.use_style()
settings = profiles.get(profile)
work = Path(tempfile.mkdtemp())

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("own_images", profile)

# %% [markdown]
# ## What to photograph
#
# Only normal pictures are learnt from. Defects are needed to *test*, and a few of each kind will do. The folder has the layout of MVTec AD {cite:p}`bergmann2021`, which many tools read:
#
# | Folder | Holds | Is it needed? |
# |---|---|---|
# | `train/good` | normal pictures to learn from | yes: two at least, ten for a threshold, fifty to begin in earnest; the report says what they can promise |
# | `test/good` | normal pictures of *other* parts, other places, other days | to know how often it is wrong |
# | `test/NAME` | pictures with the defect `NAME` | to know what it finds |
# | `ground_truth/NAME` | masks, `PICTURE_mask.png`, black but for the defect | only to measure heat maps |
#
# Pictures may lie in folders of their own below these. `OK`, `normal` and the like are read as `good`; whatever is not used is named in the report.
#
# The rule that matters most has nothing to do with networks: **all pictures of one thing stay on one side.** If you photograph the same part five times, the five pictures go to
# `train` together or to `test` together.
#
# How they are taken and saved matters as much: if all defects were photographed on another day, at another size or by another program, a detector may see that. `anomaly-transfer check
# FOLDER` looks for it before any work, and for copies, unused files and masks; `evaluate` and `fit` repeat its warnings.
#
# You need not have pictures yet. `anomaly-transfer example FOLDER` writes such a folder, and so does this cell: a wall as a telephone takes it, from changing stands, in changing light,
# with places for training and other places for testing. The defects are drawn.

# %%
folder = example.write(work / "wall")
counted = {
    path.relative_to(folder).as_posix(): len(list(path.iterdir()))
    for path in sorted(folder.glob("*/*"))
}
pd.Series(counted, name="pictures").rename_axis("folder").to_frame()

# %% tags=["hide-input"] mystnb={"image": {"alt": "Twenty small photographs of a brick wall in changing light, the lower three rows with a crack, a broken-out piece or a stain"}, "figure": {"name": "fig-own-sheet", "caption": "Some pictures of the example: normal ones for training, and test pictures with each defect. (Data: brick of scikit-image, photographed by a program.)"}}
shown = {"train/good": "train, normal"} | {
    f"test/{kind}": kind for kind in example.DEFECTS
}
figure = plots.image_sheet(
    {
        title: [Image.open(path) for path in sorted((folder / place).iterdir())[:5]]
        for place, title in shown.items()
    },
    mark=list(example.DEFECTS),
)

# %% [markdown]
# ## One call
#
# On the command line `anomaly-transfer evaluate FOLDER`, in a notebook a function. The network's features come from photographs of anything; the detector `combined` of
# [](side_by_side.ipynb) is fitted on `train/good` alone, and no label is used but to count how well it did.

# %%
report = at.evaluate(
    folder, work / "report", "combined", settings.backbone, settings.image_size
)
scores = pd.read_csv(work / "report" / "scores.csv")

# %% tags=["hide-input"]
found = pd.DataFrame(
    [
        {"against normal": name, **metrics["auroc"]}
        for name, metrics in report["metrics"].items()
    ]
)
found["AUROC"] = plots.with_interval(found)
found[["against normal", "AUROC"]].set_index("against normal")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Histogram of the anomaly scores of the test pictures by class, with the threshold as a dashed line"}, "figure": {"name": "fig-own-scores", "caption": "Scores of the test pictures, and the threshold that was set by normal training pictures alone. In the built book: move the threshold and the price of a miss, and choose a picture. (Data: the example.)"}}
threshold = report["model"]["threshold"]
folder_of_maps = work / "report" / "heat_maps"
scores["picture"] = [
    Image.open(folder_of_maps / f"{name}.png") for name in scores["id"]
]
explorers.scores(scores, list(scores["picture"]), threshold)

# %% tags=["remove-input"]
alarms = scores.groupby("anomaly_class")["anomalous"].agg(["sum", "size"])
others = alarms.drop(index=NORMAL)
Markdown(
    f"The threshold was set so that {report['model']['false_alarm_rate']:.0%} of normal pictures of *known* places lie above it; what "
    f"{report['model']['n_training_images']} pictures can promise (with {decision.CONFIDENCE:.0%} confidence) is no more than that it is at most "
    f"{report['model']['false_alarm_bound']:.0%}. Of the "
    f"{alarms.loc[NORMAL, 'size']} normal test pictures, from places that the detector has never seen, {alarms.loc[NORMAL, 'sum']} do "
    f"({alarms.loc[NORMAL, 'sum'] / alarms.loc[NORMAL, 'size']:.0%}). Found: "
    + ", ".join(
        f"{row['sum']} of {row['size']} ({name})" for name, row in others.iterrows()
    )
    + ". If you take one thing from a report, take the false alarms on new places: they decide whether anybody will go on using it."
)

# %% [markdown]
# The report is a folder with one page, `report.html`: numbers with intervals, this histogram, every test picture with its heat map, the most anomalous first, what could not be read and
# which test pictures are copies of training pictures. Look at the heat maps before you believe the numbers: is the colour *on the defect*?

# %% tags=["hide-input"] mystnb={"image": {"alt": "The highest-scoring picture of each class, each beside itself with its heat map laid over"}, "figure": {"name": "fig-own-heat", "caption": "The picture with the highest score of each class, and where the score comes from; one scale of colour for all. (Data: the example.)"}}
top = scores.sort_values("score", ascending=False).groupby("anomaly_class").head(1)
top = top.set_index("anomaly_class")
figure = plots.image_sheet(
    {name: [top.loc[name, "picture"]] for name in (NORMAL, *example.DEFECTS)},
    size=1.6,
    aspect=2.0,
    mark=list(example.DEFECTS),
)

# %% [markdown]
# ## Keep it, and use it tomorrow
#
# A fitted detector is two files without any code in them (and a hidden list of them, by which the program knows its own files and writes over no others). `anomaly-transfer fit FOLDER --out model` writes them, and `anomaly-transfer score model NEW_PICTURES` uses them: today,
# tomorrow, on another machine.
#
# In Python it is as short, and images may be arrays from a camera as well as files. With the import and the report above, these are the ten lines of [the package](../book/api.md), whose
# page explains each name. New are the test pictures that have a crack (the first four are shown):

# %%
normal = at.read_images(folder / "train" / "good")
model = at.fit(normal, "combined", settings.backbone, settings.image_size)
model.save(work / "model")

# %%
new = at.read_images(folder / "test" / example.DEFECTS[0])
model = at.load(work / "model")
scored = pd.DataFrame({"picture": [path.name for path in new.paths]})
scored["score"] = model.score(new)
scored["alarm"] = model.predict(new)
maps = model.heat_map(new)
scored.head(4).round(2)

# %% [markdown]
# ## Four mistakes
#
# Each of them is easily made. Here they are made on purpose, on copies of the folder, and the report is asked again (with the patch Gaussian, one of the three parts of
# `combined`, to save time). *Told* is what the report then says; *right* is what it says of the untouched folder.

# %%
made = example.consequences(
    folder, "patch-gaussian", settings.backbone, settings.image_size
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC by class of the untouched folder and after each of four mistakes, as a shaded table"}, "figure": {"name": "fig-own-mistakes", "caption": "AUROC that the report tells after each mistake; first row: of the untouched folder. The class *nothing* holds normal pictures under the lamp. (Data: the example.)"}}
table = made.pivot_table(
    index="mistake", columns="class", values="told", sort=False
)
right = made.dropna().groupby("class")["right"].first()
table = pd.concat([right.rename("none").to_frame().T, table])
table = table[[*example.DEFECTS, "nothing"]]
figure = plots.heat_table(table.rename_axis(None))

# %% tags=["remove-input"]
told = made.dropna().groupby("mistake")[["told", "right"]].mean()
moved = (told["told"] - told["right"]).reindex(list(example.MISTAKES))
nothing = made.set_index("class").loc["nothing", "told"]
Markdown(
    "Mean change over the defects: "
    + "; ".join(f"{name} {value:+.2f}" for name, value in moved.items())
    + ". This is one run with a dozen pictures a class: the intervals of such AUROCs are as wide as those of the report above, so that a change of a "
    f"few hundredths is no finding. Under the lamp, pictures *without any defect* are told from normal ones with an AUROC of {nothing:.2f}."
)

# %% [markdown]
# - **The same places in train and test.** The pictures are dealt at random. The detector then knows the tested places, and a new place is not what it was tested on.
# - **Defects taken under a lamp.** Whoever finds a defect in the evening photographs it in the evening. What the report measures is then the lamp, at least in part. The control shows it, and costs
#   little: photograph some good parts in that light too, and put them into the test as a class of their own. It should score one half.
# - **Defects among the normal pictures.** A tenth of the training pictures have a defect that nobody has seen. From then on a detector may call such a thing normal. With so few pictures a class the table cannot say in which.
# - **All normal pictures of one place.** Many pictures of one part are *one* example of what a good part is. Between them nothing varies but the stand and the light, and every other part is an anomaly.
#
# None of them gives an error message. Two things help: keep together what belongs together, and have a control class in which nothing is wrong. Against a defect among the normal
# pictures neither does: somebody has to look at them.
#
# ```{admonition} What would surprise you
# :class: tip
# That a mistake can make the number better or worse, and that neither says which. A report cannot tell a good detector from a bad test; only the way in which the pictures were taken can.
# ```
#
# ## What we learnt
#
# - Pictures of other places, days and parts are worth more than many pictures.
# - Look at false alarms on new places, and at heat maps, before you look at the AUROC.
# - A control class costs ten pictures.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/own_images.ipynb). And four to try out here:
#
# 1. *Warm-up.* You have eight bottles, and photograph each from five sides. Two are broken. Which pictures go where?
# 2. *Look closer.* Evaluate the example with `"gaussian"` and with `"patch-memory"`. On which mistake do they differ most, and why?
# 3. *Look closer.* Make a fifth mistake: all test pictures are saved by another program, at a JPEG quality of 30. Which class would have shown it, and what does `anomaly-transfer check` say?
# 4. *Research.* Find a warning, from pictures without labels alone, for at least two of the four mistakes. How often does it warn on the untouched folder, over ten seeds of the example?
#
# ## Further reading
#
# - {cite:t}`beery2018`: cameras that learnt the place instead of the animal: the mistakes of this chapter in the wild.
# - {cite:t}`kapoor2023`: the same mistakes with consequences.
