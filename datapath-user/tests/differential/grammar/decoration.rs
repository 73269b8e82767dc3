//! What a right packet may have besides.

use fastrand::Rng;

use super::packet::Segment;

/// IPv4 options (RFC 791 section 3.1, RFC 2113) by name.
const OPTIONS: [(&str, &[u8]); 6] = [
    ("no operation", &[1, 1, 1, 0]),
    ("router alert", &[148, 4, 0, 0]),
    ("unknown option", &[0x9e, 6, 1, 2, 3, 4, 1, 0]),
    ("security", &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("record route", &[7, 7, 4, 0, 0, 0, 0, 0]),
    ("loose source route", &[131, 7, 4, 10, 99, 0, 1, 0]),
];

/// What follows the first byte of an IPv6 extension header of 8 bytes that is all padding.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// IPv6 extension headers by name (RFC 8200 section 4).
const EXTENSIONS: [(&str, &[(u8, &[u8])]); 6] = [
    ("hop-by-hop options", &[(0, &PADDING)]),
    ("destination options", &[(60, &PADDING)]),
    ("both options", &[(0, &PADDING), (60, &PADDING)]),
    ("routing type 0", &[(43, &[0, 0, 0, 0, 0, 0, 0])]),
    ("routing type 253", &[(43, &[0, 253, 0, 0, 0, 0, 0])]),
    (
        "seven headers",
        &[
            (60, &PADDING),
            (60, &PADDING),
            (60, &PADDING),
            (60, &PADDING),
            (60, &PADDING),
            (60, &PADDING),
            (60, &PADDING),
        ],
    ),
];

/// The transport checksum of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    Right,
    Wrong,
    /// UDP's zero.
    None,
}

/// The decoration of one packet.
#[derive(Clone, Debug)]
pub struct Decoration {
    pub ttl: u8,
    pub options: Option<(&'static str, &'static [u8])>,
    pub extensions: Option<(&'static str, &'static [(u8, &'static [u8])])>,
    /// Size of the fragments.
    pub fragments: Option<usize>,
    pub checksum: Checksum,
}

impl Decoration {
    /// None.
    pub fn plain() -> Self {
        Self { ttl: 64, options: None, extensions: None, fragments: None, checksum: Checksum::Right }
    }

    pub fn draw(random: &mut Rng, v4: bool, segment: &Segment) -> Self {
        let mut decoration = Self::plain();
        let dataless = matches!(segment, Segment::Tcp(_));
        match random.u32(..100) {
            0..=4 if v4 => decoration.options = Some(OPTIONS[random.usize(..OPTIONS.len())]),
            0..=4 => decoration.extensions = Some(EXTENSIONS[random.usize(..EXTENSIONS.len())]),
            5..=7 => decoration.ttl = [1, 2, 255][random.usize(..3)],
            8..=10 if !dataless => decoration.fragments = Some([8, 16, 24][random.usize(..3)]),
            11 => decoration.checksum = Checksum::Wrong,
            12..=14 if matches!(segment, Segment::Udp) => decoration.checksum = Checksum::None,
            _ => {}
        }
        decoration
    }

    /// Its name, for reports.
    pub fn name(&self) -> String {
        match self {
            Self { options: Some((name, _)), .. } | Self { extensions: Some((name, _)), .. } => (*name).to_owned(),
            Self { fragments: Some(size), .. } => format!("fragments of {size}"),
            Self { checksum: Checksum::Right, ttl, .. } => format!("ttl {ttl}"),
            Self { checksum, .. } => format!("checksum {checksum:?}"),
        }
    }

    /// Whether it has an option that routers write into.
    pub fn is_filled_in(&self) -> bool {
        matches!(self.options, Some(("record route", _)))
    }
}
