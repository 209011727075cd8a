import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tests.conftest import both_features, map_features, pooled_features

from anomaly_transfer import detectors
from anomaly_transfer.detectors import base
from anomaly_transfer.detectors.base import LEAST
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features
from anomaly_transfer.features.inputs import MAP


def made():
    return detectors.make("combined", memory_bank=50, seed=0)


def shifted(n, pooled, maps, seed=1):
    """Features in which pooled features, or maps, or both are unusual."""
    renamed = {level + MAP: array for level, array in map_features(n, seed, maps).arrays.items()}
    return Features.of(**pooled_features(n, seed, pooled).arrays, **renamed)


def auroc(detector, unusual):
    normal = detector.anomaly_score(both_features(100, seed=2))
    scores = np.concatenate([normal, detector.anomaly_score(unusual)])
    return roc_auc_score(np.repeat([0, 1], [100, len(unusual)]), scores)


@pytest.mark.parametrize(("pooled", "maps"), [(2.0, 0.0), (0.0, 4.0)])
def test_it_sees_what_either_kind_of_evidence_shows(pooled, maps):
    detector = made().fit(both_features(200))
    assert auroc(detector, shifted(100, pooled, maps)) > 0.85
    assert abs(auroc(detector, shifted(100, 0.0, 0.0, seed=3)) - 0.5) < 0.13


def test_scores_are_standardised_by_images_that_parts_have_not_seen():
    detector = made().fit(both_features(60))
    fresh = detector.anomaly_score(both_features(400, seed=5))
    own = detector.out_of_fold_scores(both_features(60))
    assert abs(own.mean()) < 1e-9
    # Three parts of unit spread; unseen images look like them, and those that were fitted on would lie far below.
    assert abs(fresh.mean()) < 0.6
    assert fresh.std() == pytest.approx(own.std(), rel=0.25)
    assert detector.anomaly_score(both_features(60)).mean() < fresh.mean() - 1


def test_it_is_the_sum_of_its_parts():
    train, test = both_features(60), both_features(20, seed=1, shift=1.0)
    detector = made().fit(train)
    pooled = [level for level in train.levels if not level.endswith(MAP)]
    maps = [level for level in train.levels if level.endswith(MAP)]
    parts = {"gaussian": pooled, "patch-gaussian": maps, "patch-memory": maps}
    logs, log_maps = [], []
    for name, levels in parts.items():
        part = detectors.make(name, memory_bank=50, seed=0).fit(train.select(levels))
        logs.append(np.log(part.anomaly_score(test.select(levels))))
        if levels is maps:
            log_maps.append(np.log(part.anomaly_map(test.select(levels))))
    centre, spread = detector.centre_, detector.spread_
    assert detector.anomaly_score(test) == pytest.approx(((np.column_stack(logs) - centre) / spread).sum(axis=1))
    # Its map adds those of the two that have one.
    heat = sum((one - m) / d for one, m, d in zip(log_maps, centre[1:], spread[1:], strict=True))
    assert detector.anomaly_map(test) == pytest.approx(heat)


def test_batches_do_not_matter():
    detector = made().fit(both_features(30))
    test = both_features(150, seed=1)
    whole, heat = detector.scored(test)
    piece, piece_heat = detector.scored(test.take(np.arange(140, 150)))
    assert piece == pytest.approx(whole[140:])
    assert piece_heat == pytest.approx(heat[140:])
    assert heat.shape == (150, 8, 8)


def test_a_few_images_are_enough_to_fit_and_too_few_to_weigh():
    """Weighing takes two images in each of five folds."""
    assert LEAST == 10
    detector = made().fit(both_features(LEAST - 1))
    assert np.array_equal(detector.spread_, np.ones(3))
    assert not np.array_equal(made().fit(both_features(LEAST)).spread_, np.ones(3))


def test_a_copy_of_a_training_image_has_a_score():
    train = both_features(30)
    assert np.isfinite(made().fit(train).anomaly_score(train)).all()


def test_a_part_that_never_varies_adds_nothing_that_is_not_finite(monkeypatch):
    monkeypatch.setattr(
        "anomaly_transfer.detectors.ensemble.PatchMemoryBank._anomaly_map", lambda self, f: np.ones((len(f), 8, 8))
    )
    scores = made().fit(both_features(30)).anomaly_score(both_features(10, seed=1))
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 10


def test_one_kind_of_features_is_not_enough():
    with pytest.raises(DataError, match="works on pooled features and on maps"):
        made().fit(both_features(30).select(["low", "high"]))
    with pytest.raises(DataError, match="works on pooled features and on maps"):
        made().fit(Features.of(**{"low": pooled_features(30)["low"], f"high{MAP}": pooled_features(30)["high"]}))


def test_the_threshold_is_that_of_images_it_has_not_seen():
    value = base.threshold(made(), both_features(300), 0.05)
    share = (made().fit(both_features(300)).anomaly_score(both_features(600, seed=9)) > value).mean()
    assert 0.02 < share < 0.1
