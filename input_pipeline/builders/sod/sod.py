"""SOD: 300 photos of the Berkeley segmentation dataset, for testing."""

from input_pipeline.builders.base import MaskDatasetBuilder, Split


class Sod(MaskDatasetBuilder):
    """SOD, 300 test photos; white = salient.

    Source: https://www.elderlab.yorku.ca/resources/salient-objects-dataset-sod/. No licence is known; the
    photos are from the Berkeley segmentation dataset (BSDS300). For research, see the pages.

    The official files are outlines of several observers (``SO<id>.mat``) and no masks. What papers score is a
    conversion of them to 300 binary masks that SOD code bases pass on; it has no official address or layout.
    These are read::

        images/*.jpg   masks/*.png   split test (also image, img, Image, Imgs · mask, gt, GT, Imgs)
    """

    WHITE = "salient"
    HOMEPAGE = "https://www.elderlab.yorku.ca/resources/salient-objects-dataset-sod/"
    CITATION = (
        "Movahedi, Elder: Design and Perceptual Validation of Performance Measures for Salient Object "
        "Segmentation. CVPR Workshops 2010"
    )
    SPLITS = (
        Split(
            "test",
            images=("images", "image", "img", "Imgs"),
            masks=("masks", "mask", "gt", "Imgs"),
            pairs=300,
        ),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The official page (https://www.elderlab.yorku.ca/resources/salient-objects-dataset-sod/) has "
        "outlines as .mat files, not masks: take the 300 pairs of photo and binary mask that come with an "
        "SOD evaluation set, put the photos into images/ and the masks into masks/ of one folder and name "
        "that folder with --manual-dir."
    )
