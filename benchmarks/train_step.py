"""A training step on the CPU, ours against PyTorch: loss, gradients and Adam on the same weights and batch.

    python benchmarks/train_step.py --peer torch/bin/python [--only afiu-small] [--json train_step.json]

PyTorch is tried eager and compiled, with channels first and last, and its fastest way takes turns with ours. The
first step's loss and the gradient of the last convolution must agree to 1e-3.
"""

from same_network import Case
from versus import main

CASES = (Case("afiu", 160, 2), Case("afiu", 320, 2), Case("afiu", 160, 8, small=True))

if __name__ == "__main__":
    main(__doc__, "step", CASES)
