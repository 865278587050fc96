"""The peer's process, run by the peer's Python: a training step or a prediction of the same network in PyTorch.

Started by ``train_step.py``, ``inference.py`` and ``first_step.py``; see ``rounds.Worker`` for how it is asked.
"""

import argparse
import json
import time

import numpy as np
import torch
from rounds import answer
from torch_networks import NETWORKS


def main(flags: argparse.Namespace) -> None:
    layout = torch.channels_last if flags.channels_last else torch.contiguous_format
    model = NETWORKS[flags.network](**json.loads(flags.options)).to(memory_format=layout)
    given = np.load(flags.given)
    weights = {name[2:]: torch.from_numpy(given[name]) for name in given.files if name.startswith("w:")}
    model.load_state_dict(weights)
    images = torch.from_numpy(given["images"].transpose(0, 3, 1, 2).copy()).contiguous(memory_format=layout)
    masks = torch.from_numpy(given["masks"].transpose(0, 3, 1, 2).copy())
    network = torch.compile(model) if flags.compile else model

    if flags.task == "infer":
        model.eval()

        def run() -> torch.Tensor:
            with torch.inference_mode():
                return torch.sigmoid(network(images))

        found = {"maps": run().numpy().transpose(0, 2, 3, 1)}
    else:
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

        def run() -> torch.Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(images), masks)
            loss.backward()
            optimizer.step()
            return loss.detach()

        loss = run()
        found = {"loss": loss.numpy(), "gradient": model.head.weight.grad.numpy().ravel()}
    np.savez(flags.found, **found)

    def measure() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    answer(measure, torch=torch.__version__)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["step", "infer"])
    parser.add_argument("--network", required=True)
    parser.add_argument("--options", default="{}", help="of the network, as JSON")
    parser.add_argument("--given", required=True, help="npz: weights, images, masks")
    parser.add_argument("--found", required=True, help="npz to write: maps, or loss and gradient")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    main(parser.parse_args())
