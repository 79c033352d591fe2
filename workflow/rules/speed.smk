"""Time and memory of generators and of optimisation."""


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
        report(
            "benchmarks/speed.csv",
            category="Tables",
            subcategory="Data",
            labels={"table": "speed and memory"},
        ),
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
