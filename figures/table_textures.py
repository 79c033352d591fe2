"""What the texture networks measure on each exemplar: results/metrics.csv, over all seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from figures.rendering import Table, arguments, save, with_interval
from texnet.artifacts import read_json
from texnet.process import program
from texnet.tables import read_table

VARIANTS = {
    "collapsed": "TextureNetV2, lambda = 0",
    "diverse": "TextureNetV2, lambda > 0",
    "pyramid": "TextureNetV1",
    "authors_release": "the authors' release",
    "gatys": "optimisation (Gatys)",
    "crops": "crops of the exemplar",
    "repeated": "one sample repeated",
}
METRICS = {
    "texture": "texture loss",
    "sliced_wasserstein": "sliced Wasserstein",
    "pairwise_pixels": "distance, pixels",
    "pairwise_features": "distance, features",
    "vendi": "Vendi, of 8",
    "neighbour_entropy": "ln of nearest",
    "spotting": "spotting",
}
WIDTHS = (0.09, 0.15, *[0.62 / len(METRICS) for _ in METRICS])


def cells(parts: Mapping[str, str], metrics: Sequence[dict[str, str]]) -> list[list[str]]:
    """A row for each exemplar and variant, a cell for each metric; empty where none was made."""
    found = {(r["run"], r["exemplar"], r["metric"]): r for r in metrics if r["seed"] == "all"}
    rows = []
    for exemplar in parts["exemplars"]:
        for role, name in VARIANTS.items():
            keys = [(parts.get(role, role), exemplar, metric) for metric in METRICS]
            values = [with_interval(found[key]) if key in found else "" for key in keys]
            if role != "authors_release" or any(values):
                rows.append([exemplar, name, *values])
    return rows


def main() -> None:
    args = arguments(__doc__, "roles")
    rows = cells(read_json(args.roles), read_table(args.table))
    headers = ("exemplar", "samples", *METRICS.values())
    save("Texture networks", [Table(headers, rows, WIDTHS)], args.out)


if __name__ == "__main__":
    program(main)
