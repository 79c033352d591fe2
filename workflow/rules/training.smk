"""From the configuration to trained generators: run.json of every run, then one training each."""


rule configure:
    """Write the run.json of every run; it is all that a training or a baseline depends on."""
    output:
        expand("results/{run}/run.json", run=RUNS),
        "results/fig3.json",
    log:
        "logs/configure.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        config=json.dumps(config, sort_keys=True),
        code=code("config"),
    shell:
        "python -m texnet configure {params.config:q} --out results > {log} 2>&1"


rule train:
    """Train one generator; an interrupted training resumes from the checkpoint beside its model."""
    input:
        files_of,
        run="results/{run}/run.json",
    output:
        model="results/{run}/model.safetensors",
        history="results/{run}/history.csv",
        samples="results/{run}/samples.png",
    log:
        "logs/train/{run}.log",
    benchmark:
        "benchmarks/train_{run}.tsv"
    wildcard_constraints:
        run="|".join(TRAININGS),
    conda:
        "../../environment.yml"
    threads: EXPERIMENT.threads
    resources:
        gpu=GPUS,
        mem_mb=2000,
        runtime="12h",
    params:
        code=code("training"),
    shell:
        "python -m texnet train {input.run} {output.model} > {log} 2>&1"
