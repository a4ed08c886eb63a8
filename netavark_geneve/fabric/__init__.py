# SPDX-License-Identifier: Apache-2.0
"""Fabrics: who the other hosts are and how they are reached."""
