"""The command line: ``texnet VERB``, the same as ``python -m texnet VERB``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from texnet import commands, own_arguments
from texnet.options import THREADS, Parser, Verbs, computing, whole
from texnet.process import guarded

TWO = {"train": ("texture", "style"), "optimize": ("texture", "style")}
"""Verbs with a second word, which are verbs without it, too."""


def parser() -> Parser:
    top = Parser(prog="texnet", description="Improved Texture Networks, reproduced.")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = Verbs(top)
    own_arguments.add(verbs)
    verb = verbs.add

    p = verb(commands.configure, "write the run.json of every run", "config/config.yaml -o results")
    p.add_argument("config", help="YAML files joined by commas (later ones win), or JSON text")
    p.add_argument("-o", "--out", type=Path, required=True, help="directory of the runs")

    p = verb(commands.schema, "write the JSON schema of the configuration", "-o config.schema.json")
    p.add_argument("-o", "--out", type=Path, required=True)

    p = verb(
        commands.fetch,
        "fetch weights and images that the registry lists",
        "vgg19 bsds500_train --mirror /data/texnet",
    )
    p.add_argument("names", nargs="*", metavar="NAME", help="what to fetch")
    p.add_argument("--all", action="store_true", help="everything but sets of more than 2 GB")
    p.add_argument("--list", action="store_true", help="show the names, what is there, licences")
    p.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="URL",
        help="folder, or address of one, that is tried first (may be repeated; then those in"
        " the environment variable TEXNET_MIRRORS)",
    )

    p = verb(commands.train, "train a generator (resumable)", "run.json model.safetensors")
    p.add_argument("run", type=Path, help="run.json of a training")
    p.add_argument(
        "out", type=Path, help="model to write; history.csv and samples.png go beside it"
    )
    p.add_argument("--tensorboard", type=Path, metavar="DIR", help="also log the loss there")
    computing(p)

    p = verb(
        commands.adopt,
        "take a released generator instead of training it",
        "run.json expected/embedded/generators/stylenet_in_seed0/model.safetensors out.safetensors",
    )
    p.add_argument("run", type=Path, help="run.json of the training")
    p.add_argument("model", type=Path, help="released generator; history.csv beside it is taken")
    p.add_argument("out", type=Path, help="model to write; history.csv and samples.png beside it")

    p = verb(
        commands.optimize, "generate or finetune images by L-BFGS", "run.json images.safetensors"
    )
    p.add_argument("run", type=Path, help="run.json of a baseline")
    p.add_argument("out", type=Path, help="images to write; history.csv goes beside it")
    p.add_argument(
        "--start", type=Path, metavar="MODEL", help="generator whose output is finetuned"
    )
    computing(p)

    p = verb(
        commands.references,
        "measure crops of exemplars, as ceiling and floor of diversity",
        "results/v2_berries_seed0/run.json -o references.csv",
    )
    p.add_argument("runs", type=Path, nargs="+", help="run.json of a run on each exemplar")
    p.add_argument("--seeds", type=whole(0), nargs="+", default=[0], help="of the crops")
    p.add_argument("-o", "--out", type=Path, required=True)
    computing(p)

    p = verb(
        commands.released,
        "measure a texture network that the authors released, as a run on its exemplar",
        "authors_red_peppers results/v1_bn_red_peppers_seed0/run.json -o authors.csv",
    )
    p.add_argument("source", help="a .t7 file, or its name (texnet fetch --list)")
    p.add_argument("run", type=Path, help="run.json of a run on the same exemplar")
    p.add_argument("-o", "--out", type=Path, required=True)
    computing(p)

    p = verb(
        commands.speed,
        "measure time and memory of generators and of optimisation",
        "results/speed.json -o benchmarks/speed.csv",
    )
    p.add_argument("settings", type=Path, help="JSON of what is measured: see texnet/speed.py")
    p.add_argument("-o", "--out", type=Path, required=True)

    p = verb(
        commands.estimator, "hold the entropy estimator against known entropies", "-o estimator.csv"
    )
    p.add_argument("--seeds", type=whole(0), nargs="+", default=[0, 1, 2])
    p.add_argument("-o", "--out", type=Path, required=True)

    p = verb(
        commands.sweep,
        "choose T from the scores of a sweep",
        "berries --settings results/sweep.json --scores A.csv B.csv -o berries.csv",
    )
    p.add_argument("exemplar")
    p.add_argument("--settings", type=Path, required=True, help="results/sweep.json")
    p.add_argument("--scores", type=Path, nargs="+", required=True)
    p.add_argument("-o", "--out", type=Path, required=True)

    p = verb(commands.temper, "give a run the chosen T", "asked.json sweep/berries.csv -o run.json")
    p.add_argument("run", type=Path, help="run.json of a training")
    p.add_argument("table", type=Path, help="table of texnet sweep")
    p.add_argument("-o", "--out", type=Path, required=True)

    p = verb(
        commands.metrics,
        "gather scores, with intervals",
        "results/scores/*.csv -o results/metrics.csv",
    )
    p.add_argument("scores", type=Path, nargs="+")
    p.add_argument("-o", "--out", type=Path, required=True)

    p = verb(
        commands.claims,
        "judge the paper's claims",
        "--stylization stylization.json --textures textures.json --scores A.csv --histories DIR"
        " -o claims.csv",
    )
    p.add_argument("--stylization", type=Path, required=True, help="results/stylization.json")
    p.add_argument("--textures", type=Path, required=True, help="results/textures.json")
    p.add_argument("--sweeps", type=Path, nargs="*", default=[], help="tables of texnet sweep")
    p.add_argument("--scores", type=Path, nargs="+", required=True)
    p.add_argument("--histories", type=Path, nargs="+", required=True, help="training directories")
    p.add_argument("-o", "--out", type=Path, required=True)

    p = verb(
        commands.verify,
        "compare results with those expected of their scale; exits with 1 where claims differ",
        "embedded --results results --expected expected",
    )
    p.add_argument("scale", help="name of the scale: a folder of --expected")
    p.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    p.add_argument("--expected", type=Path, default=Path("expected"), help="default: expected")

    p = verb(
        commands.distill,
        "distil VGG-19 into vgg19_lite",
        "--teacher DIR --images DIR --out lite.safetensors",
    )
    p.add_argument("--teacher", type=Path, required=True, help="VGG-19 weights, a file or a folder")
    p.add_argument("--images", type=Path, nargs="+", required=True, help="folders of images")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--steps", type=whole(1), default=7000)
    p.add_argument("--seed", type=whole(0), default=0)
    p.add_argument("--threads", type=THREADS, default=2)
    p.add_argument("--note", default="", help="about the teacher's weights; kept in the metadata")

    p = verb(
        commands.exemplar, "draw one of the project's exemplars", "swirls --size 512 -o swirls.png"
    )
    p.add_argument("name")
    p.add_argument("-o", "--out", type=Path, required=True)
    p.add_argument("--size", type=whole(32, 4096), default=512)
    p.add_argument("--seed", type=whole(0), default=0)
    return top


def joined(arguments: Sequence[str]) -> list[str]:
    """``train texture`` as one word, for argparse; a folder of that name is ``./texture``."""
    given = list(arguments)
    words = [number for number, word in enumerate(given) if not word.startswith("-")][:2]
    if len(words) == 2 and given[words[1]] in TWO.get(given[words[0]], ()):
        given[words[0]] += f" {given.pop(words[1])}"
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    given = joined(sys.argv[1:] if arguments is None else arguments)
    args, unknown = parser().parse_known_args(given)
    if unknown:  # argparse would send to the list of verbs
        of_verb = f"texnet {args.verb}"
        message = f"error: unrecognized arguments: {' '.join(unknown)}"
        print(f"{of_verb}: {message}; see {of_verb} --help", file=sys.stderr)
        return 2
    last = arguments is None
    return guarded(f"texnet {args.verb}", lambda: args.run_verb(args), args.debug, last)


if __name__ == "__main__":
    sys.exit(main())
