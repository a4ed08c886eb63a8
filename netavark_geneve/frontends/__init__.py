# SPDX-License-Identifier: Apache-2.0
"""Front ends: bytes in, reply out; parse and render for one protocol each, nothing else."""
