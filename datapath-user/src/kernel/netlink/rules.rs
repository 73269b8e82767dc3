//! Rules that choose a routing table by the source address.

use std::net::IpAddr;

use anyhow::{Context, Result};
use rtnetlink::IpVersion;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::{Netlink, collect, error_number, unless_missing};

/// "Packets from this address are routed by that table."
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    /// The source address.
    pub source: IpAddr,
    /// The table.
    pub table: u32,
    /// Lower comes first.
    pub priority: u32,
}

impl Rule {
    fn read(message: &RuleMessage) -> Option<Self> {
        let (mut source, mut table, mut priority) = (None, u32::from(message.header.table), 0);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Source(address) => source = Some(*address),
                RuleAttribute::Table(number) => table = *number,
                RuleAttribute::Priority(number) => priority = *number,
                _ => {}
            }
        }
        let source = source?;
        let whole = if source.is_ipv4() { 32 } else { 128 };
        (message.header.src_len == whole && message.header.action == RuleAction::ToTable).then_some(Self {
            source,
            table,
            priority,
        })
    }
}

impl Netlink {
    /// Every rule for one source address.
    pub async fn rules(&self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            let dump = self.handle.rule().get(version).execute();
            rules.extend(collect("routing rules", dump, |message| Rule::read(&message)).await?);
        }
        Ok(rules)
    }

    /// Adds a rule. It may be there already.
    pub async fn add_rule(&self, rule: &Rule) -> Result<()> {
        let request = self.handle.rule().add().table_id(rule.table).priority(rule.priority).action(RuleAction::ToTable);
        let added = match rule.source {
            IpAddr::V4(source) => request.v4().source_prefix(source, 32).execute().await,
            IpAddr::V6(source) => request.v6().source_prefix(source, 128).execute().await,
        };
        match added {
            Err(error) if error_number(&error) == Some(libc::EEXIST) => Ok(()),
            result => result.with_context(|| format!("the routing rule for {} cannot be added", rule.source)),
        }
    }

    /// Removes a rule. It need not be there.
    pub async fn delete_rule(&self, rule: &Rule) -> Result<()> {
        let request = self.handle.rule().add().table_id(rule.table).priority(rule.priority).action(RuleAction::ToTable);
        let message = match rule.source {
            IpAddr::V4(source) => request.v4().source_prefix(source, 32).message_mut().clone(),
            IpAddr::V6(source) => request.v6().source_prefix(source, 128).message_mut().clone(),
        };
        let deleted = unless_missing(self.handle.rule().del(message).execute().await);
        deleted.with_context(|| format!("the routing rule for {} cannot be removed", rule.source))
    }
}
