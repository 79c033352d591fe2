"""Generation by optimisation on the training's objective: from noise, or from a generator."""


rule optimize:
    """Optimise every held-out image of one baseline by L-BFGS."""
    input:
        files_of,
        run="results/{run}/run.json",
        start=start_model,
    output:
        images="results/{run}/images.safetensors",
        history="results/{run}/history.csv",
    log:
        "logs/optimize/{run}.log",
    benchmark:
        "benchmarks/optimize_{run}.tsv"
    wildcard_constraints:
        run="|".join(BASELINES),
    conda:
        "../../environment.yml"
    threads: EXPERIMENT.threads
    resources:
        gpu=GPUS,
        mem_mb=memory,
        runtime="2h",
    params:
        start=lambda wildcards, input: f"--start {input.start}" if input.start else "",
        code=lambda wildcards: made_by("baselines", [RUNS[wildcards.run]]),
    shell:
        "exec python -m texnet optimize {input.run} {output.images} {params.start} > {log} 2>&1"
