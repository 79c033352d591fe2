"""From runs to numbers: scores of each run, the metrics table, the verdicts on the claims."""

# Fully convolutional generators whose claims are about size (C4, C5, C22).
SIZES = EXPERIMENT.sizes
RESIZED = [
    EXPERIMENT.figures.stylization.instance,
    EXPERIMENT.figures.stylization.batch,
    EXPERIMENT.figures.textures.pyramid,
]


rule score:
    """Measure all seeds of one run on its held-out images."""
    input:
        lambda wildcards: read_by_all([wildcards.name]),
        results_of,
    output:
        "results/scores/{name}.csv",
    log:
        "logs/score/{name}.log",
    wildcard_constraints:
        name="|".join(NAMES),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory,
        runtime="1h",
    params:
        runs=lambda wildcards: folders(seeds_of(wildcards.name)),
        sizes=lambda wildcards: SIZES if wildcards.name in RESIZED else "",
        code=lambda wildcards: made_by("scoring", named([wildcards.name])),
    shell:
        "exec python -m texnet score {params.runs} --out {output} --sizes {params.sizes} > {log} 2>&1"


rule estimator:
    """Hold the entropy estimator against distributions of known entropy."""
    output:
        "results/scores/estimator.csv",
    log:
        "logs/score/estimator.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        seeds=EXPERIMENT.seeds,
        code=code("estimator"),
    shell:
        "exec python -m texnet estimator --seeds {params.seeds} --out {output} > {log} 2>&1"


rule metrics:
    """Gather the scores of all runs into one table with intervals."""
    input:
        expand("results/scores/{name}.csv", name=[*NAMES, "references", "estimator"]),
        expand("results/scores/released_{exemplar}.csv", exemplar=TEXTURES.released),
    output:
        report(
            "results/metrics.csv",
            category="Tables",
            subcategory="Data",
            labels={"table": "metrics"},
        ),
    log:
        "logs/metrics.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=code("tables"),
    shell:
        "exec python -m texnet metrics {input} --out {output} > {log} 2>&1"
