"""One script a figure: it reads results and writes figures/figN.pdf with a .png beside it."""

FIGURE3 = EXPERIMENT.figures.fig3
FIGURE3_TRAININGS = [FIGURE3.instance, FIGURE3.batch]
FIGURE3_BASELINES = [FIGURE3.noise, FIGURE3.from_instance, FIGURE3.from_batch]


rule roles3:
    """Write which run plays which part in figure 3 and its claims."""
    output:
        "results/fig3.json",
    log:
        "logs/fig3.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        roles=json.dumps(EXPERIMENT.figure3(), indent=2),
    shell:
        "printf '%s\\n' {params.roles:q} > {output} 2> {log}"


rule fig3:
    """Objective under training and finetuning, BN against IN, and the images."""
    input:
        script="figures/fig3.py",
        style=["figures/style.py", "figures/paper.mplstyle"],
        roles="results/fig3.json",
        histories=[
            f"{d}/history.csv"
            for name in FIGURE3_TRAININGS + FIGURE3_BASELINES
            for d in seeds_of(name)
        ],
        images=[f"{d}/images.safetensors" for name in FIGURE3_BASELINES for d in seeds_of(name)],
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
        code=[code("data"), code("tables")],
    shell:
        "python -m figures.{params.figure} {output.pdf} --roles {input.roles} > {log} 2>&1"


PARTS = EXPERIMENT.figures.textures


use rule fig3 as fig5 with:
    input:
        script="figures/fig5.py",
        style=["figures/style.py", "figures/paper.mplstyle"],
        roles="results/textures.json",
        models=[
            f"{d}/model.safetensors"
            for name in (PARTS.pyramid, PARTS.collapsed, PARTS.diverse)
            for d in seeds_of(name)
        ],
        scores=expand(
            "results/scores/{name}.csv",
            name=[PARTS.pyramid, PARTS.collapsed, PARTS.diverse],
        ),
    output:
        pdf="figures/fig5.pdf",
        png=report(
            "figures/fig5.png",
            category="Figures",
            caption="../report/fig5.rst",
            labels={"figure": "5"},
        ),
    log:
        "logs/figures/fig5.log",
    params:
        figure="fig5",
        code=[code("training"), code("tables")],


use rule fig3 as fig7 with:
    input:
        script="figures/fig7.py",
        style=["figures/style.py", "figures/paper.mplstyle"],
        roles="results/textures.json",
        models=[f"{d}/model.safetensors" for name in TEXTURES.swept for d in seeds_of(name)],
        tables=expand("results/sweep/{exemplar}.csv", exemplar=TEXTURES.labels),
    output:
        pdf="figures/fig7.pdf",
        png=report(
            "figures/fig7.png",
            category="Figures",
            caption="../report/fig7.rst",
            labels={"figure": "7"},
        ),
    log:
        "logs/figures/fig7.log",
    params:
        figure="fig7",
        code=[code("training"), code("tables")],


rule figures:
    """Every figure."""
    input:
        rules.fig3.output,
        rules.fig5.output,
        rules.fig7.output,
