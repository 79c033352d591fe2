"""The command line: ``texnet VERB``, the same as ``python -m texnet VERB``.

Each verb imports what it needs, so that ``--help`` and the table verbs start without PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from texnet.errors import DataError, MissingError, TexnetError, UsageError


def configure(args: argparse.Namespace) -> None:
    from texnet import config, experiment
    from texnet.artifacts import write_json

    made = config.parse(experiment.Experiment, _mapping(args.config), "configuration")
    for name, run in made.all_runs().items():
        write_json(args.out / name / "run.json", config.to_json(run))
    write_json(args.out / "fig3.json", made.figure3())
    write_json(args.out / "textures.json", made.texture_parts())


def _mapping(text: str) -> dict:
    """A configuration given as JSON text, or as one or more YAML files joined by commas."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(f"configuration: is not valid JSON ({error})") from error
    import yaml

    from texnet.artifacts import check_file

    merged: dict = {}
    for name in filter(None, map(str.strip, text.split(","))):
        try:
            content = yaml.safe_load(check_file(Path(name), "YAML").read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise DataError(f"{name}: is not valid YAML ({error})") from error
        if not isinstance(content, dict):
            raise UsageError(f"{name}: holds no keys; config/README.md lists them")
        merged = _merge(merged, content)
    return merged


def _device(name: str, threads: int):  # noqa: ANN202 (a torch.device)
    """Set up the process; UsageError where the device is not there."""
    import torch

    from texnet import runtime

    device = runtime.prepare(name, threads)
    try:
        torch.empty(1, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"device '{name}' is not usable here ({reason}); use cpu") from error
    return device


def _merge(base: dict, change: dict) -> dict:
    both = {k: _merge(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v
            for k, v in change.items()}  # fmt: skip
    return {**base, **both}


def schema(args: argparse.Namespace) -> None:
    from texnet import experiment, validation
    from texnet.artifacts import write_json

    write_json(args.out, validation.schema(experiment.Experiment))


def train(args: argparse.Namespace) -> None:
    from texnet import config, training
    from texnet.artifacts import check_writable
    from texnet.progress import Progress

    run = config.read_run(args.run)
    if not isinstance(run, config.Training):
        raise UsageError(f"{args.run}: describes a baseline; use texnet optimize")
    check_writable(args.out)
    device = _device(args.device or run.device, run.threads)
    with Progress(
        f"{run.name} seed {run.seed}", run.optimiser.iterations, args.tensorboard
    ) as show:
        training.train(run, args.out, device, lambda step: show(step.iteration, step.loss))


def optimize(args: argparse.Namespace) -> None:
    from texnet import baselines, config
    from texnet.artifacts import check_writable
    from texnet.progress import Progress

    run = config.read_run(args.run)
    if not isinstance(run, config.Optimisation):
        raise UsageError(f"{args.run}: describes a training; use texnet train")
    check_writable(args.out)
    device = _device(args.device or run.device, run.threads)
    done = 0
    images = run.images
    total = images.samples if isinstance(images, config.Texture) else len(images.heldout)
    with Progress(f"{run.name} seed {run.seed}", total) as show:

        def on_image(content: str, result: baselines.Optimised) -> None:
            nonlocal done
            done += 1
            show(done, result.trace[-1][0])

        baselines.run_baseline(run, args.out, device, args.start, on_image)


def stylize(args: argparse.Namespace) -> None:
    import torch

    from texnet import config, data, inputs, training

    if args.out.suffix.lower() in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"--out {args.out}: looks like a file; name a folder for the results")
    files = data.images_under([args.image]) if args.image.is_dir() else [args.image]
    made: dict[Path, Path] = {}
    for file in files:
        out = args.out / f"{file.stem}.png"
        if out in made:
            raise UsageError(f"{made[out]} and {file} would both become {out}; rename one")
        if out.exists() and file.exists() and out.samefile(file):
            raise UsageError(f"{out}: would overwrite its input; choose another --out")
        made[out] = file
    device = _device(args.device or "auto", args.threads)
    net, run = training.load_generator(args.model)
    if isinstance(run.images, config.Texture):
        raise UsageError(f"{args.model}: makes textures, takes no image; use texnet sample")
    net.to(device)
    for out, file in made.items():
        content = data.load_image(str(file))
        if args.size:
            content = data.fit(content, args.size)
        content = content[None].to(device)
        noise = inputs.NoiseStream(net, args.seed)(1, *content.shape[-2:], 0)
        with torch.no_grad():
            image = net(content, [z.to(device) for z in noise])[0]
        data.write_image(out, image)
        print(out)


def score(args: argparse.Namespace) -> None:
    from texnet import config, scoring, tables
    from texnet.artifacts import check_writable

    check_writable(args.out)
    rows = []
    for directory in args.runs:
        run = config.read_run(directory / "run.json")
        device = _device(args.device or run.device, run.threads)
        rows += scoring.score(directory, device)
    tables.write_table(args.out, tables.SCORE_COLUMNS, rows)


def metrics(args: argparse.Namespace) -> None:
    from texnet import tables

    rows = tables.summarise(tables.read_scores(args.scores))
    tables.write_table(args.out, tables.METRIC_COLUMNS, rows)


def claims(args: argparse.Namespace) -> None:
    from texnet import tables
    from texnet.artifacts import write_text
    from texnet.claims import CLAIM_COLUMNS, gather, judge, markdown

    rows = judge(gather(args.roles, args.scores, args.histories))
    tables.write_table(args.out, CLAIM_COLUMNS, rows)
    write_text(args.out.with_suffix(".md"), markdown(rows))


def distill(args: argparse.Namespace) -> None:
    from texnet import distillation
    from texnet.artifacts import check_writable
    from texnet.progress import Progress

    check_writable(args.out)
    _device("cpu", args.threads)
    settings = distillation.Settings(steps=args.steps, seed=args.seed)
    with Progress("distillation", args.steps) as show:

        def on_step(step: int, shares: dict[str, float]) -> None:
            show(step, sum(shares.values()) / len(shares))

        r2 = distillation.run(args.teacher, args.images, args.out, settings, on_step, args.note)
    for layer, value in r2.items():
        print(f"{layer}  R2 {value:.3f}")


def exemplar(args: argparse.Namespace) -> None:
    import torch

    from texnet import data, exemplars

    if args.name not in exemplars.EXEMPLARS:
        raise UsageError(f"unknown exemplar '{args.name}'; use {', '.join(exemplars.EXEMPLARS)}")
    drawing = exemplars.draw(args.name, args.size, args.seed)
    data.write_image(args.out, torch.from_numpy(drawing).permute(2, 0, 1))


class Parser(argparse.ArgumentParser):
    """Says one line about a wrong argument, not the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def whole(low: int, high: int = 2**31 - 1) -> Callable[[str], int]:
    """A type of argument: a whole number in ``low`` to ``high``."""

    def number(text: str) -> int:
        try:
            if low <= int(text) <= high:
                return int(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number in {low} to {high}")

    return number


THREADS = whole(1, 256)


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="texnet", description="Improved Texture Networks, reproduced.")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(function, summary: str, example: str) -> argparse.ArgumentParser:  # noqa: ANN001
        p = verbs.add_parser(
            function.__name__,
            help=summary,
            description=summary,
            epilog=f"example: texnet {function.__name__} {example}",
        )
        p.set_defaults(run_verb=function)
        p.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="(the same)")
        return p

    def computing(p: argparse.ArgumentParser, threads: bool = False) -> None:
        p.add_argument("--device", choices=("cpu", "cuda", "mps", "auto"), help="where to compute")
        if threads:
            p.add_argument("--threads", type=THREADS, default=1, help="CPU threads (default 1)")

    p = verb(configure, "write the run.json of every run", "config/config.yaml -o results")
    p.add_argument("config", help="YAML files joined by commas (later ones win), or JSON text")
    p.add_argument("-o", "--out", type=Path, required=True, help="directory of the runs")

    p = verb(schema, "write the JSON schema of the configuration", "-o config.schema.json")
    p.add_argument("-o", "--out", type=Path, required=True)

    p = verb(train, "train a generator (resumable)", "run.json model.safetensors")
    p.add_argument("run", type=Path, help="run.json of a training")
    p.add_argument(
        "out", type=Path, help="model to write; history.csv and samples.png go beside it"
    )
    p.add_argument("--tensorboard", type=Path, metavar="DIR", help="also log the loss there")
    computing(p)

    p = verb(optimize, "generate or finetune images by L-BFGS", "run.json images.safetensors")
    p.add_argument("run", type=Path, help="run.json of a baseline")
    p.add_argument("out", type=Path, help="images to write; history.csv goes beside it")
    p.add_argument(
        "--start", type=Path, metavar="MODEL", help="generator whose output is finetuned"
    )
    computing(p)

    p = verb(stylize, "apply a trained generator to images", "model.safetensors photo.jpg -o out")
    p.add_argument("model", type=Path)
    p.add_argument("image", type=Path, help="an image, a folder of images or a photograph's name")
    p.add_argument("-o", "--out", type=Path, required=True, help="folder of the results (PNG)")
    p.add_argument("--size", type=whole(16, 8000), help="longer side in pixels (default: kept)")
    p.add_argument(
        "--seed", type=whole(0), default=0, help="of the noise, where the generator takes any"
    )
    computing(p, threads=True)

    p = verb(
        score, "measure runs on their held-out images", "results/stylenet_in_seed0 -o scores.csv"
    )
    p.add_argument("runs", type=Path, nargs="+", help="directories of finished runs")
    p.add_argument("-o", "--out", type=Path, required=True)
    computing(p)

    p = verb(
        metrics, "gather scores, with intervals", "results/scores/*.csv -o results/metrics.csv"
    )
    p.add_argument("scores", type=Path, nargs="+")
    p.add_argument("-o", "--out", type=Path, required=True)

    p = verb(
        claims, "judge the paper's claims", "--roles fig3.json --scores A.csv --histories DIR ..."
    )
    p.add_argument("--roles", type=Path, required=True, help="which run plays which part")
    p.add_argument("--scores", type=Path, nargs="+", required=True)
    p.add_argument("--histories", type=Path, nargs="+", required=True, help="training directories")
    p.add_argument("-o", "--out", type=Path, required=True)

    p = verb(
        distill,
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

    p = verb(exemplar, "draw one of the project's exemplars", "swirls --size 512 -o swirls.png")
    p.add_argument("name")
    p.add_argument("-o", "--out", type=Path, required=True)
    p.add_argument("--size", type=whole(32, 4096), default=512)
    p.add_argument("--seed", type=whole(0), default=0)
    return top


def expected(error: Exception) -> TexnetError | None:
    """What to tell the user about an error; None where the program is at fault."""
    if isinstance(error, TexnetError):
        return error
    if isinstance(error, OSError):
        where = error.filename or "input or output"
        return MissingError(f"{where}: {error.strerror or error}; check the path")
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"an input is not text ({error}); check the files on the command line")
    if isinstance(error, MemoryError) or (
        "memory" in str(error) and isinstance(error, RuntimeError)
    ):
        return TexnetError("out of memory; use a smaller size, width or batch")
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        args.run_verb(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        told = expected(error)
        if args.debug or told is None:
            traceback.print_exc()
        told = told or TexnetError(f"internal error: {error!r}; please report it")
        print(f"texnet {args.verb}: error: {' '.join(str(told).split())}", file=sys.stderr)
        return told.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
