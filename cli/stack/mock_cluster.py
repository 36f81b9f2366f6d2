"""The process of `MockKafka`: `python -m cli.stack.mock_cluster ADDRESS_FILE` runs the cluster until SIGTERM."""

import os
import signal
import sys
from pathlib import Path

from confluent_kafka import Producer

from cli.stack.mock_kafka import WARNING
from cli.stack.process import write_atomically
from shared.settings import MAX_MESSAGE_BYTES


def serve(address_path: Path) -> None:
    """Run the cluster until SIGTERM and write its bootstrap servers to `address_path`."""
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    # Before librdkafka starts its threads, so that they inherit the mask and the signal waits for us.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    # The cluster lives inside the client that asks for it.
    client = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "", "message.max.bytes": MAX_MESSAGE_BYTES})
    brokers = client.list_topics(timeout=10).brokers.values()
    write_atomically(address_path, ",".join(f"{broker.host}:{broker.port}" for broker in brokers))
    print(f"{os.getpid()}: {WARNING}", flush=True)
    signal.sigwait(stop_signals)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
