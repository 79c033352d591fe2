"""From runs to numbers: scores of each run, the metrics table, the verdicts on the claims."""


rule score:
    """Measure all seeds of one run on its held-out images."""
    input:
        results_of,
    output:
        "results/scores/{name}.csv",
    log:
        "logs/score/{name}.log",
    wildcard_constraints:
        name="|".join([*EXPERIMENT.runs, *EXPERIMENT.baselines]),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=2000,
        runtime="1h",
    params:
        runs=lambda wildcards: seeds_of(wildcards.name),
        code=code("metrics"),
    shell:
        "python -m texnet score {params.runs} --out {output} > {log} 2>&1"


rule metrics:
    """Gather the scores of all runs into one table with intervals."""
    input:
        expand("results/scores/{name}.csv", name=[*EXPERIMENT.runs, *EXPERIMENT.baselines]),
    output:
        report("results/metrics.csv", category="Tables", labels={"table": "metrics"}),
    log:
        "logs/metrics.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=code("tables"),
    shell:
        "python -m texnet metrics {input} --out {output} > {log} 2>&1"


rule claims:
    """Judge the paper's claims by their rules."""
    input:
        roles="results/fig3.json",
        scores=rules.metrics.input,
        histories=expand("results/{run}/history.csv", run=TRAININGS),
    output:
        table=report("results/claims.csv", category="Tables", labels={"table": "claims"}),
        markdown="results/claims.md",
    log:
        "logs/claims.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        runs=[f"results/{run}" for run in TRAININGS],
        code=code("claims"),
    shell:
        "python -m texnet claims --roles {input.roles} --scores {input.scores}"
        " --histories {params.runs} --out {output.table} > {log} 2>&1"
