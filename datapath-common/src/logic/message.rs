//! An ICMP error in the making: its header, and the packet it is about (RFC 792, RFC 4443).

use crate::abi::Address;

/// Bytes of the header.
pub const HEADER: u32 = 8;
/// Bytes quoted in IPv4: as much as keeps the datagram within 576 (RFC 1812 section 4.3.2.3).
pub const QUOTED_V4: u32 = 576 - 20 - HEADER;
/// Bytes quoted in IPv6: as much as keeps the packet within the least MTU of a link (RFC 4443 section 2.4 (c)).
pub const QUOTED_V6: u32 = 1_280 - 40 - HEADER;

/// Words kept: a power of two, so that an index is bounded by a mask.
const WORDS: usize = 256;

/// A message. Its bytes are kept as native words, for its sum is one of words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// The header, then the packet quoted.
    words: [u64; WORDS],
    /// Who tells it.
    pub sender: Address,
    /// The sender's MAC address.
    pub sender_mac: [u8; 6],
    /// Zero.
    pub padding: [u8; 2],
    /// How many bytes are quoted.
    pub quoted: u32,
    /// The word that is summed next. Here, not on the stack, where the verifier would follow it from word to word.
    next: u32,
}

impl Message {
    /// Nothing said yet.
    pub const EMPTY: Self =
        Self { words: [0; WORDS], sender: Address::NONE, sender_mac: [0; 6], padding: [0; 2], quoted: 0, next: 0 };

    /// The next word, from the first on since the header was written.
    #[inline(always)]
    #[must_use]
    pub const fn next_word(&mut self) -> u64 {
        let at = self.next;
        self.next += 1;
        self.words[at as usize & (WORDS - 1)]
    }

    /// Writes the header.
    #[inline(always)]
    pub const fn set_header(&mut self, header: [u8; HEADER as usize]) {
        self.words[0] = u64::from_ne_bytes(header);
        self.next = 0;
    }

    /// Makes room for so many bytes to be quoted. What the last word has behind them is zero.
    #[inline(always)]
    pub const fn set_quoted(&mut self, quoted: u32) {
        self.quoted = quoted;
        self.words[(1 + quoted / 8) as usize & (WORDS - 1)] = 0;
    }

    /// How many words have a byte of the message.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> u32 {
        1 + self.quoted.div_ceil(8)
    }

    /// Bytes of the message.
    #[inline(always)]
    #[must_use]
    pub const fn length(&self) -> u32 {
        HEADER + self.quoted
    }

    /// All bytes: the header, the quotation, and what means nothing.
    #[expect(unsafe_code, reason = "words seen as the bytes they are")]
    #[inline(always)]
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 8 * WORDS] {
        // SAFETY: as many bytes, which need no alignment.
        unsafe { &*(&raw const self.words).cast() }
    }

    /// Where the quotation is to go.
    #[expect(unsafe_code, reason = "as in `bytes`")]
    #[inline(always)]
    #[must_use]
    pub const fn quotation(&mut self) -> &mut [u8; QUOTED_V6 as usize] {
        // SAFETY: as in `bytes`, and there is room behind the first word.
        unsafe { &mut *(&raw mut self.words).cast::<u64>().add(1).cast() }
    }
}
