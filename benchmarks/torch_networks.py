"""AFIU and U²-Netp in PyTorch, as their users would write them: what ours is compared with.

Parameters bear the names that ``afiu_jax.interop`` gives them, so that a state dict moves over and both compute the
same. PyTorch alone is needed here.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn


def near(names: list[str], name: str) -> list[str]:
    """A branch and those next to it."""
    return [other for other in names if abs(names.index(other) - names.index(name)) <= 1]


def bilinear(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Resized to the size of another map."""
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def nearest(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Enlarged to the size of another map by repeating pixels."""
    return F.interpolate(x, like.shape[2:], mode="nearest")


class Interaction(nn.Module):
    """What AIM and SIM share: numbered stages of 3×3 convolutions between branches."""

    up = staticmethod(bilinear)

    def route(self, stage: int, source: str, target: str, features: int, out: int) -> None:
        """Adds the convolution from one branch to another."""
        setattr(self, f"{source}2{target}_{stage}", nn.Conv2d(features, out, 3, padding=1))

    def norm(self, stage: int, branch: str, features: int) -> None:
        """Adds the normalisation of a branch."""
        setattr(self, f"bn{branch}_{stage}", nn.BatchNorm2d(features))

    def interact(self, stage: int, x: dict[str, torch.Tensor], target: str) -> torch.Tensor:
        """Every neighbour brought to the branch's size and convolved, their sum normalised."""
        total = 0
        for source in near(list(x), target):
            y = x[source]
            if y.shape[2:] != x[target].shape[2:]:
                y = F.avg_pool2d(y, 2) if y.shape[2] > x[target].shape[2] else self.up(y, x[target])
            total = total + getattr(self, f"{source}2{target}_{stage}")(y)
        return torch.relu(getattr(self, f"bn{target}_{stage}")(total))


class AIM(Interaction):
    """Aggregate interaction module (MINet)."""

    up = staticmethod(nearest)

    def __init__(self, inputs: dict[str, int], main: str, out: int, mid_cap: int | None):
        super().__init__()
        self.main, names = main, list(inputs)
        mid = min([*inputs.values(), mid_cap or max(inputs.values())])
        for b, features in inputs.items():
            self.route(0, b, b, features, mid)
            self.norm(0, b, mid)
            for a in near(names, b):
                self.route(1, a, b, mid, mid)
            self.norm(1, b, mid)
        for a in near(names, main):
            self.route(2, a, main, mid, mid)
        self.norm(2, main, mid)
        self.route(3, main, main, mid, out)
        self.norm(3, main, out)
        self.identity = nn.Conv2d(inputs[main], out, 1)

    def forward(self, levels: dict[str, torch.Tensor]) -> torch.Tensor:
        """The levels by branch, aggregated at the size of the main one."""
        m = self.main
        x = {b: torch.relu(getattr(self, f"bn{b}_0")(getattr(self, f"{b}2{b}_0")(y))) for b, y in levels.items()}
        x = {b: self.interact(1, x, b) for b in x}
        y = getattr(self, f"bn{m}_3")(getattr(self, f"{m}2{m}_3")(self.interact(2, x, m)))
        return torch.relu(y + self.identity(levels[m]))


class SIM(Interaction):
    """Self-interaction module (MINet)."""

    def __init__(self, high: int, low: int):
        super().__init__()
        widths = {"h": high, "l": low}
        for b, features in widths.items():
            self.route(0, "h", b, high, features)
            self.norm(0, b, features)
            for a, width in widths.items():
                self.route(1, a, b, width, features)
            self.norm(1, b, features)
        for a, width in widths.items():
            self.route(2, a, "h", width, high)
        self.norm(2, "h", high)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A map of the input's shape."""
        h = torch.relu(self.bnh_0(self.h2h_0(x)))
        low = torch.relu(self.bnl_0(self.h2l_0(F.avg_pool2d(x, 2))))
        branches = {"h": h, "l": low}
        branches = {b: self.interact(1, branches, b) for b in branches}
        return self.interact(2, branches, "h") + x


class Unit(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(self, features: int, out: int, dilation: int = 1):
        super().__init__()
        self.conv_s1 = nn.Conv2d(features, out, 3, padding=dilation, dilation=dilation)
        self.bn_s1 = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``out`` channels at the input's size."""
        return torch.relu(self.bn_s1(self.conv_s1(x)))


class RSU(nn.Module):
    """Residual U-block of height L (U²-Net); dilated in place of pooled for RSU-4F."""

    def __init__(self, height: int, features: int, mid: int, out: int, dilated: bool = False):
        super().__init__()
        self.height, self.dilated = height, dilated
        self.rebnconvin = Unit(features, out)
        for i in range(1, height):
            dilation = 2 ** (i - 1) if dilated else 1
            setattr(self, f"rebnconv{i}", Unit(out if i == 1 else mid, mid, dilation))
            setattr(self, f"rebnconv{i}d", Unit(2 * mid, out if i == 1 else mid, dilation))
        setattr(self, f"rebnconv{height}", Unit(mid, mid, 2 ** (height - 1) if dilated else 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``out`` channels at the input's size."""
        x = embedded = self.rebnconvin(x)
        skips = []
        for i in range(1, self.height):
            if i > 1 and not self.dilated:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = getattr(self, f"rebnconv{i}")(x)
            skips.append(x)
        x = getattr(self, f"rebnconv{self.height}")(x)
        for i in reversed(range(1, self.height)):
            skip = skips[i - 1]
            x = x if x.shape == skip.shape else bilinear(x, skip)
            x = getattr(self, f"rebnconv{i}d")(torch.cat([x, skip], 1))
        return x + embedded


class Bottleneck(nn.Module):
    """ResNet-50's block, the stride on its 3×3 convolution."""

    def __init__(self, features: int, width: int, stride: int):
        super().__init__()
        out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(features, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or features != out:
            self.downsample = nn.Sequential(nn.Conv2d(features, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Four times the width in channels."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class AFIU(nn.Module):
    """The paper's network; options as of ours."""

    def __init__(
        self,
        width: int = 64,
        depths: tuple[int, ...] = (3, 4, 6, 3),
        channels: int = 64,
        aim_mid_cap: int | None = None,
        sim_low: int = 32,
        rsu_heights: tuple[int, ...] = (2, 3, 4, 5, 5),
        rsu_mid: int = 32,
    ):
        super().__init__()
        widths = [width, *(width * 2**i * 4 for i in range(4))]
        self.E1 = nn.Sequential(nn.Conv2d(3, width, 7, 2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        for i, depth in enumerate(depths):
            blocks = [
                Bottleneck(widths[i + 1] if j else widths[i], width * 2**i, 1 if j or i == 0 else 2)
                for j in range(depth)
            ]
            setattr(self, f"E{i + 2}", nn.Sequential(*blocks))
        self.neighbours = {1: {"h": 1, "l": 2}, 5: {"h": 4, "l": 5}}
        self.neighbours |= {x: {"h": x - 1, "m": x, "l": x + 1} for x in (2, 3, 4)}
        for x in range(1, 6):
            inputs = {b: widths[level - 1] for b, level in self.neighbours[x].items()}
            main = {1: "h", 5: "l"}.get(x, "m")
            setattr(self, f"AIM{x}", AIM(inputs, main, channels, aim_mid_cap))
            setattr(self, f"SIM{x}", SIM(channels, sim_low))
            fusion = [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            setattr(self, f"fusion{x}", nn.Sequential(*fusion))
            features = channels if x == 5 else 2 * channels
            setattr(self, f"D{x}", RSU(rsu_heights[x - 1], features, rsu_mid, channels))
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits at the image's size."""
        levels = {1: self.E1(image)}
        levels[2] = self.E2(F.max_pool2d(levels[1], 3, 2, padding=1))
        for x in (3, 4, 5):
            levels[x] = getattr(self, f"E{x}")(levels[x - 1])
        deeper = None
        for x in reversed(range(1, 6)):
            y = getattr(self, f"AIM{x}")({b: levels[level] for b, level in self.neighbours[x].items()})
            y = getattr(self, f"fusion{x}")(getattr(self, f"SIM{x}")(y))
            y = y if deeper is None else torch.cat([y, bilinear(deeper, y)], 1)
            deeper = getattr(self, f"D{x}")(y)
        return bilinear(self.head(deeper), image)


class U2NetP(nn.Module):
    """U²-Netp."""

    def __init__(self, mid: int = 16, out: int = 64):
        super().__init__()
        heights = (7, 6, 5, 4, 4, 4)
        for i, height in enumerate(heights, start=1):
            setattr(self, f"stage{i}", RSU(height, out if i > 1 else 3, mid, out, i >= 5))
            setattr(self, f"side{i}", nn.Conv2d(out, 1, 3, padding=1))
            if i < 6:
                setattr(self, f"stage{i}d", RSU(height, 2 * out, mid, out, i == 5))
        self.outconv = nn.Conv2d(6, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of the fused map at the image's size."""
        stages = [self.stage1(image)]
        for i in range(2, 7):
            stages.append(getattr(self, f"stage{i}")(F.max_pool2d(stages[-1], 2, ceil_mode=True)))
        deeper, decoded = stages[5], [stages[5]]
        for i in reversed(range(1, 6)):
            deeper = torch.cat([bilinear(deeper, stages[i - 1]), stages[i - 1]], 1)
            deeper = getattr(self, f"stage{i}d")(deeper)
            decoded.insert(0, deeper)
        sides = [bilinear(getattr(self, f"side{i}")(y), image) for i, y in enumerate(decoded, start=1)]
        return self.outconv(torch.cat(sides, 1))


NETWORKS = {"afiu": AFIU, "u2netp": U2NetP}
