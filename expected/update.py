"""Keep the results of a finished embedded run here, and show them in the README.

Run by `make expected` after `make`: no number is copied by hand.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
from pathlib import Path

import torch

from texnet.artifacts import read_json, read_tensors, write_json, write_text
from texnet.config import LITE_WEIGHTS
from texnet.tables import read_table

ROOT = Path(__file__).resolve().parents[1]
KEPT = (
    "results/claims.csv",
    "results/metrics.csv",
    "benchmarks/speed.csv",
    "figures/table_claims.md",
    "figures/table_speed.md",
    *(f"figures/fig{number}.png" for number in range(1, 8)),
)
VARIANTS = {
    "collapsed": "TextureNetV2, lambda = 0",
    "diverse": "TextureNetV2, lambda > 0",
    "pyramid": "TextureNetV1",
    "gatys": "optimisation (Gatys)",
    "crops": "crops of the exemplar",
    "repeated": "one sample repeated",
}
SHOWN = {
    "texture": "texture loss",
    "sliced_wasserstein": "sliced Wasserstein",
    "pairwise_pixels": "distance, pixels",
    "pairwise_features": "distance, features",
    "vendi": "Vendi, of 8",
    "neighbour_entropy": "ln of nearest",
    "spotting": "spotting",
}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def between(text: str, name: str, content: str) -> str:
    """``text`` with what stands between the markers of ``name`` replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    return re.sub(pattern, lambda m: m[1] + content + m[2], text, flags=re.DOTALL)


def short(cell: str) -> str:
    """A number with three digits, large ones without a fraction."""
    value = float(cell)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def texture_table(parts: dict[str, str], metrics: list[dict[str, str]]) -> str:
    """What the texture variants measure on each exemplar, over all seeds, as Markdown."""
    found = {(r["run"], r["exemplar"], r["metric"]): r for r in metrics if r["seed"] == "all"}
    lines = [f"| exemplar | samples | {' | '.join(SHOWN.values())} |"]
    lines.append("|---" * (2 + len(SHOWN)) + "|")
    for exemplar in parts["exemplars"]:
        for role, name in VARIANTS.items():
            cells = []
            for metric in SHOWN:
                row = found[parts.get(role, role), exemplar, metric]
                value, low, high = (short(row[c]) for c in ("value", "ci_low", "ci_high"))
                cells.append(f"{value} [{low}, {high}]" if low != high else value)
            lines.append(f"| {exemplar} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    scale = read_json(ROOT / "results" / "stylization.json")["scale"]
    if scale != "embedded":
        raise SystemExit(f"results/ is of scale '{scale}'; run `make` for the embedded one first")
    target = ROOT / "expected" / "embedded"
    target.mkdir(exist_ok=True)
    for name in KEPT:
        shutil.copyfile(ROOT / name, target / Path(name).name)
    about = {"torch": torch.__version__, "python": platform.python_version()}
    write_json(target / "about.json", about | {"processor": processor()})

    _, metadata = read_tensors(LITE_WEIGHTS)
    r2 = json.loads(metadata["r2"])
    rows = [list(r2), ["---"] * len(r2), [f"{value:.2f}" for value in r2.values()]]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    readme = (ROOT / "README.md").read_text()
    for name in ("claims", "speed"):
        readme = between(readme, name, (target / f"table_{name}.md").read_text())
    parts = read_json(ROOT / "results" / "textures.json")
    readme = between(readme, "textures", texture_table(parts, read_table(target / "metrics.csv")))
    write_text(ROOT / "README.md", between(readme, "r2", table))


if __name__ == "__main__":
    main()
