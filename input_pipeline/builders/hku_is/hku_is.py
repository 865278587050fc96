"""HKU-IS: 4,447 photos with several or off-centre salient objects, for testing."""

from input_pipeline.builders.base import MaskDatasetBuilder, Split


class HkuIs(MaskDatasetBuilder):
    """HKU-IS, 4,447 test photos; white = salient.

    Source: https://i.cs.hku.hk/~yzyu/research/deep_saliency.html. No licence is known; for research, see
    the page.

    Files::

        imgs/*.png   gt/*.png   split test
    """

    WHITE = "salient"
    HOMEPAGE = "https://i.cs.hku.hk/~yzyu/research/deep_saliency.html"
    CITATION = "Li, Yu: Visual Saliency Based on Multiscale Deep Features. CVPR 2015"
    SPLITS = (Split("test", images=("imgs", "image", "images"), masks=("gt", "mask", "masks", "imgs"), pairs=4447),)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download HKU-IS.rar by the link on https://i.cs.hku.hk/~yzyu/research/deep_saliency.html, unpack "
        "it (unrar x HKU-IS.rar; a .rar is not read) so that a folder holds imgs/ and gt/, and name that "
        "folder with --manual-dir."
    )
