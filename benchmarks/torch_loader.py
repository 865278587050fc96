"""The peer of ``loader.py``: a DataLoader over the same pairs, with torchvision's transforms."""

import random
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from rounds import answer
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

folder, (workers, size, batch_size, images) = Path(sys.argv[1]), map(int, sys.argv[2:])


class Pairs(Dataset):
    """Photos and masks of a folder."""

    def __init__(self):
        self.masks = {path.stem: path for path in (folder / "masks").iterdir()}
        self.images = sorted(path for path in (folder / "images").iterdir() if path.stem in self.masks)
        resize = v2.Resize((size, size), v2.InterpolationMode.BILINEAR, antialias=False)
        to_float = v2.ToDtype(torch.float32, scale=True)
        self.of_image = v2.Compose([v2.ToImage(), resize])
        self.jitter = v2.Compose(
            [v2.ColorJitter(0.1, 0.1, 0.1), to_float, v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
        )
        self.of_mask = v2.Compose([v2.ToImage(), resize])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        path = self.images[index]
        image = self.of_image(Image.open(path).convert("RGB"))
        mask = self.of_mask(Image.open(self.masks[path.stem]).convert("L"))
        if random.random() < 0.5:
            image, mask = image.flip(1), mask.flip(1)
        return self.jitter(image), (mask >= 128).float()


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
