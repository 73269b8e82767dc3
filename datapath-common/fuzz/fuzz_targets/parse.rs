//! Any bytes: parsing ends, reads nothing that is not there, and what it says agrees with the bytes.

#![no_main]

use datapath_common::{
    logic::{
        headers::ETHERNET,
        parse::{Fragment, Transport, parse},
    },
    native::Frame,
    path::{Readable as _, Scratch},
};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus {
    let mut bytes = input.to_vec();
    // Only the two IP versions are parsed; the path decides about the rest.
    match bytes.get_mut(12..14) {
        Some(ethertype) if ethertype[0] & 1 == 0 => ethertype.copy_from_slice(&[0x08, 0x00]),
        Some(ethertype) => ethertype.copy_from_slice(&[0x86, 0xdd]),
        None => return Corpus::Reject,
    }
    let mut frame = Frame::new(1, bytes);
    let mut scratch = Scratch::EMPTY;
    if !frame.read_headers(ETHERNET, &mut scratch.headers) {
        return Corpus::Keep;
    }
    if parse(&frame, &scratch.headers, &mut scratch.parsed).is_err() {
        return Corpus::Keep;
    }
    let parsed = scratch.parsed;
    let has_ports = matches!(parsed.transport, Transport::Tcp | Transport::Udp);
    if has_ports && parsed.fragment != Fragment::Later {
        let at = usize::from(parsed.transport_offset);
        assert_eq!(frame.bytes[at..at + 2], parsed.key.source_port.to_ne_bytes(), "{parsed:?}");
        assert_eq!(frame.bytes[at + 2..at + 4], parsed.key.destination_port.to_ne_bytes(), "{parsed:?}");
    }
    Corpus::Keep
});
