#!/usr/bin/env python3
"""Evaluate a trained agent from Python: `python scripts/evaluate.py runs/cartpole 20`."""

import argparse
import json

import rlcore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="the run's directory, or its checkpoint file")
    parser.add_argument("episodes", type=int, nargs="?", default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    run = rlcore.load(arguments.run)
    result = run.evaluate(episodes=arguments.episodes, seed=arguments.seed)
    print(json.dumps(result.to_json()))


if __name__ == "__main__":
    main()
