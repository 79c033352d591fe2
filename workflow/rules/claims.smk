"""The verdicts on the paper's claims, from every score and every training's history."""


use rule parts as stylization_parts with:
    output:
        "results/stylization.json",
    log:
        "logs/stylization.log",
    params:
        parts=json.dumps(EXPERIMENT.stylization_parts(), indent=2),


rule claims:
    """Judge the paper's claims by their rules."""
    input:
        stylization="results/stylization.json",
        textures="results/textures.json",
        sweeps=expand("results/sweep/{exemplar}.csv", exemplar=TEXTURES.labels),
        scores=[*rules.metrics.input, "benchmarks/speed.csv"],
        histories=expand("results/{run}/history.csv", run=TRAININGS),
    output:
        report(
            "results/claims.csv",
            category="Tables",
            subcategory="Data",
            labels={"table": "claims"},
        ),
    log:
        "logs/claims.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        runs=folders(f"results/{run}" for run in TRAININGS),
        code=code("claims"),
    shell:
        "exec python -m texnet claims --stylization {input.stylization} --textures {input.textures}"
        " --sweeps {input.sweeps} --scores {input.scores}"
        " --histories {params.runs} --out {output} > {log} 2>&1"
