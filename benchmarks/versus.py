"""The command line that ``train_step.py`` and ``inference.py`` share."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rounds import alternate, count, interpreter, report, show, write
from same_network import MODES, Case, Contest


def main(words: str, task: str, cases: Sequence[Case]) -> None:
    """Runs the cases one after the other.

    Args:
        words: the command's docstring.
        task: ``step`` or ``infer``.
        cases: what is compared.
    """
    parser = argparse.ArgumentParser(description=words.splitlines()[0])
    parser.add_argument("--peer", type=interpreter, required=True, help="Python of the environment with PyTorch")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out, which takes minutes a case")
    parser.add_argument("--json", type=Path, help="write the figures there")
    flags = parser.parse_args()
    chosen = [case for case in cases if flags.only in str(case)]
    if not chosen:
        parser.error(f"argument --only: no case has {flags.only!r} in its name: {'; '.join(map(str, cases))}")
    results = []
    for case in chosen:
        print(f"{case}: starting", flush=True)
        with Contest(case, task, flags.peer) as contest:
            contest.add_torch([name for name in MODES if not (flags.eager and "compiled" in name)])
            if task == "infer":
                contest.add_onnxruntime()
            versions = {name: worker.ready for name, worker in contest.workers.items() if worker.ready}
            seconds = alternate(contest.workers, flags.rounds)
            found = report(
                seconds,
                "ours",
                case=str(case),
                task=task,
                difference=contest.difference,
                refused=contest.refused,
                versions=versions,
            )
        show(str(case), found)
        results.append(found)
        write(flags.json, results)
