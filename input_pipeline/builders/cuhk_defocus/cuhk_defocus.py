"""The defocused photos of Shi et al.'s blur dataset (CUHK), in the split that papers report."""

from functools import cache
from importlib import resources
from types import MappingProxyType

from input_pipeline.builders.base import MaskDatasetBuilder, Split

NAME_LISTS = MappingProxyType({"train": "train604.txt", "test": "test100.txt"})


@cache
def split_names(split: str) -> frozenset[str]:
    """Stems of a split, from the name list beside this file."""
    return frozenset(resources.files(__package__).joinpath(NAME_LISTS[split]).read_text("utf-8").split())


class CuhkDefocus(MaskDatasetBuilder):
    """CUHK (Shi et al.), the 704 photos with defocus blur: 604 for training, 100 for testing; white = blur.

    Source: http://www.cse.cuhk.edu.hk/leojia/projects/dblurdetect/dataset.html. No licence is known; for
    research, see the page.

    Files::

        image/out_of_focus0001.jpg …   gt/out_of_focus0001.png …   704 pairs, splits train and test
        image/motion0001.jpg …         gt/motion0001.png …         296 pairs with motion blur, not used

    The split is BTBNet/CUHK-TR-1 (names beside this file). A second one, CUHK-TR-2, exists:
    scores of the two are not comparable. Copies that were passed on with later papers often have inverted
    masks (white = in focus); this builder expects the official files.
    """

    WHITE = "blur"
    HOMEPAGE = "http://www.cse.cuhk.edu.hk/leojia/projects/dblurdetect/dataset.html"
    CITATION = "Shi, Xu, Jia: Discriminative Blur Detection Features. CVPR 2014"
    URLS = (
        "http://www.cse.cuhk.edu.hk/leojia/projects/dblurdetect/data/BlurDatasetImage.zip",
        "http://www.cse.cuhk.edu.hk/leojia/projects/dblurdetect/data/BlurDatasetGT.zip",
    )
    SPLITS = (
        Split("train", images=("image", "images"), masks=("gt", "mask", "masks"), pairs=604),
        Split("test", images=("image", "images"), masks=("gt", "mask", "masks"), pairs=100),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download BlurDatasetImage.zip and BlurDatasetGT.zip from "
        "http://www.cse.cuhk.edu.hk/leojia/projects/dblurdetect/dataset.html into a folder of their own "
        "(unpacked or not: image/ and gt/) and name that folder with --manual-dir."
    )

    def belongs(self, stem: str, split: str) -> bool:
        """Whether the split's name list has the stem."""
        return stem in split_names(split)
