//! What is true of any packet, and of the tables at any time.

use std::collections::HashMap;

use datapath_common::{
    abi::{Address, Flow, claim, flow_flags},
    logic::parse::protocol,
    native::{self, Frame, NativeTables, checksums_are_right},
    path::{Outcome, Scratch, Tables, Verdict},
};
use lab::frame::View;
use proptest::prelude::*;

use super::daemon::{charged_end, is_there};

/// Takes a packet its way. Wherever it goes: no address of ours leaves by an uplink, nobody gets what is another's, nothing comes
/// from another network, checksums are right, and it is as long as it was; what is the host's own is untouched.
pub fn run(
    path: impl FnOnce(&mut Frame, &NativeTables, &mut Scratch) -> Outcome,
    frame: &mut Frame,
    tables: &NativeTables,
) -> Result<Outcome, TestCaseError> {
    let before = frame.bytes.clone();
    let outcome = native::run(path, frame, tables);
    let Ok(verdict) = outcome else { return Ok(outcome) };
    prop_assert_eq!(frame.bytes.len(), before.len());
    prop_assert!(checksums_are_right(&frame.bytes), "{:?}", verdict);
    let view = View::of(&frame.bytes, None).expect("a packet");
    let (source, destination) = (view.source.expect("an address").into(), view.destination.expect("an address").into());
    match verdict {
        Verdict::ToUplink(_) => {
            prop_assert!(tables.subnet(&source).is_none(), "an address of ours leaves: {:?}", source);
            prop_assert!(tables.is_host_address(&source), "{:?} is not the host's", source);
        }
        Verdict::ToEndpoint(ifindex) => {
            let owner = tables.endpoint_by_ifindex(ifindex).expect("a port");
            let owner = tables.endpoint(owner).expect("an endpoint");
            prop_assert!(owner.owns(&destination), "{:?} is another's", destination);
            prop_assert_eq!(&frame.bytes[..6], owner.mac.as_slice());
            let from = tables.subnet(&source);
            prop_assert!(from.is_none_or(|from| from == owner.network), "{:?} is on another network", source);
        }
        Verdict::Pass => prop_assert_eq!(&frame.bytes, &before),
        other => prop_assert!(false, "nothing here comes to {other:?}"),
    }
    Ok(outcome)
}

/// The flow of a masqueraded packet is the only one of its external port: of UDP from any source, of queries to their target.
type External = (u8, Address, u16, Option<Address>);

/// No key without its flow, no slot left busy, nobody charged with anything but what lives, and no external port of two sources.
pub fn check(tables: &NativeTables, quota: u32) -> Result<(), TestCaseError> {
    let live: Vec<Flow> = tables.flows().filter(|flow| flow.claim == claim::LIVE).collect();
    prop_assert_eq!(tables.keys.borrow().len(), 2 * live.len(), "a key without its flow, or the reverse");
    prop_assert!(tables.flows().all(|flow| flow.claim != claim::BUSY), "a slot is left busy");
    let mut charges: HashMap<u32, u32> = tables.state.endpoints.keys().map(|index| (*index, 0)).collect();
    let mut mapped: HashMap<External, (Address, u16)> = HashMap::new();
    let current = |flow: &&Flow| is_there(tables, &charged_end(flow));
    for flow in live.iter().filter(current) {
        if flow.flags & flow_flags::CLOSED == 0 {
            *charges.entry(charged_end(flow).endpoint).or_default() += 1;
        }
        if flow.flags & flow_flags::MASQUERADED != 0 && flow.deadline >= tables.now.get() {
            let target = (flow.reply.protocol != protocol::UDP).then_some(flow.reply.source);
            let port = u16::from_be(flow.reply.destination_port);
            let external = (flow.reply.protocol, flow.reply.destination, port, target);
            let source = (flow.original.source, u16::from_be(flow.original.source_port));
            let other = mapped.insert(external, source);
            prop_assert!(
                other.is_none_or(|other| other == source),
                "{:?} is both {:?} and {:?}",
                external,
                other,
                source
            );
        }
    }
    for (index, charged) in charges {
        prop_assert_eq!(tables.usage_of(index).flows, charged, "what endpoint {} is charged with", index);
        prop_assert!(charged <= quota, "endpoint {} has {} flows", index, charged);
    }
    Ok(())
}
