"""ECSSD: 1,000 photos with structurally complex scenes, for testing."""

from input_pipeline.builders.base import MaskDatasetBuilder, Split


class Ecssd(MaskDatasetBuilder):
    """ECSSD, 1,000 test photos; white = salient.

    Source: http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html. No licence is known; for
    research, see the page.

    Files::

        images/*.jpg   ground_truth_mask/*.png   split test
    """

    WHITE = "salient"
    HOMEPAGE = "http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html"
    CITATION = "Yan, Xu, Shi, Jia: Hierarchical Saliency Detection. CVPR 2013"
    URLS = (
        "http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/data/ECSSD/images.zip",
        "http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/data/ECSSD/ground_truth_mask.zip",
    )
    SPLITS = (
        Split(
            "test",
            images=("images", "image", "Imgs"),
            masks=("ground_truth_mask", "mask", "masks", "gt", "Imgs"),
            pairs=1000,
        ),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download images.zip and ground_truth_mask.zip of ECSSD from "
        "http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html into a folder of their own "
        "(unpacked or not) and name that folder with --manual-dir."
    )
