# SPDX-License-Identifier: Apache-2.0
"""One layer-2 network across hosts for Podman: a netavark plugin on Open vSwitch and GENEVE."""

__version__ = "0.1.0"
