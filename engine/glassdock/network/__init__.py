"""Networks: bridges, cables, addresses, published ports.

Reading order, the core idea first:
- `model.py`: `Network`, `Endpoint`, `PortBinding`; `creation.py`: what a user asks of a network.
- `namespaces.py`: a network namespace made in a thread, before the process that will live in it.
- `veth.py`, `bridge.py`: cable and switch; each step is a value with `describe()` and `message()`.
- `addresses.py`: subnets and leases. `ports.py`, `published.py`: the way in. `files.py`: names.
- `nat.py`: the way out, with rules from `nft.py`; `firewall.py`: who else has a say.
- `home.py`: root's bridges are on the machine's network, an ordinary user's on a network of the engine's own.
- `sandbox.py`: one container's places in several networks; `wiring.py`: plugged in and out while it runs.
- `resolver.py`, `names.py`, `dnswire.py`: names, at 127.0.0.11 in the container's own network.
- `bridged.py`: one bridge network at work. `yard.py`: what is made ahead and goes after.
- `manager.py`: the verbs. `records.py`: the disk.
- `wayout.py`, `keeper.py`: pasta or slirp4netns, for a network apart from the machine's.
- `netlink.py`: many messages in one send; pyroute2's only user, with `nft.py`, which says nftables' part.

Rules: nothing here forks or calls a program, but the keeper of the way out, which is a process of its own. Threads that
visit a container's namespace come home before they are used again.
"""
