"""Figures 5 to 7: the diversity of textures and of stylizations."""

PARTS = EXPERIMENT.figures.textures
TEXTURE_FILES = read_by_all([PARTS.collapsed])


use rule fig3 as fig5 with:
    input:
        TEXTURE_FILES,
        script=local("figures/fig5.py"),
        style=STYLE,
        roles="results/textures.json",
        models=files("model.safetensors", PARTS, "pyramid collapsed diverse"),
        scores=scores(PARTS, "pyramid collapsed diverse"),
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
        made=MADE,
        code=[code("training"), code("tables")],


use rule fig3 as fig6 with:
    input:
        STYLIZATION_FILES,
        script=local("figures/fig6.py"),
        style=STYLE,
        roles="results/stylization.json",
        models=files("model.safetensors", STYLIZATION, "diverse noisy"),
        scores=scores(STYLIZATION, "diverse noisy"),
    output:
        pdf="figures/fig6.pdf",
        png=report(
            "figures/fig6.png",
            category="Figures",
            caption="../report/fig6.rst",
            labels={"figure": "6"},
        ),
    log:
        "logs/figures/fig6.log",
    params:
        figure="fig6",
        made=MADE,
        code=[code("stylization_scoring"), code("tables")],


use rule fig3 as fig7 with:
    input:
        TEXTURE_FILES,
        script=local("figures/fig7.py"),
        style=STYLE,
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
        made=MADE,
        code=[code("training"), code("tables")],
