"""Our process: the same task as ``torch_peer.py``, or the exported network in onnxruntime."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from rounds import answer


def step(flags: argparse.Namespace, given: dict):
    """A training step, as ``train.py`` makes it, and the first one's loss and gradient of the last convolution."""
    from afiu_jax.layers import count_parameters
    from afiu_jax.memory import is_long_step, keep_freed_memory
    from afiu_jax.networks import abstract_model

    parameters = count_parameters(abstract_model(flags.network, **json.loads(flags.options)))
    if is_long_step(parameters, given["masks"].size):
        keep_freed_memory()
    import jax
    import jax.numpy as jnp

    from afiu_jax.garbage import settle
    from afiu_jax.losses import LOSSES
    from afiu_jax.training.optimizer import create_optimizer
    from afiu_jax.training.schema import base_config
    from afiu_jax.training.state import create_state, graph_of
    from afiu_jax.training.step import make_train_step

    model = filled(flags, given)
    optimizer = create_optimizer(base_config().to_dict())
    state = create_state(model, optimizer)
    train_step = make_train_step(graph_of(model, training=True), LOSSES["bce"], optimizer)
    images, masks = jnp.asarray(given["images"]), jnp.asarray(given["masks"])
    kept = [state]

    def run():
        kept[0], report = train_step(kept[0], images, masks)
        jax.block_until_ready(kept[0])
        return report

    loss = np.asarray(run().loss)
    settle()  # as in a run, after its first step
    means = kept[0].opt_state[0].mu  # after one step, Adam's mean of the gradient is a tenth of it
    return run, {"loss": loss, "gradient": 10 * np.asarray(means["head.kernel.value"]).ravel()}


def infer(flags: argparse.Namespace, given: dict):
    """A prediction, as ``afiu predict`` makes it but for folded statistics, and its maps."""
    from afiu_jax.memory import keep_freed_memory

    keep_freed_memory()
    from flax import nnx

    from afiu_jax.training.predict_step import make_predict_step
    from afiu_jax.training.state import graph_in_use

    model = filled(flags, given)
    params, batch_stats = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    graph, filtered = graph_in_use(model, params)
    predict = make_predict_step(graph)
    run = lambda: np.asarray(predict(params, batch_stats, filtered, given["images"]))  # noqa: E731
    return run, {"maps": run()}


def onnx(flags: argparse.Namespace, given: dict):
    """A prediction by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(flags.onnx, providers=["CPUExecutionProvider"])
    images = given["images"].transpose(0, 3, 1, 2).copy()
    run = lambda: session.run(["map"], {"image": images})[0]  # noqa: E731
    return run, {"maps": run().transpose(0, 2, 3, 1)}


def filled(flags: argparse.Namespace, given: dict):
    """The network with the given weights."""
    from flax import nnx

    from afiu_jax import create_model
    from afiu_jax.interop.layout import from_published

    model = create_model(flags.network, rngs=nnx.Rngs(0), **json.loads(flags.options))
    from_published(model, flags.network, {name[2:]: given[name] for name in given if name.startswith("w:")})
    return model


def main(flags: argparse.Namespace) -> None:
    with np.load(flags.given) as file:
        given = dict(file)
    run, found = {"step": step, "infer": infer, "onnx": onnx}[flags.task](flags, given)
    np.savez(flags.found, **found)

    def measure() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    answer(measure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["step", "infer", "onnx"])
    parser.add_argument("--network", required=True)
    parser.add_argument("--options", default="{}", help="of the network, as JSON")
    parser.add_argument("--given", required=True, help="npz: weights, images, masks")
    parser.add_argument("--found", required=True, help="npz to write: maps, or loss and gradient")
    parser.add_argument("--onnx", type=Path)
    main(parser.parse_args())
