"""PASCAL-S: 850 photos of PASCAL VOC 2010, for testing."""

from input_pipeline.builders.base import MaskDatasetBuilder, Split


class PascalS(MaskDatasetBuilder):
    """PASCAL-S, 850 test photos; white = salient.

    Source: http://cbs.ic.gatech.edu/salobj/. No licence is known; the photos are those of PASCAL VOC 2010.
    For research, see the page.

    Files (the archive holds more: other datasets, maps of methods)::

        datasets/imgs/pascal/*.jpg   datasets/masks/pascal/*.png   split test

    The masks have grey levels, the share of observers who chose the region: at 128 the half of them counts.
    """

    WHITE = "salient"
    HOMEPAGE = "http://cbs.ic.gatech.edu/salobj/"
    CITATION = "Li, Hou, Koch, Rehg, Yuille: The Secrets of Salient Object Segmentation. CVPR 2014"
    URLS = ("http://cbs.ic.gatech.edu/salobj/download/salObj.zip",)
    SPLITS = (
        Split(
            "test",
            images=("imgs/pascal", "image", "images", "Imgs"),
            masks=("masks/pascal", "mask", "masks", "gt", "Imgs"),
            pairs=850,
        ),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download salObj.zip (Dataset & Code) from http://cbs.ic.gatech.edu/salobj/ into a folder (unpacked "
        "or not) and name that folder with --manual-dir."
    )
