"""MVTec AD: fifteen objects and textures with masks, the benchmark of the second paper."""

from __future__ import annotations

from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.benchmarks.folder import read_folder
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.downloads import fetch_folder, unpack
from anomaly_transfer.errors import DataError
from anomaly_transfer.fingerprint import file_hash

PAGE = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
ARCHIVE = "mvtec_anomaly_detection.tar.xz"
SHA256 = "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d"

#: Training images, normal test images and defective test images (Bergmann et al., 2021, table 1).
COUNTS = {
    "bottle": (209, 20, 63),
    "cable": (224, 58, 92),
    "capsule": (219, 23, 109),
    "carpet": (280, 28, 89),
    "grid": (264, 21, 57),
    "hazelnut": (391, 40, 70),
    "leather": (245, 32, 92),
    "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141),
    "screw": (320, 41, 119),
    "tile": (230, 33, 84),
    "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40),
    "wood": (247, 19, 60),
    "zipper": (240, 32, 119),
}


class MVTecAD(Benchmark):
    """5,354 pictures of ten objects and five textures."""

    name = "mvtec_ad"
    title = "MVTec AD"
    about = (
        "Fifteen industrial objects and textures, photographed without defects for training and with up to eight kinds "
        "of defects for testing, with pixel masks. The benchmark of the second paper, and of most since."
    )
    categories = tuple(COUNTS)
    splits = ("official",)
    groups = "each photograph is its own group; whether one object was photographed twice is not known"
    traps = (
        "Many reported numbers choose levels, epochs or thresholds on the test set; there is no validation set.",
        "Copies of reduced size are about, some with good test images held out of the training set: a note on every "
        "record says when the numbers of images are not the published ones.",
    )
    licence = "CC BY-NC-SA 4.0"
    citation = "bergmann2021"
    size = "5,354 images, 5.3 GB"
    obtained = (
        f"Its licence wants your consent: get {ARCHIVE} from {PAGE}, put it into the folder downloads of the data "
        "folder, and run `anomaly-transfer fetch mvtec_ad`. Or put the folder of any category at mvtec_ad/CATEGORY in "
        "the data folder."
    )

    def available(self) -> tuple[str, ...]:
        return tuple(name for name in self.categories if (self.folder / name / "train" / "good").is_dir())

    def _fetch(self) -> None:
        archive = self.folder.with_name("downloads") / ARCHIVE
        if not archive.is_file():
            raise DataError(f"{self.title} does not come by a plain download. {self.obtained}")
        if self.folder.exists():
            raise DataError(f"{self.folder} is there and not whole: move it away, then unpack the archive by fetch.")
        if file_hash(archive) != SHA256:
            raise DataError(
                f"{archive} is not the official archive (another SHA-256), or is damaged: get it again from {PAGE}."
            )
        fetch_folder(self.folder, lambda folder: unpack(archive, folder, max_bytes=8_000_000_000))

    def load(self, category: str, limit: int | None = None) -> Category:
        self.check(category)
        return read_folder(self.folder / category, self.name).thinned(limit)

    def published(self, category: str) -> dict[str, int]:
        """Bergmann et al. (2021), table 1; they give defects in total."""
        train, good, defective = COUNTS[category]
        return {NORMAL: train + good, "defective": defective}


BENCHMARK = MVTecAD()
