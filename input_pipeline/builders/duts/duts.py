"""DUTS: the training set of salient object detection and its test set."""

from input_pipeline.builders.base import MaskDatasetBuilder, Split


class Duts(MaskDatasetBuilder):
    """DUTS, 10,553 training and 5,019 test photos; white = salient.

    Source: http://saliencydetection.net/duts/. No licence is known; for research, see the page.

    Files::

        DUTS-TR/DUTS-TR-Image/*.jpg   DUTS-TR/DUTS-TR-Mask/*.png   split train
        DUTS-TE/DUTS-TE-Image/*.jpg   DUTS-TE/DUTS-TE-Mask/*.png   split test

    Archives from before 2018-01-22 hold three training masks of a wrong size, with the right ones beside them
    as JPEG, and two stray JPEG masks in the test set. The mask of the photo's size is taken; where there is
    none for one of the three (copies that dropped the JPEG files), the wrong one is resized.
    """

    WHITE = "salient"
    HOMEPAGE = "http://saliencydetection.net/duts/"
    CITATION = (
        "Wang, Lu, Wang, Feng, Wang, Yin, Ruan: Learning to Detect Salient Objects with Image-level "
        "Supervision. CVPR 2017"
    )
    URLS = (
        "http://saliencydetection.net/duts/download/DUTS-TR.zip",
        "http://saliencydetection.net/duts/download/DUTS-TE.zip",
    )
    SPLITS = (
        Split("train", images=("DUTS-TR-Image",), masks=("DUTS-TR-Mask",), pairs=10553),
        Split("test", images=("DUTS-TE-Image",), masks=("DUTS-TE-Mask",), pairs=5019),
    )
    MEND = frozenset({"ILSVRC2014_train_00023530", "n04442312_17818", "n01532829_13482"})
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download DUTS-TR.zip and DUTS-TE.zip from http://saliencydetection.net/duts/ into one folder "
        "(unpacked or not) and name that folder with --manual-dir."
    )
