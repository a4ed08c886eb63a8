# SPDX-License-Identifier: Apache-2.0
"""Judgements of `netavark-geneve doctor`, by what they are about. Pure: what a look saw in, findings out."""
