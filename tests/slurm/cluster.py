"""A Slurm of Debian's packages on one machine: three nodes, GPUs that are not there, loopback.

Everything lies in one folder, and what was started is stopped by its number. Nodes and GPUs are
made up, but what is scheduled on them is scheduled by the real thing.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "scontrol")
MISSING = [name for name in PROGRAMS if not shutil.which(name)]
NODES = ("cpu1", "gpu1", "gpu2")
# What each line is for, where it is not Slurm's default: see the comments.
CONFIGURATION = """
ClusterName=texnet
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SrunPortRange={first}-{last}
# bind to the loopback address, not to all
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it starts again (120 s by default)
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
# no control groups: memory is looked at once a second
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
MailProg=/bin/true
SwitchType=switch/none
ReturnToService=2
# refuse at once what no node can ever run
EnforcePartLimits=ALL
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
GresTypes=gpu
PropagateResourceLimits=NONE
# the machine need not have the processors and the memory of its nodes
SlurmdParameters=config_overrides
SlurmctldTimeout=10
SlurmdTimeout=10
UnkillableStepTimeout=10
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
NodeName=cpu1 NodeHostname={host} NodeAddr=127.0.0.1 Port={cpu1} CPUs=4 RealMemory=16000
NodeName=gpu1 NodeHostname={host} NodeAddr=127.0.0.1 Port={gpu1} CPUs=8 RealMemory=24000 Gres=gpu:6
NodeName=gpu2 NodeHostname={host} NodeAddr=127.0.0.1 Port={gpu2} CPUs=4 RealMemory=16000 Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
GPUS = """
AutoDetect=off
NodeName=gpu1 Name=gpu File={folder}/gpu[0-5]
NodeName=gpu2 Name=gpu File={folder}/gpu6
"""


class Cluster(contextlib.AbstractContextManager):
    """Slurm, from entering to leaving; ``env`` is the environment in which its commands work."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder = Path(folder)
        self.env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.started: dict[str, subprocess.Popen] = {}

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        (folder / "state").mkdir(mode=0o700)
        for number in range(7):  # slurmd wants a character device
            (folder / f"gpu{number}").symlink_to("/dev/null")
        ports = dict(zip(("controller", *NODES, "first"), _free_ports(5), strict=True))
        host = socket.gethostname().partition(".")[0]
        filled = CONFIGURATION.format(folder=folder, host=host, last=ports["first"] + 50, **ports)
        (folder / "slurm.conf").write_text(filled)
        (folder / "gres.conf").write_text(GPUS.format(folder=folder))

        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        files = {"key-file": key, "socket": folder / "munge.sock", "seed-file": folder / "seed",
                 "pid-file": folder / "munged.pid", "log-file": folder / "munged.log"}  # fmt: skip
        self._daemon("munged", "--foreground", *(f"--{k}={v}" for k, v in files.items()))
        self._wait("munge", lambda: files["socket"].exists())
        self._daemon("slurmctld", "-D", "-c", "-f", folder / "slurm.conf")
        for node in NODES:
            (folder / f"spool.{node}").mkdir()
            self._daemon(f"slurmd {node}", "-D", "-N", node, "-f", folder / "slurm.conf")
        self._wait("three idle nodes", lambda: len(self.idle()) == 3)

    def __exit__(self, *error) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            for job in self.jobs():
                self.command("scancel", job)
            self._wait("an empty queue", lambda: not self.jobs(), 15)
        for daemon in reversed(self.started.values()):
            daemon.terminate()
        for daemon in reversed(self.started.values()):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.started.clear()

    def _daemon(self, name: str, *arguments: object) -> None:
        """Start a daemon in a session of its own; it is ours to stop."""
        program = name.partition(" ")[0]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.started[name] = subprocess.Popen(
                [shutil.which(program), *map(str, arguments)],
                env=self.env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop_controller(self) -> None:
        """As for an update; killed, it might forget what it did in its last seconds."""
        controller = self.started.pop("slurmctld")
        controller.terminate()
        controller.wait(30)

    def restart_controller(self) -> None:
        self._daemon("slurmctld", "-D", "-f", self.folder / "slurm.conf")
        self._wait("the controller", lambda: self.idle())

    def command(self, *arguments: object, timeout: float = 20) -> str:
        """The output of one of Slurm's commands."""
        return subprocess.run(
            [str(a) for a in arguments],
            env=self.env, capture_output=True, text=True, timeout=timeout, check=True,
        ).stdout  # fmt: skip

    def idle(self) -> set[str]:
        with contextlib.suppress(subprocess.SubprocessError):
            return set(
                self.command("sinfo", "-h", "-N", "-t", "idle", "-o", "%N", timeout=3).split()
            )
        return set()

    def jobs(self, folder: Path | None = None, states: str = "") -> list[str]:
        """Numbers of the jobs in the queue; of those submitted in a folder."""
        chosen = [f"--states={states}"] if states else []
        lines = self.command("squeue", "-h", "-o", "%A|%Z", *chosen).split()
        return [j for j, _, f in (x.partition("|") for x in lines) if folder in (None, Path(f))]

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        shown = self.command("scontrol", "-o", "show", "job", number)
        return dict(word.partition("=")[::2] for word in shown.split())

    def _wait(self, what: str, ready, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not ready():
            for name, daemon in self.started.items():
                if daemon.poll() is not None:
                    log = (self.folder / f"{name}.log").read_text()[-2000:]
                    raise RuntimeError(f"{name} ended while waiting for {what}:\n{log}")
            if time.monotonic() > end:
                raise TimeoutError(f"no {what} after {seconds} s; logs in {self.folder}")
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, with room after the last one."""
    base = 16800 + os.getpid() % 200 * 200
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", base))
            found.append(base)
        base += 1
    return found
