"""CTCUG: 150 photos for testing defocus blur detection."""

from input_pipeline.builders.base import MaskDatasetBuilder, Split


class Ctcug(MaskDatasetBuilder):
    """CTCUG, 150 test photos; white = blur.

    Source: the authors of DeFusionNET (China University of Geosciences); no public address or licence is
    known.

    Files (folder names as published code, https://github.com/yuxinjin-whu/D-DFFNet, reads them)::

        CTCUG_images/   CTCUG_gt/   split test (also images, image · masks, gt)
    """

    WHITE = "blur"
    HOMEPAGE = "https://github.com/yuxinjin-whu/D-DFFNet"
    CITATION = (
        "Tang, Liu, Zheng, Li, Xiong, Wang, Zomaya, Longo: DeFusionNET: Defocus Blur Detection via "
        "Recurrently Fusing and Refining Discriminative Multi-Scale Deep Features. IEEE TPAMI 44(2), 2022"
    )
    SPLITS = (
        Split(
            "test",
            images=("CTCUG_images", "images", "image"),
            masks=("CTCUG_gt", "masks", "mask", "gt"),
            pairs=150,
        ),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "No public address is known: ask the authors of DeFusionNET for the 150 pairs, put the photos into "
        "CTCUG_images/ and the masks into CTCUG_gt/ of one folder and name that folder with --manual-dir."
    )
