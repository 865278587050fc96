"""Images per second of the training loader: decode, resize to 320, augment, batch; ours against PyTorch's DataLoader.

    python benchmarks/loader.py ../shared/data/msra10k/train --peer torch/bin/python [--workers 2] [--json loader.json]

Both read the same pairs, flip rows, change brightness, contrast and saturation, normalise, and give batches of 8. The
peer is what its users write: Pillow for all that is done to a picture, and as many worker processes as we have
threads. A round is 400 images of a running loader.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from rounds import Worker, alternate, answer, count, folder, interpreter, report, show, write

SIZE, BATCH, IMAGES = 320, 8, 400


def ours(pictures: Path, workers: int) -> None:
    from input_pipeline.loader import Preparation, train_batches
    from input_pipeline.sources import Spec, open_source
    from input_pipeline.transforms import Augment

    source = open_source(Spec("folder", str(pictures), white="salient"), "salient", seed=0)
    batches = train_batches(
        source, Preparation((SIZE, SIZE)), batch_size=BATCH, augment=Augment(), seed=0, workers=workers
    )

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(IMAGES // BATCH):
            batch = next(batches)
        assert batch["image"].shape == (BATCH, SIZE, SIZE, 3)
        return time.perf_counter() - start

    answer(measure)


def main(flags: argparse.Namespace) -> None:
    workers = {"ours": Worker(sys.executable, __file__, flags.folder, "--as-worker", "--workers", flags.workers)}
    if flags.peer:
        script = Path(__file__).with_name("torch_loader.py")
        workers["PyTorch's DataLoader"] = Worker(flags.peer, script, flags.folder, flags.workers, SIZE, BATCH, IMAGES)
    seconds = alternate(workers, flags.rounds)
    for worker in workers.values():
        worker.close()
    rates = {name: IMAGES / float(np.median(values)) for name, values in seconds.items()}
    found = report(seconds, "ours", case=f"loader, {flags.workers} workers", images=IMAGES, images_per_second=rates)
    show(f"{IMAGES} images at {SIZE} px, {flags.workers} workers", found)
    per_core = rates["ours"] / flags.workers
    found["on_16_cores"] = 16 * per_core
    print(f"  ours: {rates['ours']:.0f} images/s, {per_core:.0f} per core: {16 * per_core:.0f} on 16 cores (computed)")
    write(flags.json, [found])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=folder("images", "masks"), help="with images and masks")
    parser.add_argument("--peer", type=interpreter, help="Python of the environment with PyTorch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--as-worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_worker:
        ours(arguments.folder, arguments.workers)
    else:
        main(arguments)
