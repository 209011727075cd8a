"""What is written where a reader said."""

import pytest

from anomaly_transfer import outputs
from anomaly_transfer.errors import DataError


def put(folder, text, name="mark"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_an_output_takes_the_place_of_an_earlier_one(tmp_path):
    out = tmp_path / "deep" / "out"
    for text in ("first", "second"):
        with outputs.replacing(out, "mark") as folder:
            put(folder, text, text)
            put(folder, text)
    assert sorted(path.name for path in out.iterdir()) == ["mark", "second"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_the_earlier_one(tmp_path, error):
    put(tmp_path / "out", "first")

    def fail():
        with outputs.replacing(tmp_path / "out", "mark") as folder:
            put(folder, "second")
            raise error

    with pytest.raises(error):
        fail()
    assert (tmp_path / "out" / "mark").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_of_somebody_else_is_replaced(tmp_path):
    put(tmp_path / "photos", "mine", "holiday.jpg")
    with pytest.raises(DataError, match="photos is not empty and holds no earlier mark"):
        outputs.check(tmp_path / "photos", "mark")
    with pytest.raises(DataError, match=r"holiday.jpg is a file"):
        outputs.check(tmp_path / "photos" / "holiday.jpg", "mark")
    with pytest.raises(DataError, match="photos is a folder"):
        outputs.check(tmp_path / "photos")
    with pytest.raises(DataError, match=r"cannot be written \(.*\): choose another"):
        outputs.check(tmp_path / "photos" / "holiday.jpg" / "out", "mark")
    (tmp_path / "empty").mkdir()
    outputs.check(tmp_path / "empty", "mark")
    outputs.check(tmp_path / "new" / "scores.csv")
