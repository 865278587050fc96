"""What was published of each network: the paper, the image size of its tests, and weights that can be imported."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One network as it was published.

    Attributes:
        title: the name in the paper.
        paper: authors, venue and year.
        image_size: side of the square image that the original is tested with, in pixels.
        weights: what ``afiu import-weights`` takes, and where it comes from.
        antialias: whether photos are smoothed when they are shrunk to be tested, as Pillow does, and SRM's MATLAB.
    """

    title: str
    paper: str
    image_size: int
    weights: str
    antialias: bool = False


_STATE_DICT = "state dict of github.com/{}"

PUBLISHED = {
    "afiu": Published("AFIU", "arXiv 2011.09677, 2020", 320, "none was published; what was exported here"),
    "u2net": Published(
        "U²-Net",
        "Qin et al., Pattern Recognition 2020",
        320,
        f"{_STATE_DICT.format('xuebinqin/U-2-Net')} (u2net.pth); ONNX files of it",
    ),
    "u2netp": Published(
        "U²-Netp",
        "Qin et al., Pattern Recognition 2020",
        320,
        f"{_STATE_DICT.format('xuebinqin/U-2-Net')} (u2netp.pth); ONNX files of it",
    ),
    "basnet": Published("BASNet", "Qin et al., CVPR 2019", 256, _STATE_DICT.format("xuebinqin/BASNet")),
    "minet_vgg16": Published("MINet-VGG16", "Pang et al., CVPR 2020", 320, _STATE_DICT.format("lartpang/MINet"), True),
    "minet_res50": Published("MINet-Res50", "Pang et al., CVPR 2020", 320, _STATE_DICT.format("lartpang/MINet"), True),
    "cpd_vgg16": Published("CPD", "Wu et al., CVPR 2019", 352, f"{_STATE_DICT.format('wuzhe71/CPD')} (CPD.pth)", True),
    "cpd_res50": Published(
        "CPD-R", "Wu et al., CVPR 2019", 352, f"{_STATE_DICT.format('wuzhe71/CPD')} (CPD-R.pth)", True
    ),
    "srm": Published(
        "SRM",
        "Wang et al., ICCV 2017",
        353,
        "arrays by layer of github.com/TiantianWang/ICCV17_SRM (Caffe, converted)",
        antialias=True,
    ),
    "sun": Published(
        "SUN (SUCA)",
        "Li et al., IEEE Transactions on Multimedia 2020",
        256,
        "state dict of SUCA of github.com/silencedog",
        antialias=True,
    ),
}
"""By the key in ``NETWORKS``."""
