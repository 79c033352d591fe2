"""What is fetched: weights and images of data/registry.csv, from mirrors or their own addresses."""

from texnet.registry import share_mirrors

# Not a parameter of the rule: another mirror gives the same bytes.
share_mirrors(EXPERIMENT.mirrors)


rule fetch:
    """Fetch what a name of the registry stands for; its manifest lists the verified files."""
    output:
        # Local, as are the files that it lists.
        local(f"{cache()}/{{name}}.sha256"),
    log:
        "logs/fetch/{name}.log",
    wildcard_constraints:
        name="|".join(registered()),
    localrule: True
    conda:
        "../../environment.yml"
    shell:
        "exec python -m texnet fetch {wildcards.name} > {log} 2>&1"
