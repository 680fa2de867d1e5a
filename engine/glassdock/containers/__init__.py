"""Containers: from a request to a running process and back, and what is remembered of it.

- `config.py`: what a client asks for (`docker create`'s body), checked and merged with the image's defaults.
- `model.py`: the record of a container and the states it moves through.
- `store.py`: records on disk, looked up by id, prefix or name.
- `spec.py`: the OCI runtime spec that a record means.
- `manager.py`: the verbs: create, start, stop, kill, wait, remove, attach.
- `logs.py`: reading what the shim wrote.
- `step.py`: one command in a snapshot without a record, for builds.

Rules: a verb either happens whole or leaves nothing; the record is written before the verb is answered.
"""
