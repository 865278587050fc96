"""Maps on the CPU, ours against PyTorch and against onnxruntime on what `afiu export` writes.

    python benchmarks/inference.py --peer torch/bin/python [--only u2netp] [--json inference.json]

Images and maps are arrays in memory. PyTorch is tried eager and compiled, with channels first and last, and its fastest
way takes turns with the others. The maps must agree to 1e-3.
"""

from same_network import Case
from versus import main

CASES = tuple(Case(network, 320, batch_size) for network in ("u2netp", "afiu") for batch_size in (1, 8))

if __name__ == "__main__":
    main(__doc__, "infer", CASES)
