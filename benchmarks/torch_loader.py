"""The peer of ``loader.py``: a DataLoader over the same pairs, with Pillow doing what torchvision makes it do."""

import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from rounds import answer
from torch.utils.data import DataLoader, Dataset

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

folder, (workers, size, batch_size, images) = Path(sys.argv[1]), map(int, sys.argv[2:])


class Pairs(Dataset):
    """Photos and masks of a folder."""

    def __init__(self):
        self.masks = {path.stem: path for path in (folder / "masks").iterdir()}
        self.images = sorted(path for path in (folder / "images").iterdir() if path.stem in self.masks)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        path = self.images[index]
        image = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        mask = Image.open(self.masks[path.stem]).convert("L").resize((size, size), Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            image, mask = (x.transpose(Image.Transpose.FLIP_TOP_BOTTOM) for x in (image, mask))
        for enhancer in ENHANCERS:
            image = enhancer(image).enhance(random.uniform(0.9, 1.1))
        pixels = (torch.from_numpy(np.array(image)).float() / 255 - MEAN) / STD
        return pixels.permute(2, 0, 1), (torch.from_numpy(np.array(mask))[None] >= 128).float()


def endless(loader: DataLoader):
    """Epoch after epoch."""
    while True:
        yield from loader


if __name__ == "__main__":
    loader = DataLoader(Pairs(), batch_size, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True)
    batches = endless(loader)

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(images // batch_size):
            image, _ = next(batches)
        assert image.shape == (batch_size, 3, size, size)
        return time.perf_counter() - start

    answer(measure, torch=torch.__version__)
