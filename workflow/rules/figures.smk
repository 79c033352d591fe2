"""Figures of stylizations: one script each, which reads results and writes figures/figN.pdf."""

from texnet.captions import caption

STYLE = [local("figures/style.py"), local("figures/paper.mplstyle")]
STYLIZATION = EXPERIMENT.figures.stylization
STYLIZATION_FILES = read_by_all(EXPERIMENT.runs)
# For captions: what the runs did that a figure shows.
MADE = caption(RUNS)


rule fig3:
    """Draw a figure from results."""
    input:
        STYLIZATION_FILES,
        script=local("figures/fig3.py"),
        style=STYLE,
        roles="results/stylization.json",
        histories=files("history.csv", STYLIZATION, "instance batch noise from_instance from_batch"),
        images=files("images.safetensors", STYLIZATION, "from_instance from_batch"),
    output:
        pdf="figures/fig3.pdf",
        png=report(
            "figures/fig3.png",
            category="Figures",
            caption="../report/fig3.rst",
            labels={"figure": "3"},
        ),
    log:
        "logs/figures/fig3.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        figure="fig3",
        made=MADE,
        code=[code("stylization_scoring"), code("tables")],
    shell:
        "exec python -m figures.{params.figure} {output.pdf} --roles {input.roles} > {log} 2>&1"


use rule fig3 as fig1 with:
    input:
        STYLIZATION_FILES,
        script=local("figures/fig1.py"),
        style=STYLE,
        roles="results/stylization.json",
        models=files("model.safetensors", STYLIZATION, "batch diverse"),
        images=files("images.safetensors", STYLIZATION, "noise"),
    output:
        pdf="figures/fig1.pdf",
        png=report(
            "figures/fig1.png",
            category="Figures",
            caption="../report/fig1.rst",
            labels={"figure": "1"},
        ),
    log:
        "logs/figures/fig1.log",
    params:
        figure="fig1",
        made=MADE,
        code=[code("stylization_scoring"), code("tables")],


use rule fig3 as fig2 with:
    input:
        STYLIZATION_FILES,
        script=local("figures/fig2.py"),
        style=STYLE,
        roles="results/stylization.json",
        models=files("model.safetensors", STYLIZATION, "batch lrn_first instance_first instance"),
        scores=scores(STYLIZATION, "batch lrn_first instance_first instance"),
    output:
        pdf="figures/fig2.pdf",
        png=report(
            "figures/fig2.png",
            category="Figures",
            caption="../report/fig2.rst",
            labels={"figure": "2"},
        ),
    log:
        "logs/figures/fig2.log",
    params:
        figure="fig2",
        made=MADE,
        code=[code("stylization_scoring"), code("tables")],


use rule fig3 as fig4 with:
    input:
        STYLIZATION_FILES,
        script=local("figures/fig4.py"),
        style=STYLE,
        roles="results/stylization.json",
        models=files("model.safetensors", STYLIZATION, "instance batch"),
        images=files("images.safetensors", STYLIZATION, "larger largest"),
    output:
        pdf="figures/fig4.pdf",
        png=report(
            "figures/fig4.png",
            category="Figures",
            caption="../report/fig4.rst",
            labels={"figure": "4"},
        ),
    log:
        "logs/figures/fig4.log",
    params:
        figure="fig4",
        made=MADE,
        code=[code("stylization_scoring"), code("tables")],
