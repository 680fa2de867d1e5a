"""Dockerfiles: the language, and the builds that it describes.

Read in this order:
- `words.py`: quoting and `${variable}` forms.
- `lines.py`: directives, comments, continuations and heredocs make logical lines of a file.
- `flags.py`, `instructions.py`, `reading.py`: a logical line becomes a typed instruction.
- `dockerfile.py`: a file becomes a tree of stages, or a list of everything that is wrong with it.
- `ignore.py`, `context.py`: which files the build may see.
- `work.py`: the plan as values. `scope.py`: what variables mean. `place.py`: an instruction becomes a step.
- `checks.py`: what works and should not be written so, under BuildKit's names.
- `plan.py`: the tree and the base images' configs become a graph of frozen steps.
- `cache.py`: what was built before, and why a step cannot be taken from there.
- `sources.py`, `copying.py`, `archive.py`, `users.py`: COPY and ADD, inside the root; `rooted.py`: how to get there.
- `mounts.py`: what RUN --mount shows to a step. `remote.py`: ADD from a URL or a git repository.
- `state.py`, `execute.py`, `stubs.py`: the plan is carried out; `record.py` keeps which line made which layer.
- `options.py`, `classic.py`: the build endpoint's options and its stream of progress.
- `builder.py`: all of it behind one object, for the engine.

Rules: nothing is ignored silently. What is understood and cannot be done yet is refused before the first step.
Source: https://docs.docker.com/reference/dockerfile/
"""
