"""The choice of T: a sweep for each exemplar, and the runs that take what it chooses."""


rule parts:
    """Write what figures, claims, the choice of T or the table of speed depend on."""
    output:
        "results/textures.json",
    log:
        "logs/textures.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        parts=json.dumps(EXPERIMENT.texture_parts(), indent=2),
    shell:
        "(printf '%s\\n' {params.parts:q} > {output}.part && mv {output}.part {output}) 2> {log}"


use rule parts as sweep_settings with:
    output:
        "results/sweep.json",
    log:
        "logs/sweep.log",
    params:
        parts=json.dumps(EXPERIMENT.sweep_settings(), indent=2),


rule sweep:
    """Choose the largest T of an exemplar that leaves no spots."""
    input:
        settings="results/sweep.json",
        scores=expand("results/scores/{name}.csv", name=TEXTURES.swept),
    output:
        report(
            "results/sweep/{exemplar}.csv",
            category="Tables",
            subcategory="Choice of T",
            labels={"table": "choice of T", "exemplar": "{exemplar}"},
        ),
    log:
        "logs/sweep/{exemplar}.log",
    wildcard_constraints:
        exemplar="|".join(TEXTURES.labels),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=code("sweep"),
    shell:
        "exec python -m texnet sweep {wildcards.exemplar} --settings {input.settings}"
        " --scores {input.scores} --out {output} > {log} 2>&1"


use rule configure as ask with:
    output:
        "results/{run}/asked.json",
    log:
        "logs/ask/{run}.log",
    wildcard_constraints:
        run="|".join(TEMPERED),


rule temper:
    """Give a run the T that the sweep chose for its exemplar."""
    input:
        asked="results/{run}/asked.json",
        table=lambda wildcards: f"results/sweep/{label_of(RUNS[wildcards.run].images.exemplar)}.csv",
    output:
        "results/{run}/run.json",
    log:
        "logs/temper/{run}.log",
    wildcard_constraints:
        run="|".join(TEMPERED),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=code("sweep"),
    shell:
        "exec python -m texnet temper {input.asked} {input.table} --out {output} > {log} 2>&1"
