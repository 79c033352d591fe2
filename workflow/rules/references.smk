"""What texture networks are held against: crops of the exemplars, and what the authors released."""

# Any run on an exemplar says at which size and on which layers its crops are measured.
ONE_PER_EXEMPLAR = [
    f"{EXPERIMENT.figures.textures.collapsed}_{label}_seed{EXPERIMENT.seeds[0]}"
    for label in TEXTURES.labels
]


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
