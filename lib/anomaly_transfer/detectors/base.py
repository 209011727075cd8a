"""What all detectors have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from scipy.ndimage import gaussian_filter, zoom
from sklearn.base import BaseEstimator
from sklearn.model_selection import KFold
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from anomaly_transfer.data.annotations import sealed
from anomaly_transfer.data.splits import N_FOLDS
from anomaly_transfer.device import memory_for
from anomaly_transfer.errors import DataError
from anomaly_transfer.features import pixels
from anomaly_transfer.features.features import Features
from anomaly_transfer.features.inputs import Kind

#: With fewer images no detector is fitted on the others: a fold would have one.
LEAST = 2 * N_FOLDS
#: The one level of a plain array, unless it is given to a detector that works on pixels.
LEVEL = "features"


class Detector(BaseEstimator, ABC):
    """An anomaly detector fitted on the features of normal images alone.

    It is a scikit-learn estimator: whatever takes Features takes a plain array as well, of one level, and checks it as
    scikit-learn does: shape (n_images, n_features), or (n_images, channels, rows, columns) where it works on maps. It
    scores and does not decide, so it has no ``predict``: a fit on all images says nothing of how large the scores of
    new ones are, and where to draw the line is left to :func:`threshold`.

    Parameters
    ----------
    levels : tuple of str, optional
        Backbone levels to use; default: all levels of the features it is fitted on.

    Attributes
    ----------
    kind : {"pooled", "maps", "pixels", "both"}
        What it works on: spatial means of features, spatial maps of them, the pixels themselves, or both of the first
        (see ``views``).
    state_ : dict of str to array
        Everything that was fitted, so that a model is saved and restored without pickle.
    levels_ : tuple of str
        The levels used.
    n_features_in_ : int
        Number of features, or of channels, of these levels together.
    """

    kind: ClassVar[Kind]
    state_: dict[str, np.ndarray]

    def __init__(self, levels: tuple[str, ...] | None = None):
        self.levels = levels

    def fit(self, features: Features | np.ndarray, y: None = None) -> Detector:
        """Fit on normal images.

        Parameters
        ----------
        features : Features or float array
            Of ``kind``, at least two images, all finite.
        y : None
            Ignored, as in scikit-learn; there is no way to pass labels.

        Raises
        ------
        DataError
            If there are fewer than two images, or a value is not finite, or nothing varies.
        ValueError
            If scikit-learn refuses an array: it is too short, or not finite, or of another shape.
        """
        features = self._features(features, fitting=True)
        if len(features) < 2:
            raise DataError(f"{len(features)} training image(s): a detector needs at least 2 normal images.")
        self.levels_ = tuple(self.levels or features.levels)
        what, lower = f"{type(self).__name__} of {len(features)} images", "the image size, or the number of images"
        with sealed(), memory_for(what, lower):
            features = self._checked(features)
            self.n_features_in_ = sum(array.shape[1] for array in features.arrays.values())
            self.state_ = self._fit(features)
        return self

    def anomaly_score(self, features: Features | np.ndarray) -> np.ndarray:
        """How anomalous each image is; higher is more anomalous. Shape (n_images,), float64."""
        check_is_fitted(self, "state_")
        with sealed():
            return self._anomaly_score(self._checked(features))

    def out_of_fold_scores(self, features: Features | np.ndarray, seed: int = 0) -> np.ndarray:
        """Scores of normal images, each by a detector fitted on the others (five folds), in no particular order.

        Scores of images that were fitted on are too low. The detector itself is fitted on all of them in the end.

        Raises
        ------
        DataError
            If there are fewer than ten images, or as :meth:`fit`.
        """
        features = self._features(features, fitting=True)
        if len(features) < LEAST:
            raise DataError(
                f"{len(features)} image(s): scores by detectors fitted on the others need at least {LEAST}."
            )
        return self._out_of_fold_scores(features, seed)

    def _out_of_fold_scores(self, features: Features, seed: int) -> np.ndarray:
        scores = []
        for train, test in KFold(N_FOLDS, shuffle=True, random_state=seed).split(np.arange(len(features))):
            self.fit(features.take(train))
            scores.append(self.anomaly_score(features.take(test)))
        self.fit(features)
        return np.concatenate(scores)

    def score_samples(self, features: Features | np.ndarray) -> np.ndarray:
        """scikit-learn's sign of the same: *lower* is more anomalous."""
        return -self.anomaly_score(features)

    def _by_level(self, name: str) -> dict[str, np.ndarray]:
        """What was fitted at each level, by level."""
        return {level: self.state_[f"{level}/{name}"] for level in self.levels_}

    @abstractmethod
    def _fit(self, features: Features) -> dict[str, np.ndarray]:
        """Fit and return the state."""

    @abstractmethod
    def _anomaly_score(self, features: Features) -> np.ndarray:
        """Score; higher is more anomalous."""

    def _features(self, given: Features | np.ndarray, fitting: bool = False) -> Features:
        """What was given, as features: an array is one level.

        One that is fitted on says how many features those after it must have.
        """
        if isinstance(given, Features):
            return given
        array = validate_data(
            self,
            given,
            reset=fitting,
            dtype=(np.float64, np.float32),
            allow_nd=not get_tags(self).input_tags.two_d_array,
            ensure_min_samples=2 if fitting else 1,
        )
        return Features.of(**{pixels.LEVEL if self.kind == "pixels" else LEVEL: array})

    def _checked(self, features: Features | np.ndarray) -> Features:
        features = self._features(features).select(self.levels_)
        expected = 4 if self.kind == "maps" else 2
        for level, array in features.arrays.items():
            if array.ndim != expected:
                raise DataError(
                    f"{type(self).__name__} works on {self.kind} features, but level {level!r} has {array.ndim} axes."
                )
        return features


def finite(values: np.ndarray, what: str, start: int = 0) -> np.ndarray:
    """``values`` unchanged, or a DataError naming ``what`` if one of them is NaN or infinite.

    ``start`` is the row number of the first of them, where they are a piece of more.
    """
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        raise DataError(
            f"{what}: {len(bad)} image(s) have features that are not finite, the first in row {start + bad[0]}."
        )
    return values


class Localiser(Detector):
    """A detector that also says where: it scores patches, and by default an image by its worst patch."""

    kind: ClassVar[Kind] = "maps"

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def anomaly_map(self, features: Features | np.ndarray) -> np.ndarray:
        """Anomaly score of each patch, shape (n_images, rows, columns), float64."""
        check_is_fitted(self, "state_")
        with sealed():
            return self._anomaly_map(self._checked(features))

    def scored(self, features: Features | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Anomaly score of each image, shape (n_images,), and its map, as :meth:`anomaly_map` gives it."""
        check_is_fitted(self, "state_")
        with sealed():
            return self._scored(self._checked(features))

    def _anomaly_score(self, features: Features) -> np.ndarray:
        return self._scored(features)[0]

    def _scored(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        maps = np.concatenate([self._anomaly_map(batch) for batch in features.batches()])
        return worst_patch(maps), maps

    @abstractmethod
    def _anomaly_map(self, features: Features) -> np.ndarray:
        """Score each patch; higher is more anomalous."""


def worst_patch(maps: np.ndarray) -> np.ndarray:
    """A localiser's score of each image, shape (n_images,), from its map, shape (n_images, rows, columns)."""
    return maps.max(axis=(1, 2))


def pixel_scores(patch_map: np.ndarray, image_size: int) -> np.ndarray:
    """Scores of patches as scores of pixels: bilinear interpolation, then a Gaussian blur of one patch's width.

    Parameters
    ----------
    patch_map : float array, shape (rows, columns)
    image_size : int

    Returns
    -------
    float array, shape (image_size, image_size)
    """
    factor = image_size / patch_map.shape[0], image_size / patch_map.shape[1]
    fine = zoom(patch_map, factor, order=1, mode="nearest", grid_mode=True)
    return gaussian_filter(fine, sigma=max(factor) / 2)


def threshold(
    detector: Detector, features: Features | np.ndarray, false_alarm_rate: float, seed: int = 0
) -> float | None:
    """The score above which an image is called anomalous, from normal images alone.

    The (1 - false_alarm_rate) quantile of out-of-fold scores: each normal image is scored by a model fitted
    on the others (5 folds), since scores of images that were fitted on are too low.

    Returns
    -------
    float, the detector being fitted on all images then; or None with fewer than 10 images, too few to tell
    """
    if len(features) < LEAST:
        return None
    return float(np.quantile(detector.out_of_fold_scores(features, seed), 1 - false_alarm_rate))
