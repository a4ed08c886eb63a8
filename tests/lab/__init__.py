"""Hosts with real Podman and Open vSwitch, made of namespaces on one machine."""

from .errors import CommandError, LabError
from .host import Host
from .machine import Machine
from .snapshot import Snapshot, diff
from .topology import Lab

__all__ = ["CommandError", "Host", "Lab", "LabError", "Machine", "Snapshot", "diff"]
