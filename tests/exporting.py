"""Exports a network with its initial weights: ``python tests/exporting.py NETWORK PROGRAM FILE``.

Prints which sizes the program takes, then how far its maps are from JAX's: at the network's own size, and, if it takes
others, at one of these.
"""

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from afiu_jax.export import PROGRAMS, _exportable, largest_difference
from afiu_jax.interop.importing import published_config
from afiu_jax.networks import NETWORKS, create_model
from afiu_jax.training.saved import SavedModel
from input_pipeline.scenes import Scenes


def main(name: str, program: str, file: str) -> None:
    network = NETWORKS[name]
    options = dict(network.presets.get("small", {})) if name in ("afiu", "u2net") else {}
    config = published_config(name)
    # SRM's own 0–255 would take a network with initial weights to where a sigmoid is a step.
    data = {**config["data"], "normalize": "imagenet", "image_size": network.sizes.nearest(128)[1]}
    config = {**config, "model": {**config["model"], "options": options}, "data": data}
    exportable = _exportable(SavedModel(Path(name), 0, config, None, {}, {}), create_model(name, **options))
    module = import_module(PROGRAMS[program])
    sizes = module.write(exportable, Path(file))
    print(sizes)
    opened = module.open_program(Path(file))
    for size in (exportable.size, exportable.size + 32)[: 1 + ("sizes: multiples" in sizes)]:
        print(largest_difference(replace(exportable, size=size), opened, Scenes("salient")))


if __name__ == "__main__":
    main(*sys.argv[1:])
