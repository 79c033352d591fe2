"""What jobs ask for, and where they run, besides the numbers in the rules."""


# Used with --sdm apptainer alone.
container: EXPERIMENT.container


# A training on the CPU takes no GPU; elsewhere each takes one of those that the profile allows.
GPUS = 0 if EXPERIMENT.device == "cpu" else 1
# Megabytes: measured 1.1 GB at the embedded scale, and 9 GB with VGG-19 at 512 pixels on the CPU.
MEMORY = 16000 if any("lite" not in run.descriptor.name for run in RUNS.values()) else 2000


def memory(wildcards, attempt):
    """Megabytes of a job that computes; a retry, perhaps of one that had too few, asks for more."""
    return attempt * MEMORY
