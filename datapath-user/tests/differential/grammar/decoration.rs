//! What a right packet may have besides.

use fastrand::Rng;

use lab::frame::{ethertype, internet_checksum};

use super::packet::Segment;
use crate::locate::{ETHERNET, put, word};
use crate::reassembly::FRAGMENT;

/// A name, and bytes of IPv4 options.
type Options = (&'static str, &'static [u8]);
/// A name, and IPv6 extension headers: the number of each, and what follows its first byte.
type Extensions = (&'static str, &'static [(u8, &'static [u8])]);

/// IPv4 options (RFC 791 section 3.1, RFC 2113) by name.
const OPTIONS: [Options; 6] = [
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
const EXTENSIONS: [Extensions; 7] = [
    ("hop-by-hop options", &[(0, &PADDING)]),
    ("destination options", &[(60, &PADDING)]),
    ("both options", &[(0, &PADDING), (60, &PADDING)]),
    ("atomic fragment", &[(FRAGMENT, &[0, 0, 0, 0, 0, 0, 0])]),
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
    pub options: Option<Options>,
    pub extensions: Option<Extensions>,
    /// Size of the fragments (larger, where they would be very many), and how they come.
    pub fragments: Option<(usize, Order)>,
    pub checksum: Checksum,
}

/// How the fragments of a packet come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Right,
    Reversed,
    /// The first comes last.
    FirstLast,
    /// One comes twice.
    Doubled,
    /// One never comes.
    Incomplete,
    /// The second begins within the first.
    Overlapping,
}

impl Order {
    fn draw(random: &mut Rng) -> Self {
        match random.u32(..10) {
            0..=3 => Self::Right,
            4 | 5 => Self::Reversed,
            6 => Self::FirstLast,
            7 => Self::Doubled,
            8 => Self::Incomplete,
            _ => Self::Overlapping,
        }
    }

    /// Arranges fragments that came out in the right order; a single one stays as it is.
    pub fn of(self, mut fragments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        match self {
            Self::Reversed => fragments.reverse(),
            Self::FirstLast => fragments.rotate_left(1),
            Self::Doubled if fragments.len() > 1 => fragments.insert(1, fragments[0].clone()),
            Self::Incomplete if fragments.len() > 1 => drop(fragments.pop()),
            Self::Overlapping if fragments.len() > 1 => begin_earlier(&mut fragments[1]),
            _ => {}
        }
        fragments
    }
}

/// Moves a fragment to 8 bytes before its place.
fn begin_earlier(fragment: &mut [u8]) {
    if word(fragment, 12) == Some(ethertype::IPV4) {
        let header = ETHERNET + usize::from(fragment[ETHERNET] & 0xf) * 4;
        let field = word(fragment, 20).expect("an IPv4 header is whole");
        put(fragment, 20, field - 1);
        put(fragment, 24, 0);
        let sum = internet_checksum(&fragment[ETHERNET..header]);
        put(fragment, 24, sum);
    } else {
        let at = ETHERNET + 40 + 2;
        let field = word(fragment, at).expect("a fragment header is whole");
        put(fragment, at, field - 8);
    }
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
            8..=10 if !dataless => {
                decoration.fragments = Some(([8, 16, 24][random.usize(..3)], Order::draw(random)));
            }
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
            Self { fragments: Some((size, order)), .. } => format!("fragments of {size}, {order:?}"),
            Self { checksum: Checksum::Right, ttl, .. } => format!("ttl {ttl}"),
            Self { checksum, .. } => format!("checksum {checksum:?}"),
        }
    }

    /// Whether a router, or a host, may refuse it.
    pub fn may_be_lost(&self) -> bool {
        let refused = matches!(self.options, Some(("loose source route", _)))
            || matches!(self.extensions, Some(("atomic fragment" | "routing type 0" | "seven headers", _)));
        refused || self.ttl == 1 || self.fragments.is_some()
    }

    /// Whether its fragments never make a datagram.
    pub fn is_broken(&self) -> bool {
        matches!(self.fragments, Some((_, Order::Incomplete | Order::Overlapping)))
    }

    /// Whether it has an option that routers write into.
    pub fn is_filled_in(&self) -> bool {
        matches!(self.options, Some(("record route", _)))
    }
}
