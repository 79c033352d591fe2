"""From the configuration to trained generators: run.json of every run, then one training each."""


rule configure:
    """Write one run's run.json: all that its training or optimisation depends on."""
    output:
        "results/{run}/run.json",
    log:
        "logs/configure/{run}.log",
    wildcard_constraints:
        run="|".join(name for name in RUNS if name not in TEMPERED),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        run=lambda wildcards: json.dumps(schema.to_json(RUNS[wildcards.run]), indent=2),
    shell:
        "(printf '%s\\n' {params.run:q} > {output}.part && mv {output}.part {output}) 2> {log}"


# Where jobs find results. Snakemake itself puts the folder of their copies before what rules name.
RESULTS = str(PurePath(rules.configure.output[0]).parents[1])
STORED = RESULTS != "results"


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
        mem_mb=memory,
        runtime="12h",
    params:
        code=lambda wildcards: made_by("training", [RUNS[wildcards.run]]),
    shell:
        "exec python -m texnet train {input.run} {output.model} > {log} 2>&1"


ruleorder: adopt > train


rule adopt:
    """Take a released generator of this very run (weights: published) instead of training it."""
    input:
        files_of,
        run="results/{run}/run.json",
        # With the code, as is what the other rules mark so.
        model=local(f"{GENERATORS}/{{run}}/model.safetensors"),
        history=local(f"{GENERATORS}/{{run}}/history.csv"),
    output:
        model="results/{run}/model.safetensors",
        history="results/{run}/history.csv",
        samples="results/{run}/samples.png",
    log:
        "logs/adopt/{run}.log",
    wildcard_constraints:
        run="|".join(RELEASED) or "(?!)",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=code("releases"),
    shell:
        "exec python -m texnet adopt {input.run} {input.model} {output.model} > {log} 2>&1"
