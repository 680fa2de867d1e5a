"""Networks: bridges, cables, addresses, published ports.

Reading order, the core idea first:
- `model.py`: `Network`, `Endpoint`, `PortBinding`; `creation.py`: what a user asks of a network.
- `namespaces.py`: a network namespace made in a thread, before the process that will live in it.
- `veth.py`, `bridge.py`: cable and switch; each step is a value with `describe()` and `message()`.
- `addresses.py`: subnets and leases. `ports.py`, `published.py`: the way in. `files.py`: names.
- `nat.py`: the way out, with rules from `nft.py`; `firewall.py`: who else has a say.
- `home.py`: root's bridges are on the machine's network, an ordinary user's on a network of the engine's own.
- `bridged.py`: one bridge network at work. `manager.py`: the verbs, and what is kept ready. `records.py`: the disk.
- `wayout.py`, `keeper.py`: pasta or slirp4netns, for a network apart from the machine's.
- `netlink.py`: many messages in one send; pyroute2's only user, with `nft.py`, which says nftables' part.

Rules: nothing here forks or calls a program, but the keeper of the way out, which is a process of its own. Threads that
visit a container's namespace come home before they are used again.
"""
