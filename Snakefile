include: "workflow/Snakefile"


# Snakemake takes no default target from an included file.
rule default:
    """Every figure and every table."""
    default_target: True
    input:
        rules.all.input,
