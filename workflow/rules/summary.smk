"""The start page of the report: what was run, and the verdicts by topic."""

from texnet.captions import setting


use rule parts as summary_settings with:
    output:
        "results/summary.json",
    log:
        "logs/summary_settings.log",
    params:
        parts=json.dumps(setting(EXPERIMENT), indent=2),


rule summary:
    """Set out what was run and what was found, claim by claim, on one page."""
    input:
        table="results/claims.csv",
        settings="results/summary.json",
        script=local("figures/summary.py"),
        parts=[
            local(f"figures/{name}")
            for name in ("method.html", "page.html", "pages.py", "rendering.py", "table_claims.py")
        ],
    output:
        report("figures/summary.html", category="Start here", labels={"page": "claims by topic"}),
    log:
        "logs/figures/summary.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        code=code("evidence"),
    shell:
        "exec python -m figures.summary {input.table} {output} --settings {input.settings}"
        " > {log} 2>&1"
