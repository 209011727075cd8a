"""Your own folders, in the layout of MVTec AD."""

from __future__ import annotations

from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.benchmarks.folder import UNLABELLED, has_layout, read_folder


class Own(Benchmark):
    """Every folder that a reader puts at ``own/NAME`` in the data folder."""

    name = "own"
    title = "Your own folder"
    about = (
        "Images of your own in the layout of MVTec AD: train/good to learn from, test/good and test/DEFECT to score, "
        "masks in ground_truth/DEFECT if there are any."
    )
    splits = ("official",)
    groups = "each image is its own group: keep all images of one object on one side, in train or in test"
    traps = ("Whatever is not used is named with its reason.",)
    licence = "yours"
    citation = "bergmann2021"
    size = "any"
    obtained = (
        "Put your folder (or a link to it) at own/NAME in the data folder; `anomaly-transfer evaluate FOLDER` needs "
        "not even that."
    )

    @property
    def categories(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the folders there are."""
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(path.name for path in self.folder.iterdir() if has_layout(path)))

    def available(self) -> tuple[str, ...]:
        return self.categories

    def load(self, category: str, limit: int | None = None) -> Category:
        self.check(category)
        found = read_folder(self.folder / category, self.name)
        known = (found.annotations.open()["anomaly_class"] != UNLABELLED).to_numpy().nonzero()[0]
        return found.taken(known).thinned(limit)


BENCHMARK = Own()
