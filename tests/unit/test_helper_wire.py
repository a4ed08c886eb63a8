# SPDX-License-Identifier: Apache-2.0
"""What helper and client say to each other, in whatever pieces it arrives."""

import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve.helper import wire

parts_of_a_message = st.lists(st.binary(max_size=40), max_size=5)
MESSAGE = wire.pack(b"teardown\0/run/netns/c1", b"", b'{"a": 1}')


class Pieces:
    """A socket on which bytes arrive in pieces of these sizes, again and again, and that then ends."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.data = data
        self.sizes = sizes
        self.count = 0

    def recv(self, size: int) -> bytes:
        arrived = min(size, self.sizes[self.count % len(self.sizes)])
        self.count += 1
        piece, self.data = self.data[:arrived], self.data[arrived:]
        return piece


def receive(data: bytes, count: int, sizes: list[int]) -> list[bytes]:
    return wire.receive(Pieces(data, sizes), count)  # type: ignore[arg-type]


def test_each_part_has_its_length_in_front() -> None:
    assert wire.pack(b"", b"ab") == b"\0\0\0\0\0\0\0\2ab"
    assert wire.pack() == b""


@given(parts=parts_of_a_message, sizes=st.lists(st.integers(1, 9), min_size=1))
def test_parts_arrive_in_whatever_pieces(parts: list[bytes], sizes: list[int]) -> None:
    assert receive(wire.pack(*parts), len(parts), sizes) == parts


@given(parts=parts_of_a_message, sizes=st.lists(st.integers(1, 9), min_size=1))
def test_what_follows_is_left_where_it_is(parts: list[bytes], sizes: list[int]) -> None:
    pieces = Pieces(wire.pack(*parts) + b"more", sizes)

    wire.receive(pieces, len(parts))  # type: ignore[arg-type]

    assert pieces.data == b"more"


@pytest.mark.parametrize("length", range(len(MESSAGE)))
def test_an_end_in_the_middle_is_noticed(length: int) -> None:
    with pytest.raises(EOFError):
        receive(MESSAGE[:length], 3, [3])


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", (wire.LONGEST + 1).to_bytes(4, "big")])
def test_nonsense_for_a_length_is_not_waited_for(length: bytes) -> None:
    pieces = Pieces(length + b"abc", [4])

    with pytest.raises(EOFError):
        wire.receive(pieces, 1)  # type: ignore[arg-type]

    assert pieces.count == 1


def test_large_parts_go_through_a_socket() -> None:
    one, other = socket.socketpair()
    parts = [bytes(range(256)) * 8192, b"", b"x"]
    with one, other:
        sending = threading.Thread(target=one.sendall, args=(wire.pack(*parts),))
        sending.start()
        assert wire.receive(other, 3) == parts
        sending.join()


def test_descriptors_are_handed_over() -> None:
    one, other = socket.socketpair()
    reading, writing = os.pipe()
    with one, other, open(reading, "rb"), open(writing, "wb"):
        one.sendmsg([b"x"], wire.rights([reading, writing]))
        data, received, _, _ = socket.recv_fds(other, 9, 9)
        try:
            assert data == b"x"
            assert list(map(os.fstat, received)) == list(map(os.fstat, [reading, writing]))
        finally:
            for descriptor in received:
                os.close(descriptor)
