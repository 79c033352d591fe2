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

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("results/claims.csv", "results/claims.md", "results/metrics.csv", "figures/fig3.png")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def between(text: str, name: str, content: str) -> str:
    """``text`` with what stands between the markers of ``name`` replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    return re.sub(pattern, lambda m: m[1] + content + m[2], text, flags=re.DOTALL)


def main() -> None:
    scale = read_json(ROOT / "results" / "fig3.json")["scale"]
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
    readme = between(readme, "claims", (target / "claims.md").read_text())
    write_text(ROOT / "README.md", between(readme, "r2", table))


if __name__ == "__main__":
    main()
