"""From a specification to a process: the plan, the launcher, the shim and the child that becomes the container.

Reading order, which is the order in which it happens:

1. `launch.py`: the daemon's side; a `LaunchRequest` goes in, a `Process` comes out.
2. `plan.py`: the specification becomes an ordered tuple of steps, each of which can be told and done (`stage.py`).
3. `launcher.py`: the small process that forks; `shim.py`: the one that stays with the container.
4. `init.py`: the child, which does the steps and becomes the program.
5. What some namespaces need before there is a child: `outside.py`, done by the one whom `birth.py` sends; `userns.py`.
6. The steps, a file a concept: `namespaces.py`, `rootfs.py`, `cgroups.py` (`cgroups_v1.py`, `cgroups_v2.py`),
   `capabilities.py`, `seccomp.py`, `process.py`.

`defaults.py` has what Docker gives a container that says nothing.
"""
