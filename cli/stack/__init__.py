"""The local stack: Kafka, PostgreSQL, InfluxDB and the services as background processes of one machine.

`Stack` is all of it; the single servers are for tests, each below a folder of its own and on a port of its own.
"""

from cli.stack.component import Component, ComponentHealth, NotAvailableError, StackError
from cli.stack.influx import InfluxServer
from cli.stack.kafka import KafkaBroker
from cli.stack.postgres import PostgresServer
from cli.stack.services import SERVICES, Service, ServiceProcess
from cli.stack.stack import Stack

__all__ = [
    "SERVICES",
    "Component",
    "ComponentHealth",
    "InfluxServer",
    "KafkaBroker",
    "NotAvailableError",
    "PostgresServer",
    "Service",
    "ServiceProcess",
    "Stack",
    "StackError",
]
