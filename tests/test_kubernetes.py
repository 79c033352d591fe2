"""The profile for Kubernetes: accepted, consistent, and run in pods that share no file system."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import BIN, ROOT, TINY, call
from miniature import Bucket, Cluster

FOLDER = ROOT / "profiles" / "kubernetes"
PROFILE = yaml.safe_load((FOLDER / "profile.yaml").read_text())
PLUGINS = ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_s3")
MISSING = [name.replace("_", "-") for name in PLUGINS if not importlib.util.find_spec(name)]
needs_plugins = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {' '.join(MISSING)}")


def keys(bucket):
    """The environment of a main process that keeps results in a bucket."""
    return {
        "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": bucket.address,
        "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "name",
        "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "secret",
    }


@needs_plugins
def test_snakemake_takes_the_profile():
    with Bucket("another") as bucket:
        done = call(
            sys.executable, "-m", "snakemake", "-n", "results/scores/stylenet_in.csv", *TINY,
            "--workflow-profile", "profiles/kubernetes", **keys(bucket),
        )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert f"{PROFILE['default-storage-prefix']}/results/stylenet_in_seed0/run.json" in said
    # An input that is no file of the bucket would keep its job from being sent away.
    inputs = re.findall("^    input: (.*)$", said, re.MULTILINE)
    assert inputs and all(i.startswith("s3://") for line in inputs for i in line.split(", "))


def test_files_for_kubernetes_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    objects = list(yaml.safe_load_all((FOLDER / "cluster.yaml").read_text()))
    (pod,) = (thing["spec"] for thing in objects if thing["kind"] == "Pod")
    (main,) = pod["containers"]
    assert PROFILE["container-image"] == main["image"] == f"REGISTRY/texnet:{version}"

    named = {(thing["kind"], thing["metadata"]["name"]) for thing in objects}
    (volume,) = PROFILE["kubernetes-persistent-volumes"]
    claim, _, path = volume.partition(":")
    assert ("PersistentVolumeClaim", claim) in named
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim
    assert main["volumeMounts"][0]["mountPath"] == path
    recipe = (ROOT / "Containerfile").read_text()
    assert f"TEXNET_CACHE={path}/" in recipe and f"TEXNET_CHECKPOINTS={path}/" in recipe
    assert ("ServiceAccount", pod["serviceAccountName"]) in named

    copied = re.findall(r"^COPY (.*) \S+$", recipe, re.MULTILINE)
    kept = re.findall("^!(.*)$", (ROOT / ".containerignore").read_text(), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(kept)
    assert all((ROOT / name).exists() for name in kept)
    # Each pinned once, but for the one in which the recipe lets constraints.txt give way.
    pins = [
        {
            line.partition("==")[0].lower().replace("_", "-")
            for line in path.read_text().splitlines()
        }
        for path in (ROOT / "constraints.txt", FOLDER / "requirements.txt")
    ]
    assert pins[0] & pins[1] == {"python-dateutil"} and "/^python-dateutil==/d" in recipe


def test_the_profile_groups_nothing():
    assert not {"groups", "group-components"} & set(PROFILE)
    # Without it Kubernetes refuses what asks for a GPU, and without the other the plugin does.
    assert PROFILE["default-resources"]["scale"] == 0
    assert PROFILE["default-resources"]["gpu_manufacturer"] == "nvidia"


@pytest.mark.long
@needs_plugins
def test_jobs_in_pods_share_no_files(tmp_path):
    """A training and its scores, each where only the bucket can be seen."""
    clone, image = tmp_path / "clone", tmp_path / "image"
    names = ["Snakefile", "workflow", "texnet", "config", "data", "figures", "profiles"]
    for name in [*names, "environment.yml"]:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        clone.mkdir(exist_ok=True)
        copy(ROOT / name, clone / name)
    for arguments in (
        "init --quiet",
        "add Snakefile workflow texnet/*.py config data figures/*.py",
    ):
        subprocess.run(f"git {arguments}", cwd=clone, shell=True, check=True)
    image.mkdir()
    (image / "pip").write_text("#!/bin/sh\n")  # pods install the plugin that is there already
    (image / "pip").chmod(0o755)
    path = f"{image}{os.pathsep}{BIN}{os.pathsep}/usr/bin{os.pathsep}/bin"

    with Bucket("bucket") as bucket, Cluster(tmp_path, path, clone) as cluster:
        asked = [
            sys.executable, "-m", "snakemake", "results/scores/stylenet_in.csv", *TINY,
            "--config", "device=auto", "--workflow-profile", "profiles/kubernetes",
            "--default-storage-prefix", "s3://bucket/mine", "--seconds-between-status-checks", 1,
        ]  # fmt: skip
        env = {**keys(bucket), "KUBECONFIG": str(cluster.kubeconfig)}
        done = call(*asked, cwd=clone, **env)
        logs = [(tmp_path / f"{name}.log").read_text() for name in cluster.jobs]
        assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *logs])
        assert ["rule train", "rule score"] == [
            re.search("rule (?:train|score)", log).group() for log in logs
        ]
        for job in cluster.jobs.values():
            pod = job["spec"]["template"]["spec"]
            asks = pod["containers"][0]["resources"]
            assert asks["requests"]["nvidia.com/gpu"] == asks["limits"]["nvidia.com/gpu"] == "1"
            assert asks["limits"]["memory"] == "2000M"
            assert pod["volumes"][1]["persistentVolumeClaim"] == {"claimName": "texnet"}
            assert pod["serviceAccountName"] == PROFILE["kubernetes-service-account-name"]
        made = {key.removeprefix("mine/") for key in bucket.objects}
        run = {f"results/stylenet_in_seed0/{n}" for n in ("run.json", "model.safetensors")}
        assert {*run, "results/scores/stylenet_in.csv", "logs/train/stylenet_in_seed0.log"} <= made
        assert not any("sources" in key for key in made)  # what was sent along is gone again
        assert not (clone / "results").exists()
        assert (
            "Nothing to be done" in (again := call(*asked, cwd=clone, **env)).stdout + again.stderr
        )
