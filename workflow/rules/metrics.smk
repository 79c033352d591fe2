"""From runs to numbers: scores of each run, the metrics table, the verdicts on the claims."""

# Any run on an exemplar says at which size and on which layers its crops are measured.
ONE_PER_EXEMPLAR = [
    f"{EXPERIMENT.figures.textures.collapsed}_{label}_seed{EXPERIMENT.seeds[0]}"
    for label in TEXTURES.labels
]
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


rule references:
    """Measure crops of the exemplars: the ceiling and the floor of diversity."""
    input:
        read_by_all([EXPERIMENT.figures.textures.collapsed]),
        runs=[f"results/{run}/run.json" for run in ONE_PER_EXEMPLAR],
    output:
        "results/scores/references.csv",
    log:
        "logs/score/references.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory,
        runtime="1h",
    params:
        seeds=EXPERIMENT.seeds,
        code=made_by("scoring", named([EXPERIMENT.figures.textures.collapsed])),
    shell:
        "exec python -m texnet references {input.runs} --seeds {params.seeds} --out {output} > {log} 2>&1"


rule released:
    """Measure a texture network that the authors released, as the runs on its exemplar."""
    input:
        read_by_all([EXPERIMENT.figures.textures.collapsed]),
        file=lambda wildcards: located(TEXTURES.released[wildcards.exemplar]),
        run=f"results/{EXPERIMENT.figures.textures.collapsed}_{{exemplar}}_seed{EXPERIMENT.seeds[0]}/run.json",
    output:
        "results/scores/released_{exemplar}.csv",
    log:
        "logs/score/released_{exemplar}.log",
    wildcard_constraints:
        exemplar="|".join(TEXTURES.released) or "none",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory,
        runtime="1h",
    params:
        source=lambda wildcards: TEXTURES.released[wildcards.exemplar],
        code=[code("torch7"), code("scoring")],
    shell:
        "exec python -m texnet released {params.source:q} {input.run} --out {output} > {log} 2>&1"


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
