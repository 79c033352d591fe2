"""Speed and memory, and the tables of the claims and of speed for reading and typesetting."""


use rule parts as speed_settings with:
    output:
        "results/speed.json",
    log:
        "logs/speed_settings.log",
    params:
        parts=json.dumps(EXPERIMENT.speed_settings(), indent=2).replace('"results', f'"{RESULTS}'),


GATYS = EXPERIMENT.optimisation(EXPERIMENT.figures.stylization.noise, EXPERIMENT.seeds[0])


rule speed:
    """Measure time and memory of generators and optimisation, alone on the machine."""
    input:
        read_by(GATYS),
        settings="results/speed.json",
        models=EXPERIMENT.speed_settings()["models"].values(),
        gatys=EXPERIMENT.speed_settings()["gatys"],
    output:
        "benchmarks/speed.csv",
    log:
        "logs/speed.log",
    conda:
        "../../environment.yml"
    # All there are: whatever ran beside it would be measured too. A cluster gives it 8.
    threads: workflow.resource_settings.cores or 8
    resources:
        gpu=GPUS,
        mem_mb=max(MEMORY, 8000),
        runtime="1h",
    params:
        code=made_by("speed", [GATYS]),
    shell:
        "exec python -m texnet speed {input.settings} --out {output} > {log} 2>&1"


rule table_claims:
    """Set a table in HTML, Markdown and LaTeX."""
    input:
        table="results/claims.csv",
        script=local("figures/table_claims.py"),
        rendering=local("figures/rendering.py"),
    output:
        html=report("figures/table_claims.html", category="Tables", labels={"table": "claims"}),
        md="figures/table_claims.md",
        tex="figures/table_claims.tex",
    log:
        "logs/figures/table_claims.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        table="table_claims",
        code=code("evidence"),
    shell:
        "exec python -m figures.{params.table} {input.table} {output.html} > {log} 2>&1"


use rule table_claims as table_speed with:
    input:
        table="benchmarks/speed.csv",
        script=local("figures/table_speed.py"),
        rendering=local("figures/rendering.py"),
    output:
        html=report(
            "figures/table_speed.html",
            category="Tables",
            labels={"table": "speed and memory"},
        ),
        md="figures/table_speed.md",
        tex="figures/table_speed.tex",
    log:
        "logs/figures/table_speed.log",
    params:
        table="table_speed",
        code=code("tables"),
