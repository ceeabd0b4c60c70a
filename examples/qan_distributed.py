"""A policy learned by a chief and several workers on this host; what they do is scikit-learn's digits.

Without KerasTuner's environment variables this file starts itself as the processes of a search: a
chief, which holds the network and learns, and workers, which train. It ends them all on Ctrl-C or when
one fails, and shows the results. With the variables set it is one of these processes. Started again
with the same folder, it goes on.

    python examples/qan_distributed.py --workers 2
"""

import argparse
import pathlib

import launch
import qan_digits


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="processes that train")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("out/qan_distributed"))
    arguments = parser.parse_args()
    if launch.is_launched():
        qan_digits.search(qan_digits.make_tuner(arguments.trials, arguments.folder))
        return
    launch.launch(arguments.workers)
    tuner = qan_digits.make_tuner(arguments.trials, arguments.folder)  # from what is in the folder
    tuner.results_summary(3)
    tuner.get_best_policy().save(arguments.folder / "policy.keras")
    print(f"Wrote {arguments.folder / 'policy.keras'}.")


if __name__ == "__main__":
    main()
