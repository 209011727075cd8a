import pytest

from anomaly_transfer import profiles


def test_every_profile_is_valid_and_they_grow():
    sizes = [profiles.get(name).image_size for name in profiles.names()]
    assert sizes == sorted(sizes)


def test_default_and_environment(monkeypatch):
    monkeypatch.delenv("ANOMALY_TRANSFER_PROFILE", raising=False)
    assert profiles.get().name == "laptop"
    monkeypatch.setenv("ANOMALY_TRANSFER_PROFILE", "smoke")
    assert profiles.get().name == "smoke"
    assert profiles.get("study").name == "study"


def test_unknown_profile_names_the_choices():
    with pytest.raises(ValueError, match="choose one of smoke, laptop"):
        profiles.get("desktop")


def test_zero_images_means_all():
    assert profiles.get("laptop").limit is None
    assert profiles.get("smoke").limit > 0
