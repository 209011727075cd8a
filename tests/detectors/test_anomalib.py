"""Ours against other packages that compute the same; they need the extra `peers`."""

import numpy as np
import pytest
import torch
from tests.conftest import map_features, pooled_features

from anomaly_transfer import detectors
from anomaly_transfer.detectors.gaussian import mahalanobis
from anomaly_transfer.detectors.patch import PatchMemoryBank, k_centre_greedy, patch_features
from anomaly_transfer.features.extraction import extract
from anomaly_transfer.metrics.localisation import localisation
from anomaly_transfer.metrics.ranking import evaluate
from anomaly_transfer.studies import comparison

pytest.importorskip("anomalib", reason="the extra `peers` is not installed")
pytest.importorskip("pyod", reason="the extra `peers` is not installed")


def test_auroc_is_that_of_anomalib():
    from anomalib.metrics.auroc import _AUROC

    rng = np.random.default_rng(0)
    positive = rng.random(200) < 0.3
    scores = np.round(rng.normal(positive, 1.0), 1)  # with ties
    theirs = _AUROC()(torch.from_numpy(scores), torch.from_numpy(positive).long())
    assert evaluate(scores, positive, None, 50)["auroc"].value == pytest.approx(float(theirs), abs=1e-6)


def test_pro_is_that_of_anomalib():
    from anomalib.metrics.aupro import _AUPRO

    rng = np.random.default_rng(0)
    masks = np.zeros((12, 64, 64), dtype=bool)
    for number in range(6):
        masks[number, 5 + number : 20, 10:30] = True
        masks[number, 40:50, 40 : 45 + number] = True
    maps = rng.normal(size=masks.shape) + 1.5 * masks
    theirs = _AUPRO()(torch.from_numpy(maps), torch.from_numpy(masks).long())
    assert localisation(list(maps), list(masks), 50)["pro"].value == pytest.approx(float(theirs), abs=0.005)


def test_neighbours_are_those_of_pyod():
    from pyod.models.knn import KNN

    train, test = pooled_features(80), pooled_features(40, seed=1, shift=1.0)
    theirs = KNN(n_neighbors=2, method="mean").fit(train["high"]).decision_function(test["high"])
    ours = detectors.make("neighbours@high").fit(train)
    scale = ours.scale_["high"][0]
    assert ours.anomaly_score(test) * scale == pytest.approx(theirs, rel=1e-5)


def test_the_gaussian_at_a_position_is_that_of_anomalib():
    """Theirs has a ridge, no shrinkage: with the same covariance the distances are the same."""
    from anomalib.models.components.stats import MultiVariateGaussian
    from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator

    maps = torch.from_numpy(patch_features(map_features(60))).permute(0, 3, 1, 2).contiguous()
    new = torch.from_numpy(patch_features(map_features(5, seed=1))).permute(0, 3, 1, 2).contiguous()
    mean, inverse = MultiVariateGaussian().fit(maps)
    theirs = AnomalyMapGenerator.compute_distance(new, [mean, inverse])[:, 0].numpy()
    x = maps.flatten(2).permute(2, 0, 1).double().numpy()
    covariance = np.stack([np.cov(rows, rowvar=False) for rows in x]) + (0.01 + 1e-5) * np.eye(x.shape[-1])
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    ours = mahalanobis(new.flatten(2).permute(2, 0, 1).double().numpy(), x.mean(axis=1), whitening)
    assert ours.T.reshape(theirs.shape) == pytest.approx(theirs, rel=1e-3)


def test_the_memory_covers_as_well_as_that_of_anomalib():
    """Both are the greedy choice, from another first point: the farthest patch is about as near to either."""
    from anomalib.models.components import KCenterGreedy

    points = patch_features(map_features(60)).reshape(-1, 7)
    ours = k_centre_greedy(points, 100, np.random.default_rng(0))
    sampler = KCenterGreedy(torch.from_numpy(points[:, None]), 100.5 / len(points))
    theirs = sampler.sample_coreset().numpy()[:, 0]
    assert len(theirs) == len(ours) == 100

    def farthest(bank):
        return np.linalg.norm(points[:, None] - bank, axis=-1).min(axis=1).max()

    assert farthest(ours) == pytest.approx(farthest(theirs), rel=0.1)


def test_anomalib_sees_the_maps_that_its_own_extractor_would_give(lite0, some_images, tmp_path):
    """The same weights in its network, on the same preprocessed images: the same maps as ours."""
    from anomalib.models.components import TimmFeatureExtractor

    extract(some_images, lite0, 64, tmp_path, levels=("stage3", "stage5"), engine="eager")
    batch = torch.from_numpy(np.stack([lite0.preprocess(image, 64) for image in some_images[:4]]))
    extractor = TimmFeatureExtractor("tf_efficientnet_lite0", ["blocks.2", "blocks.4"], pre_trained=False).eval()
    missing, _ = extractor.feature_extractor.load_state_dict(lite0.network.state_dict(), strict=False)
    assert not missing
    with torch.no_grad():
        theirs = extractor(lite0.normalise(batch))
    for level, node in (("stage3", "blocks.2"), ("stage5", "blocks.4")):
        assert np.load(tmp_path / f"{level}.npy")[:4] == pytest.approx(theirs[node].numpy(), rel=1e-3, abs=1e-3)


def test_its_patchcore_ranks_as_our_memory_does_with_the_same_bank():
    """One neighbour, no re-weighting: their score is our worst patch."""
    train, test = map_features(40), map_features(30, seed=1, shift=2.0)
    theirs = detectors.make("anomalib-patchcore", memory_bank=50).fit(train)
    model = theirs._model({"fine": 3, "coarse": 4})
    theirs._restore(model, {"memory_bank": torch.from_numpy(theirs.state_["memory_bank"])})
    model.num_neighbors = 1
    found = np.concatenate([batch.pred_score.numpy() for batch in theirs._run(model.eval(), test)])
    ours = PatchMemoryBank().fit(train)
    ours.state_ = {"bank": theirs.state_["memory_bank"]}
    # Their pooling counts the border as zeros, ours leaves it out: only in the middle are patches the same.
    assert np.corrcoef(found, ours.anomaly_score(test))[0, 1] > 0.7


def test_peers_are_compared_on_the_same_images_and_timed(store):
    frame = comparison.peers("surfaces", "brick", "patch-gaussian", 0, "smoke", store).frame().set_index("rival")
    assert list(frame.index) == list(comparison.PEERS)
    assert frame["more"].to_numpy() == pytest.approx((frame["own"] - frame["value"]).to_numpy(), abs=1e-3)
    assert (frame[["fit", "score", "memory", "own fit", "own score", "own memory"]] > 0).all().all()
    assert frame["own fit"].nunique() == 1


def test_ecod_of_pyod_scores_an_image_by_its_company():
    """The trap that the chapter warns of, and why it is not among the peers."""
    from pyod.models.ecod import ECOD

    detector = ECOD().fit(pooled_features(60)["high"])
    new = np.concatenate([pooled_features(1, seed=1)["high"], pooled_features(60, seed=2, shift=5.0)["high"]])
    assert detector.decision_function(new)[0] != pytest.approx(detector.decision_function(new[:1])[0], rel=0.05)
