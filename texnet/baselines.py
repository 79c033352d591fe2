"""Generation by optimisation (Gatys et al.) and finetuning, on the objective that training uses.

Figure 3(b) compares like with like because the feed-forward generator and the optimised image are
measured by one :class:`texnet.losses.Objective`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from texnet import config
from texnet.artifacts import write_tensors
from texnet.checkpoints import Checkpoint
from texnet.data import style_image
from texnet.descriptors import CAFFE_MEAN_BGR
from texnet.errors import DivergenceError, UsageError
from texnet.inputs import NoiseStream, exemplar_must_cover, heldout_images
from texnet.losses import Objective
from texnet.sources import digest
from texnet.tables import write_table
from texnet.training import fingerprint, load_generator, objective_of

COLUMNS = ("content", "evaluation", "objective", "texture", "content_loss", "tv")
HISTORY = 50


@dataclass(frozen=True)
class Optimised:
    """An optimised image and the objective's terms at every evaluation of L-BFGS."""

    image: Tensor
    """(3, H, W), the best image met."""
    trace: list[tuple[float, float, float, float]]
    """(total, texture, content, tv) of each evaluation, in order, the start first."""


def optimise(
    objective: Objective,
    start: Tensor,
    content_targets: Mapping[str, Tensor],
    evaluations: int,
    on_evaluation: Callable[[int, float], None] = lambda number, value: None,
) -> Optimised:
    """Minimise the objective over one image by L-BFGS with a strong-Wolfe line search.

    Args:
        objective: what to minimise.
        start: (3, H, W), the first evaluation.
        content_targets: of one content image.
        evaluations: how often the objective and its gradient may be computed.
        on_evaluation: is told of each evaluation, from 1 on, and the objective there.

    Raises:
        DivergenceError: the objective is not finite.
    """
    # L-BFGS' first step has L1 norm 1, later ones do not depend on the unit. In this one the first
    # moves a pixel by a grey level on average; in grey levels it would waste eight evaluations.
    unit = start.numel() / 255
    pixels = (start.detach()[None].contiguous() / unit).requires_grad_(True)
    solver = torch.optim.LBFGS(
        [pixels],
        max_iter=evaluations,
        max_eval=evaluations,
        history_size=HISTORY,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    trace: list[tuple[float, float, float, float]] = []
    best: tuple[float, Tensor] = (float("inf"), pixels.detach().clone())

    def closure() -> Tensor:
        nonlocal best
        solver.zero_grad(set_to_none=True)
        terms = objective(pixels * unit, content_targets)
        total = terms.total.sum()
        total.backward()
        each = (terms.total, terms.texture, terms.content, terms.tv)
        values = tuple(torch.stack([t.detach().sum() for t in each]).tolist())
        if not abs(values[0]) < float("inf"):
            raise DivergenceError(
                f"evaluation {len(trace) + 1}: the objective is {values[0]} (texture {values[1]}, "
                f"content {values[2]}); check the start image and the weights"
            )
        # The line search may overrun the budget by a few evaluations: they do not count.
        if len(trace) < evaluations:
            trace.append(values)
            if values[0] < best[0]:
                best = (values[0], pixels.detach().clone())
            on_evaluation(len(trace), values[0])
        return total

    solver.step(closure)
    return Optimised(best[1][0] * unit, trace)


def noise_image(shape: tuple[int, int], seed: int) -> Tensor:
    """The random start of Gatys et al.: standard normal, in 0-255 units, about Caffe's mean colour.

    Their public code's commented alternative to the content image (PytorchNeuralStyleTransfer).
    """
    rng = torch.Generator().manual_seed(seed)
    mean = torch.tensor(CAFFE_MEAN_BGR).flip(0).view(3, 1, 1)
    return (mean + torch.randn((3, *shape), generator=rng)) / 255


def run_baseline(
    run: config.Optimisation,
    out: Path,
    device: torch.device,
    model: Path | None = None,
    on_image: Callable[[int, Optimised], None] = lambda done, result: None,
) -> None:
    """Optimise every held-out image of ``run``, or its samples of a texture.

    Writes ``out`` (safetensors with ``NAME/start`` and ``NAME/end``, each (3, H, W)) and
    ``history.csv`` beside it, one row an evaluation. NAME is the content image's, or the number of
    the sample. Interrupted, it goes on with the image that was not finished.

    Args:
        run: what to optimise, and how.
        out: the images to write.
        device: where to compute.
        model: the generator whose outputs are finetuned; needed unless ``run.start`` is ``noise``.
        on_image: is told of every finished image, and how many there are.
    """
    if (run.start == "noise") == (model is not None):
        wanted = "no model" if run.start == "noise" else f"the model of run '{run.start}' (--start)"
        raise UsageError(f"run '{run.name}' starts from '{run.start}' and takes {wanted}")
    objective = objective_of(run, device)
    contents: list[Any]  # images, or None for textures
    if isinstance(run.images, config.Texture):
        exemplar_must_cover(run.images)
        names = tuple(str(number) for number in range(run.images.samples))
        shape, contents = (run.images.size, run.images.size), [None] * len(names)
    else:
        names, contents = run.images.heldout, list(heldout_images(run.images).to(device))
        shape = tuple(contents[0].shape[-2:])
    if model is None:
        starts = [noise_image(shape, run.seed * 1000 + i) for i in range(len(names))]
    else:
        net, trained = load_generator(model)
        net.to(device)
        noise = NoiseStream(net, trained.seed)(len(names), *shape, 0)
        texture = isinstance(run.images, config.Texture)
        if texture != isinstance(trained.images, config.Texture):
            raise UsageError(
                f"run '{run.name}' and the generator in {model}: one is of a texture, one of a "
                "stylization; start from a model of the same kind"
            )
        with torch.no_grad():
            shown = None if texture else torch.stack(contents)
            starts = list(net(shown, [z.to(device) for z in noise])[..., : shape[0], : shape[1]])
    exemplar = style_image(*run.images.reference)
    given = fingerprint(exemplar, *starts, *contents, *objective.descriptor.parameters())
    made_of = {"run": config.to_json(run), "code": digest("baselines"), "images": given}
    checkpoint = Checkpoint(out.parent, made_of, device)
    kept = checkpoint.restore() or {"images": {}, "rows": []}
    images, rows = kept["images"], kept["rows"]
    for done, (name, content, start) in enumerate(zip(names, contents, starts, strict=True), 1):
        if f"{name}/end" in images:
            continue
        targets = objective.content_targets(None if content is None else content[None])
        result = optimise(objective, start.to(device), targets, run.evaluations)
        images |= {f"{name}/start": start, f"{name}/end": result.image}
        for number, values in enumerate(result.trace):
            rows.append((name, number, *values))
        if done < len(names):
            checkpoint.save({"images": images, "rows": rows})
        on_image(done, result)
    write_table(out.parent / "history.csv", COLUMNS, rows)
    write_tensors(out, images, {"format": "texnet-images-1", "run": run.name, "start": run.start})
    checkpoint.remove()
