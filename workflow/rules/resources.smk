"""What jobs ask for, and where they run, besides the numbers in the rules."""

import os

from texnet import process

# A job ends with its Snakemake: one that outlives it, after a kill, would overwrite what the next
# one makes. And rules exec, so that signals reach the program itself.
os.environ[process.PARENT] = process.this_process()


# Used with --sdm apptainer alone.
container: EXPERIMENT.container


# A training on the CPU takes no GPU; elsewhere each takes one of those that the profile allows.
GPUS = 0 if EXPERIMENT.device == "cpu" else 1
# Megabytes: measured 1.1 GB at the embedded scale, and 9 GB with VGG-19 at 512 pixels on the CPU.
MEMORY = 16000 if any("lite" not in run.descriptor.name for run in RUNS.values()) else 2000


def memory(wildcards, attempt):
    """Megabytes of a job that computes; a retry, perhaps of one that had too few, asks for twice."""
    return min(attempt, 2) * MEMORY
