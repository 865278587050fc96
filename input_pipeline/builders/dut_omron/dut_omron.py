"""DUT-OMRON: 5,168 photos with one or more salient objects before busy backgrounds, for testing."""

from input_pipeline.builders.base import MaskDatasetBuilder, Split


class DutOmron(MaskDatasetBuilder):
    """DUT-OMRON, 5,168 test photos; white = salient.

    Source: http://saliencydetection.net/dut-omron/. No licence is known; for research, see the page.

    Files::

        DUT-OMRON-image/*.jpg   pixelwiseGT-new-PNG/*.png   split test
    """

    WHITE = "salient"
    HOMEPAGE = "http://saliencydetection.net/dut-omron/"
    CITATION = "Yang, Zhang, Lu, Ruan, Yang: Saliency Detection via Graph-Based Manifold Ranking. CVPR 2013"
    URLS = (
        "http://saliencydetection.net/dut-omron/download/DUT-OMRON-image.zip",
        "http://saliencydetection.net/dut-omron/download/DUT-OMRON-gt-pixelwise.zip.zip",
    )
    SPLITS = (
        Split(
            "test",
            images=("DUT-OMRON-image", "image", "images", "Imgs"),
            masks=("pixelwiseGT-new-PNG", "mask", "masks", "gt", "Imgs"),
            pairs=5168,
        ),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download DUT-OMRON-image.zip and DUT-OMRON-gt-pixelwise.zip.zip from "
        "http://saliencydetection.net/dut-omron/ into one folder (unpacked or not) and name that folder with "
        "--manual-dir."
    )
