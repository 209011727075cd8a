import pytest

from anomaly_transfer import forecast, plan, profiles
from anomaly_transfer.forecast import Units


def units(factor=1.0):
    sides = ("image_size", "tuned_image_size", "oneclass_image_size")
    return Units(
        forward=dict.fromkeys(sides, 0.1 * factor),
        training=dict.fromkeys(sides, 0.3 * factor),
        features=int(1000 * factor),
        network=4_000_000,
        device="cpu",
    )


def test_the_recorded_profile_takes_what_was_recorded():
    found = forecast.forecast("study", {"study": units()})
    assert found["hours"].to_numpy() == pytest.approx(found["hours recorded"].to_numpy())
    assert found["jobs"].sum() == len(plan.jobs("study", everywhere=True))
    assert ((found["own"] >= 0) & (found["own"] <= 1)).all()


def test_hours_grow_with_the_cost_of_a_pass():
    once = forecast.forecast("full", {"study": units(), "full": units()})
    twice = forecast.forecast("full", {"study": units(), "full": units(2.0)})
    for study in ("relations", "tuned", "supervised", "rivals"):
        assert twice.loc[study, "hours"] == pytest.approx(2 * once.loc[study, "hours"])


def test_training_grows_with_epochs_images_and_folds():
    job = next(job for job in plan.jobs("full", study="tuned", everywhere=True) if job.category == "bottle")
    assert forecast._passes(job, profiles.get("full")) == (20, 229, 1)
    assert forecast._passes(job, profiles.get("study")) == (8, 200, 1)
    further = next(
        job for job in plan.jobs("full", study="few_shot", variant="random+normal") if job.category == "mono"
    )
    assert forecast._passes(further, profiles.get("full")) == (50, 588, 1)
    assert forecast._passes(further.model_copy(update={"variant": "random"}), profiles.get("full")) == (1, 1, 1)
    cells = next(job for job in plan.jobs("full", study="tuned", everywhere=True) if job.category == "mono")
    assert forecast._passes(cells, profiles.get("full")) == (20, 588, 5)


def test_checkpoints_are_kept_for_every_epoch():
    found = forecast.forecast("full", {"study": units(), "full": units()})
    folds = [
        forecast._passes(job, profiles.get("full"))[2] for job in plan.jobs("full", study="tuned", everywhere=True)
    ]
    assert found.loc["tuned", "gigabytes"] == pytest.approx(0.004 * 21 * sum(folds))
    further = [job for job in plan.jobs("full", study="few_shot", everywhere=True) if "+normal" in job.variant]
    assert found.loc["few_shot", "gigabytes"] == pytest.approx(0.004 * len(further))
    assert found.loc["rivals", "gigabytes"] == 0


def test_units_are_measured_at_the_sizes_of_the_profile():
    # Sides so far apart that a busy machine does not turn the order of times round.
    sizes = profiles.get("smoke").model_copy(update={"image_size": 192})
    found = forecast.units(sizes)
    assert found.training["image_size"] > found.forward["image_size"] > 0
    assert found.forward["image_size"] > found.forward["tuned_image_size"]
    # 192 px: maps of 24 x 24 x 40 and 12 x 12 x 112, and means of five stages.
    assert found.features == 4 * (576 * 40 + 144 * 112 + 16 + 24 + 40 + 112 + 320)
    assert 15e6 < found.network < 25e6


def test_pictures_that_several_categories_share_are_stored_once():
    images = forecast.features_gigabytes(units()) * 1e9 / 1000
    # ELPV, magnetic tiles, MVTec AD, concrete, MNIST, Fashion-MNIST, CIFAR-10.
    assert images == 2624 + 1344 + 5354 + 40_000 + 70_000 + 70_000 + 60_000
