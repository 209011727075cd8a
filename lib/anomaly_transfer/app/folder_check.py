"""A check of a person's folder before any work: what is in it, and what would make its numbers worthless.

The worst is a nuisance that goes with the label: if all defects were saved by another program, at another size or on
another day, a detector may see that instead of the defect. Labels are used here to warn a person, never to fit.
Explained in the chapter *Bring your own images*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency, mannwhitneyu

from anomaly_transfer.benchmarks.folder import UNLABELLED, Survey, counted
from anomaly_transfer.data.annotations import NORMAL

#: A nuisance is warned of if it alone tells the two sides apart with at least this AUROC ...
SEPARATES = 0.75
#: ... and chance does as well less often than this.
CHANCE = 0.02

#: How many examples a warning names.
_NAMED = 3


@dataclass(frozen=True)
class Check:
    """What a check of a folder found.

    Attributes
    ----------
    facts : dict of str to str
        What is in the folder: ``train``, ``test``, ``formats``, ``sizes``, ``pixels``, ``masks``, ``copies``.
    warnings : list of str
        One sentence or two each: what is doubtful, and what to do.
    duplicates : list of str
        Ids of test images that show the same pixels as a training image.
    """

    facts: dict[str, str]
    warnings: list[str]
    duplicates: list[str]


def check(found: Survey) -> Check:
    """Look for what would make numbers worthless.

    Parameters
    ----------
    found : Survey
        See :func:`anomaly_transfer.benchmarks.folder.survey`.
    """
    files = found.files
    copies, duplicates = _copies(files)
    facts = {
        "train": f"{int((files['part'] == 'train').sum())} normal",
        "test": counted(files.loc[files["part"] == "test", "anomaly_class"]) or "none",
        "formats": counted(files["format"]),
        "sizes": _sizes(files),
        "pixels": counted(files["stored"]) + _white(found),
        "masks": _masks(found),
        "copies": str(int(files.duplicated("pixels").sum())),
    }
    return Check(facts, [*copies, *_doubtful(found), *_confounds(files)], duplicates)


def separation(values: pd.Series, positive: np.ndarray) -> float:
    """How well a nuisance alone separates two sides, as AUROC in 0.5..1; 0.5 if chance would do as well.

    Numbers are ranked; of names, each counts with its share of positives. Chance is judged by the test of Mann
    and Whitney, or by chi-squared.

    Parameters
    ----------
    values : Series of numbers or names
        Where it is missing, a file does not count.
    positive : bool array of the same length

    >>> separation(pd.Series(["PNG"] * 8 + ["JPEG"] * 8), np.arange(16) > 7)
    1.0
    """
    known = values.notna().to_numpy()
    values, positive = values[known], positive[known]
    if values.nunique() < 2 or positive.all() or not positive.any():
        return 0.5
    scores = values
    if not pd.api.types.is_numeric_dtype(values):
        shares = pd.crosstab(values, positive, normalize="index")[True]
        scores = values.map(shares)
    ranked = mannwhitneyu(scores[positive], scores[~positive])
    chance = ranked.pvalue
    if scores is not values:
        chance = chi2_contingency(pd.crosstab(values, positive), correction=False)[1]
    area = float(ranked.statistic) / (positive.sum() * (~positive).sum())
    return float(max(area, 1 - area)) if chance < CHANCE else 0.5


@dataclass(frozen=True)
class _Nuisance:
    """What may differ between files beside what they show.

    Attributes
    ----------
    name : str
    views : function
        From files to series; the one that separates best counts.
    told : function
        From files to how they are, in words.
    between_parts : bool
        Whether training and test files should not differ in it either.
    """

    name: str
    views: Callable[[pd.DataFrame], list[pd.Series]]
    told: Callable[[pd.DataFrame], str]
    between_parts: bool = True


def _range(values: pd.Series, unit: str = "") -> str:
    low, high = values.min(), values.max()
    return f"{low:.0f}{unit}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}{unit}"


def _sizes(files: pd.DataFrame) -> str:
    sizes = files["width"].astype(str) + " x " + files["height"].astype(str)
    if sizes.nunique() <= _NAMED:
        return counted(f"of {size}" for size in sizes)
    return f"{sizes.nunique()} sizes, {_range(files['width'])} x {_range(files['height'])}"


def _format(files: pd.DataFrame) -> pd.Series:
    # A telephone's JPEG with a small copy of the picture inside is read in the same way.
    return files["format"].replace("MPO", "JPEG")


def _size_views(files: pd.DataFrame) -> list[pd.Series]:
    width, height = files["width"], files["height"]
    return [width.astype(str) + " x " + height.astype(str), width * height, width / height]


def _days(files: pd.DataFrame) -> list[pd.Series]:
    # By the camera in hours; by the file system, where copying is as good as taking, in days.
    by_camera = files["taken"].notna().all()
    times, unit = (files["taken"], 3600) if by_camera else (files["modified"], 86400)
    return [(times - times.min()) // unit]


def _dates(files: pd.DataFrame) -> str:
    times = files["taken"].fillna(files["modified"])
    # Not by pandas, whose dates end in 2262 before version 3: the clock of a camera may stand anywhere.
    first, last = (datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d") for time in (times.min(), times.max()))
    return first if first == last else f"{first} to {last}"


NUISANCES = (
    _Nuisance("file format", lambda f: [_format(f)], lambda f: counted(_format(f))),
    _Nuisance("JPEG quality", lambda f: [f["quality"].round()], lambda f: "about " + _range(f["quality"])),
    _Nuisance("way in which pixels are stored", lambda f: [f["stored"]], lambda f: counted(f["stored"])),
    _Nuisance("size or shape", _size_views, _sizes),
    _Nuisance("date", _days, _dates, between_parts=False),
)


def _confounds(files: pd.DataFrame) -> list[str]:
    test = files[files["part"] == "test"]
    normal, train = test[test["anomaly_class"] == NORMAL], files[files["part"] == "train"]
    anomalous = test[~test["anomaly_class"].isin([NORMAL, UNLABELLED])]
    found = []
    for nuisance in NUISANCES:
        area = _area(nuisance, normal, anomalous)
        classes = [anomalous] if area >= SEPARATES else [part for _, part in anomalous.groupby("anomaly_class")]
        for part in classes:
            area = _area(nuisance, normal, part)
            if area >= SEPARATES:
                which = "anomalous" if part is anomalous else part["anomaly_class"].iloc[0]
                found.append(
                    f"The {nuisance.name} alone tells {which} test images from normal ones (AUROC {area:.2f}): "
                    f"{nuisance.told(normal)} (normal); {nuisance.told(part)} ({which}). A detector may see that "
                    "instead of the defect: take and save all images in the same way."
                )
        # Where there are normal test images, they are what training images should be like.
        other = normal if len(normal) else test
        area = _area(nuisance, train, other) if nuisance.between_parts else 0.5
        if area >= SEPARATES:
            found.append(
                f"The {nuisance.name} alone tells {'normal ' if other is normal else ''}test images from training "
                f"images (AUROC {area:.2f}): {nuisance.told(train)} (train); {nuisance.told(other)} (test). A detector "
                "may call all test images anomalous: take and save all images in the same way."
            )
    return found


def _area(nuisance: _Nuisance, first: pd.DataFrame, second: pd.DataFrame) -> float:
    both = pd.concat([first, second])
    positive = np.arange(len(both)) >= len(first)
    return max((separation(values, positive) for values in nuisance.views(both)), default=0.5) if len(both) else 0.5


def _copies(files: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Warnings of pictures that occur twice, and the ids of test images that are copies of training images."""
    warnings = []
    train, test = (files[files["part"] == part] for part in ("train", "test"))
    again = train[train.duplicated("pixels")]
    if len(again):
        first = train.drop_duplicates("pixels").set_index("pixels")["id"]
        pairs = [f"{row.id} = {first[row.pixels]}" for row in again.itertuples()]
        warnings.append(f"{len(again)} training image(s) are copies of others and count twice: {_some(pairs)}.")
    groups = test.groupby("pixels")["anomaly_class"].transform("nunique") > 1
    if groups.any():
        pairs = [" = ".join(part["id"]) for _, part in test[groups].groupby("pixels", sort=False)]
        warnings.append(
            f"{len(pairs)} picture(s) lie in more than one class of the test: {_some(pairs)}. One of them is wrong."
        )
    copies = test[test["pixels"].isin(train["pixels"])]["id"].to_list()
    if copies:
        warnings.append(
            f"{len(copies)} test image(s) are copies of training images: {_some(copies)}. They look normal to any "
            "detector that remembers, so that numbers flatter it. Take them out."
        )
    return warnings, copies


def _doubtful(found: Survey) -> list[str]:
    warnings = []
    if len(found.mask_shares) and np.median(found.mask_shares) > 0.5:
        warnings.append(
            f"Half of the masks mark more than {np.median(found.mask_shares):.0%} of their image: the defect must be "
            "painted and the ground black, not the other way round."
        )
    colour = int((found.files["stored"] == "16-bit colour").sum())
    if colour and found.bit_depth < 16:
        warnings.append(
            f"{colour} file(s) hold colour with {found.bit_depth} bits in 16, of which the upper 8 can be read: "
            f"{2 ** (found.bit_depth - 8)} shades are left. Save them with 8 bits."
        )
    return warnings


def _masks(found: Survey) -> str:
    n_used = int(found.files["mask"].notna().sum())
    anomalous = ~found.files["anomaly_class"].isin([NORMAL, UNLABELLED])
    without = int((anomalous & found.files["mask"].isna()).sum())
    told = f"{n_used} of {found.n_masks} used"
    return told + (f"; {without} of {int(anomalous.sum())} anomalous images have none" if without else "")


def _white(found: Survey) -> str:
    if not found.files["largest"].any():
        return ""
    return f"; of 16 bits {found.bit_depth} are used: {2**found.bit_depth - 1} is read as white in every image"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
