//! HTTP/2 frames as the front door looks at them, the lengths of gRPC messages, and headers with a text of the peer: what
//! is seen does not depend on how the bytes were cut. The first byte is the length of a piece.
#![no_main]

use legal_aid_gateway::grpc::fuzzing::{read_headers, read_message_lengths};
use legal_aid_gateway::identity::read_frames;
use legal_aid_gateway_fuzz::seeds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds("frames", examples), |bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    read_frames(bytes, usize::from(*piece));
    read_message_lengths(bytes, usize::from(*piece));
    read_headers(bytes);
});

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    };
    let connection = [
        b"\x05PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, &[]),
        frame(1, 0, b"\x82\x86"),
        frame(9, 4, b"\x84"),
        frame(0, 1, b"\0\0\0\0\x03abc"),
        frame(3, 0, &[0; 4]),
    ];
    vec![
        ("connection", connection.concat()),
        ("messages", b"\x03\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x01z".to_vec()),
        ("timeout", b"\x0110S".to_vec()),
        ("trace", b"\x0100-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_vec()),
    ]
}
