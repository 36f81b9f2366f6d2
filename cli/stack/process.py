"""Processes that outlive the command that started them, and the few files by which a later command finds them."""

import fcntl
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cli.stack.component import StackError

PORT_RANGE = range(20_000, 32_000)
# Below the range from which kernels number outgoing connections (32768 on Linux): a client that keeps knocking while
# its server is down could otherwise be given the server's own port, connect to itself and keep the server from it.

POLL_INTERVAL_S = 0.02
LOG_TAIL_LINES = 15
LOG_TAIL_CHARACTERS = 2000


class DetachedProcess:
    """A background process in a session of its own, known by `<name>.pid` and heard in `<name>.log`.

    The pid file also holds the process's start time: a pid that the system gave to someone else meanwhile is
    neither taken for ours nor signalled.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.log_path = directory / f"{name}.log"
        self._pid_path = directory / f"{name}.pid"

    @property
    def pid(self) -> int | None:
        """The process id while the process lives, else None."""
        try:
            pid_text, started = self._pid_path.read_text().split("\n", 1)
        except (FileNotFoundError, ValueError):
            return None
        pid = int(pid_text)
        process = _look(pid)
        if process is None or process.started != started:
            return None
        try:
            # A dead child keeps its pid until it is waited for; before its last thread is gone this waits in vain.
            return pid if os.waitpid(pid, os.WNOHANG) == (0, 0) else None
        except ChildProcessError:  # an earlier command's child: others wait for it
            return None if process.is_zombie else pid

    def spawn(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start `command`, its output appended to the log; the caller waits until it serves.

        Not by `subprocess.Popen`, which complains (`ResourceWarning`) of a child left running; this one is meant to be.
        """
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        arguments = [os.fspath(part) for part in command]
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            pid = os.posix_spawnp(
                arguments[0],
                arguments,
                dict(os.environ if environment is None else environment),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE],
            )
        except OSError as error:
            raise StackError(f"{self.name}: cannot run {arguments[0]}: {error.strerror}") from error
        finally:
            os.close(log)
            os.close(null)
        seen = _look(pid)
        write_atomically(self._pid_path, f"{pid}\n{seen.started if seen else None}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process if it lives."""
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End it at once, as a crash would, and return when it is gone."""
        self.stop(signal.SIGKILL, deadline_s=10)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, deadline_s: float = 30) -> bool:
        """Ask it to end and wait; kill it, and nothing else, after the deadline. Return whether it ended in time."""
        self.send_signal(number)
        self.send_signal(signal.SIGCONT)  # one that was stopped with SIGSTOP would not hear the request
        ended = wait_until(lambda: self.pid is None, deadline_s)
        if not ended:
            self.send_signal(signal.SIGKILL)
            if not wait_until(lambda: self.pid is None, 10):
                raise StackError(f"{self.name}: process {self.pid} does not die")
        self._pid_path.unlink(missing_ok=True)
        return ended

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of the log, for a person who has to know why."""
        try:
            text = self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def wait_until_ready(self, is_ready: Callable[[], bool], *, deadline_s: float) -> None:
        """Return once `is_ready()`; raise `StackError` with the log's end when the process dies or is too slow."""
        if wait_until(lambda: self.pid is None or is_ready(), deadline_s) and self.pid is not None:
            return
        what = "ended at once" if self.pid is None else f"not ready within {deadline_s:.0f} s"
        raise StackError(f"{self.name}: {what}; the end of {self.log_path}:\n{self.log_tail()}")


@dataclass(frozen=True)
class _Seen:
    started: str
    is_zombie: bool


def _look(pid: int) -> _Seen | None:
    """What the system says of a process: when it started, in its own words, and whether it is dead but not buried."""
    if Path("/proc/self/stat").exists():
        try:
            # The name in brackets may hold anything; state and start time are fields 3 and 22.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return _Seen(started=f"{_boot_id()} {fields[19]}", is_zombie=fields[0] in "ZX")
    command = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    state, _, started = asked.stdout.strip().partition(" ")
    return _Seen(started=started.strip(), is_zombie=state.startswith("Z")) if started else None


def _boot_id() -> str:
    # Start times count from the boot: without it a pid file from before a reboot could match by accident.
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def run_to_end(command: Sequence[str], *, purpose: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a command that ends by itself; raise `StackError` with what it said last when it fails."""
    done = subprocess.run(  # noqa: S603  (our own commands, no shell)
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError(f"could not {purpose}:\n{(done.stdout + done.stderr).strip()[-LOG_TAIL_CHARACTERS:]}")


def wait_until(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Poll `condition`; whether it came true in time."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file so that a reader sees the old text or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.write_text(text)
    draft.replace(path)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`: one process at a time passes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remembered_port(directory: Path, name: str, wanted: int | None = None, *, preferred: int | None = None) -> int:
    """The port of `name`: `wanted` if given, else the one of last time, else `preferred` if free, else any free one.

    Clients keep the address they were told, so a restarted server must come back on the same port.
    """
    path = directory / f"{name}.port"
    if wanted is None and path.exists():
        return int(path.read_text())
    port = wanted or (preferred if preferred and _is_free(preferred) else _free_port())
    write_atomically(path, str(port))
    return port


def give_up_taken_port(directory: Path, name: str) -> None:
    """Before a start: forget the remembered port of `name` when somebody else listens there by now."""
    path = directory / f"{name}.port"
    if path.exists() and not _is_free(int(path.read_text())):
        path.unlink()


def _free_port() -> int:
    for port in random.SystemRandom().sample(PORT_RANGE, k=100):
        if _is_free(port):
            return port
    raise StackError(f"no free port among {PORT_RANGE.start}..{PORT_RANGE.stop - 1}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a predecessor that are still fading out do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
