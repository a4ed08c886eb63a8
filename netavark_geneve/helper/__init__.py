# SPDX-License-Identifier: Apache-2.0
"""The warm helper: a process that has the libraries loaded, and the thin client that asks it."""
