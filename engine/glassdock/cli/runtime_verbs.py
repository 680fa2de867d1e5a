"""All that `glassdock-runtime` can do: its verbs and their options, one table.

Interface: `VERBS`, `GENERAL`: the options before the verb, `ABOUT`: a sentence.
Source: runc(8)
"""

from __future__ import annotations

from glassdock.cli.runtime_words import Option, Verb

ROOT = "/run/glassdock-runtime"
GENERAL = (
    Option("root", "Where the state of containers is kept.", default=ROOT),
    Option("log", "Where errors are written as well."),
    Option("log-format", "text or json.", default="text"),
    Option("debug", "Tell the log what is done.", "flag"),
    Option("systemd-cgroup", "Refused: cgroups are made without systemd.", "flag"),
    Option("rootless", "Accepted: what is allowed is found by doing it.", default="auto"),
    Option("criu", "Accepted: nothing is checkpointed."),
    Option("version v", "Show the version.", "flag"),
)
_CONSOLE = Option("console-socket", "Who gets the terminal's outer end.")
_PID_FILE = Option("pid-file", "Where the number of the process is written.")
_PIDFD = Option("pidfd-socket", "Who gets the process as a descriptor.")
_PRESERVE = Option("preserve-fds", "How many descriptors from 3 on are passed.", "number")
_DETACH = Option("detach d", "Do not wait for its end.", "flag")
_MAKING = (
    Option("bundle b", "The bundle's folder; default: this one."),
    _CONSOLE,
    _PIDFD,
    _PID_FILE,
    Option("no-pivot", "Move the root instead of pivoting: for a machine whose root is a RAM disk.", "flag"),
    Option("no-new-keyring", "Keep the session keyring of the caller.", "flag"),
    _PRESERVE,
)
_EXEC = (
    _CONSOLE,
    _PIDFD,
    Option("cwd", "The working directory inside."),
    Option("env e", "One more NAME=VALUE.", "list"),
    Option("tty t", "Give it a terminal.", "flag"),
    Option("user u", "UID[:GID]."),
    Option("additional-gids g", "One more group's number.", "list"),
    Option("process p", "A file with the specification's process."),
    _DETACH,
    _PID_FILE,
    Option("process-label", "Its SELinux label."),
    Option("apparmor", "Its AppArmor profile."),
    Option("no-new-privs", "It never gains privileges.", "flag"),
    Option("cap c", "One more capability.", "list"),
    _PRESERVE,
    Option("cgroup", "[CONTROLLER,...:]PATH of a cgroup inside the container's.", "list"),
    Option("ignore-paused", "Also in a paused container: it begins when that is resumed.", "flag"),
)
_FORMAT = Option("format f", "table or json.", default="table")
_LIMITS = (
    Option("resources r", "A file with the specification's resources, - for the standard input."),
    Option("blkio-weight", "Weight of its block I/O, 10 to 1000.", "number"),
    Option("cpu-period", "Length of a period in microseconds.", "number"),
    Option("cpu-quota", "CPU time in a period in microseconds.", "number"),
    Option("cpu-burst", "CPU time that may be saved up in microseconds.", "number"),
    Option("cpu-share", "Weight of its CPU time.", "number"),
    Option("cpu-rt-period", "Length of a real-time period in microseconds.", "number"),
    Option("cpu-rt-runtime", "Real-time CPU time in a period.", "number"),
    Option("cpuset-cpus", "CPUs to use, such as 0-3,5."),
    Option("cpuset-mems", "Memory nodes to use."),
    Option("cpu-idle", "1: only what nobody else wants.", "number"),
    Option("memory", "Bytes of memory; -1: no limit."),
    Option("memory-reservation", "Bytes that it is pushed back to."),
    Option("memory-swap", "Bytes of memory and swap together; -1: no limit."),
    Option("pids-limit", "How many processes and threads.", "number"),
    Option("l3-cache-schema", "Refused: Intel RDT is not driven."),
    Option("mem-bw-schema", "Refused: Intel RDT is not driven."),
)
VERBS = {
    "checkpoint": Verb("runtime_look:no_criu", "Refused: nothing is checkpointed.", most=99, tail=True),
    "create": Verb("runtime_life:create", "Make a container that waits for `start`.", options=_MAKING),
    "delete": Verb(
        "runtime_life:delete",
        "Remove a stopped container.",
        options=(Option("force f", "Kill it first if it runs; say nothing if it is not there.", "flag"),),
    ),
    "events": Verb(
        "runtime_events:events",
        "Show what it uses, and when memory is short, a JSON document a line.",
        options=(
            Option("interval", "Time between two lines, such as 5s.", default="5s"),
            Option("stats", "One line, then the end.", "flag"),
        ),
    ),
    "exec": Verb(
        "runtime_exec:exec_", "Run one more program.", "CONTAINER [COMMAND...]", _EXEC, most=1 << 20, tail=True
    ),
    "features": Verb("runtime_look:features", "Show what this runtime can do.", "", least=0, most=0),
    "kill": Verb(
        "runtime_life:kill",
        "Send a signal, SIGTERM if none is named.",
        "CONTAINER [SIGNAL]",
        (Option("all a", "Signal all of its processes.", "flag"),),
        most=2,
    ),
    "list": Verb(
        "runtime_look:list_", "Show all containers.", "", (_FORMAT, Option("quiet q", "Names alone.", "flag")), 0, 0
    ),
    "pause": Verb("runtime_life:pause", "Stop all processes where they are."),
    "ps": Verb("runtime_look:ps", "Show its processes.", "CONTAINER [PS OPTIONS]", (_FORMAT,), most=1 << 20, tail=True),
    "restore": Verb("runtime_look:no_criu", "Refused: nothing is checkpointed.", most=99, tail=True),
    "resume": Verb("runtime_life:resume", "Let paused processes go on."),
    "run": Verb(
        "runtime_life:run",
        "Create, start, wait, delete; the exit code is the container's.",
        options=(
            *_MAKING,
            _DETACH,
            Option("keep", "Do not delete it when it has ended.", "flag"),
            Option("no-subreaper", "Accepted: nobody is reaped but its first process.", "flag"),
        ),
    ),
    "spec": Verb(
        "runtime_look:spec",
        "Write a config.json to begin with.",
        "",
        (
            Option("bundle b", "Where it is written; default: this folder."),
            Option("rootless", "For a user who is not root.", "flag"),
        ),
        0,
        0,
    ),
    "start": Verb("runtime_life:start", "Let the program of a created container begin."),
    "state": Verb("runtime_life:state", "Show the state of a container."),
    "update": Verb("runtime_update:update", "Change limits.", options=_LIMITS),
}
ABOUT = "Open Container Initiative runtime: turn bundles into containers, as the runtime specification says."
