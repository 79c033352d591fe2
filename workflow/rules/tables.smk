"""The tables for reading and typesetting, one script each."""

RENDERING = [
    local(f"figures/{name}") for name in ("rendering.py", "pages.py", "page.html", "sortable.js")
]


rule table_claims:
    """Set a table in HTML, Markdown, LaTeX and CSV."""
    input:
        table="results/claims.csv",
        script=local("figures/table_claims.py"),
        rendering=RENDERING,
    output:
        html=report(
            "figures/table_claims.html",
            caption="../report/table_claims.rst",
            category="Tables",
            subcategory="Pages",
            labels={"table": "claims"},
        ),
        others=multiext("figures/table_claims", ".md", ".tex", ".csv"),
    log:
        "logs/figures/table_claims.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        table="table_claims",
        roles="",
        code=code("evidence"),
    shell:
        "exec python -m figures.{params.table} {input.table} {output.html} {params.roles}"
        " > {log} 2>&1"


use rule table_claims as table_speed with:
    input:
        table="benchmarks/speed.csv",
        script=local("figures/table_speed.py"),
        rendering=RENDERING,
    output:
        html=report(
            "figures/table_speed.html",
            caption="../report/table_speed.rst",
            category="Tables",
            subcategory="Pages",
            labels={"table": "speed and memory"},
        ),
        others=multiext("figures/table_speed", ".md", ".tex", ".csv"),
    log:
        "logs/figures/table_speed.log",
    params:
        table="table_speed",
        roles="",
        code=code("tables"),


use rule table_claims as table_metrics with:
    input:
        table="results/metrics.csv",
        script=local("figures/table_metrics.py"),
        rendering=RENDERING,
    output:
        html=report(
            "figures/table_metrics.html",
            caption="../report/table_metrics.rst",
            category="Tables",
            subcategory="Pages",
            labels={"table": "metrics of every run"},
        ),
        others=multiext("figures/table_metrics", ".md", ".tex", ".csv"),
    log:
        "logs/figures/table_metrics.log",
    params:
        table="table_metrics",
        roles="",
        code=code("tables"),


use rule table_claims as table_textures with:
    input:
        table="results/metrics.csv",
        roles="results/textures.json",
        script=local("figures/table_textures.py"),
        rendering=RENDERING,
    output:
        html=report(
            "figures/table_textures.html",
            caption="../report/table_textures.rst",
            category="Tables",
            subcategory="Pages",
            labels={"table": "texture networks"},
        ),
        others=multiext("figures/table_textures", ".md", ".tex", ".csv"),
    log:
        "logs/figures/table_textures.log",
    params:
        table="table_textures",
        roles=lambda wildcards, input: f"--roles {input.roles}",
        code=code("tables"),
