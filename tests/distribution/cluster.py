"""Two workers on this machine."""

import json
import socket


def free_ports(count=2):
    """Numbers of ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def cluster():
    """The TF_CONFIG of each of two workers."""
    addresses = [f"localhost:{port}" for port in free_ports()]
    return [
        json.dumps(
            {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": index},
            }
        )
        for index in range(len(addresses))
    ]
