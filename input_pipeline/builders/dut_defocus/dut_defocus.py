"""DUT-DBD: defocus blur detection, 600 photos for training and 500 for testing."""

from input_pipeline.builders.base import MaskDatasetBuilder, Split


class DutDefocus(MaskDatasetBuilder):
    """DUT-DBD, 600 training and 500 test photos; white = focus.

    Source: http://ice.dlut.edu.cn/ZhaoWenda/BTBCRLNet.html, which was reported to be unreachable; the test
    set is also linked from https://github.com/wdzhao123/DENets. No licence is known; for research, see the
    pages.

    Files (folder names as published code reads them)::

        DUT-DBD_Dataset/DUT600S_Training/   DUT-DBD_Dataset/DUT600GT_Training/   split train
        DUT-DBD_Dataset/DUT500S-Testing/    DUT-DBD_Dataset/DUT500GT-Testing/    split test

    A test set in folders named image/ and gt/ is taken as well.

    White is the region in focus in the copies that are passed on, the opposite of CUHK and CTCUG.
    """

    WHITE = "focus"
    HOMEPAGE = "http://ice.dlut.edu.cn/ZhaoWenda/BTBCRLNet.html"
    CITATION = (
        "Zhao, Zhao, Wang, Lu: Defocus Blur Detection via Multi-Stream Bottom-Top-Bottom Fully Convolutional "
        "Network. CVPR 2018"
    )
    SPLITS = (
        Split("train", images=("DUT600S_Training",), masks=("DUT600GT_Training",), pairs=600),
        Split(
            "test",
            images=("DUT500S-Testing", "image", "images"),
            masks=("DUT500GT-Testing", "gt", "mask", "masks"),
            pairs=500,
        ),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "No address is known to be stable: ask the authors of "
        "http://ice.dlut.edu.cn/ZhaoWenda/BTBCRLNet.html, or take the test set that "
        "https://github.com/wdzhao123/DENets links to. Put DUT600S_Training/ and DUT600GT_Training/ "
        "(training photos and masks), DUT500S-Testing/ and DUT500GT-Testing/ (test) into one folder and "
        "name that folder with --manual-dir; one of the two splits alone is enough."
    )
