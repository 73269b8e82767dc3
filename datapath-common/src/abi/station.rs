//! Stations: MAC addresses that were learnt behind the ports of networks with [`super::network_flags::LEARNING`].
//!
//! Each port has a table of its own, so that none can take the room of others. A key of `STATION_BY_MAC` leads to a place
//! of such a table, and the place says whose it is: a key that leads to another's means nothing.

/// Tables of stations, one for each port; number 0 is nobody's.
pub const STATION_TABLES: u32 = 512;
/// Stations behind one port: a power of two.
pub const PORT_STATIONS: usize = 256;

/// One station.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Station {
    /// When it was last heard, to a second.
    pub seen: u64,
    /// Index of the endpoint whose port it is behind.
    pub endpoint: u32,
    /// The generation of that endpoint; of another one, or 0, the place is free.
    pub generation: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Id of the network.
    pub network: u16,
}

/// One value of `STATIONS`.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortStations {
    /// 1 while a CPU learns.
    pub lock: u32,
    /// The place looked at next. It is in the map because the verifier follows every value that it can see on the stack
    /// through every round.
    pub hand: u32,
    /// Where the latest look found room; `u32::MAX`, nowhere.
    pub found: u32,
    /// Zero.
    pub padding: u32,
    /// The places.
    pub stations: [Station; PORT_STATIONS],
}

impl PortStations {
    /// Nothing learnt.
    pub const EMPTY: Self = Self {
        lock: 0,
        hand: 0,
        found: 0,
        padding: 0,
        stations: [Station { seen: 0, endpoint: 0, generation: 0, mac: [0; 6], network: 0 }; PORT_STATIONS],
    };
}

/// A place: number of a table and position in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StationPlace(pub u32);

impl StationPlace {
    /// A position in a table.
    #[inline(always)]
    #[must_use]
    pub const fn new(table: u32, position: u32) -> Self {
        Self(table << 8 | position)
    }

    /// Number of the table.
    #[inline(always)]
    #[must_use]
    pub const fn table(self) -> u32 {
        self.0 >> 8
    }

    /// Position in it.
    #[inline(always)]
    #[must_use]
    pub const fn position(self) -> u32 {
        self.0 & (PORT_STATIONS as u32 - 1)
    }
}
