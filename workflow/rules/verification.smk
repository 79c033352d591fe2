"""Whether these results agree with those kept in expected/, for whoever asks."""

from texnet.verification import folder_of


# Without an output it runs whenever it is asked for.
rule verify:
    """Compare claims and metrics with the expected ones of this scale."""
    input:
        # A function, for scales of which nothing is expected: refused here, before anything runs.
        lambda _: [
            local(str(folder_of(Path("expected"), EXPERIMENT.scale) / name))
            for name in ("about.json", "claims.csv", "metrics.csv")
        ],
        stylization="results/stylization.json",
        claims="results/claims.csv",
        metrics="results/metrics.csv",
    log:
        "logs/verify.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        scale=EXPERIMENT.scale,
    shell:
        # Its lines are what is asked for: they are shown, and kept in the log.
        "python -m texnet verify {params.scale:q} 2>&1 | tee {log}"
