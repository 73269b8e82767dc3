//! The text of `daemon.json`, changed by as few bytes as possible.
//!
//! Pure: text in, text out. serde_json reads the file; the ranges of its raw values say where to change it, so that
//! every other byte stays what the user wrote.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What dockerd must not do by itself where the datapath does it. Each is set to `false`.
pub const KEYS: [&str; 3] = ["iptables", "ip6tables", "userland-proxy"];

const WANTED: &str = "false";

/// The members of the top-level object, in their order.
pub struct Document<'a> {
    text: &'a str,
    open: usize,
    close: usize,
    members: Vec<Member>,
}

struct Member {
    key: String,
    name: Range<usize>,
    value: Range<usize>,
}

impl<'a> Document<'a> {
    /// Reads the text.
    ///
    /// # Errors
    /// When it is not a JSON object, or has one of our keys twice.
    pub fn parse(text: &'a str) -> Result<Self> {
        if text.trim().is_empty() {
            bail!("it is empty; remove it, or write {{}} into it");
        }
        let value: serde_json::Value =
            serde_json::from_str(text).context("it is not JSON; correct it, dockerd cannot read it either")?;
        let (Some(open), Some(close), true) = (text.find('{'), text.rfind('}'), value.is_object()) else {
            bail!("it is not a JSON object; correct it, dockerd cannot read it either");
        };
        let Members(raw) = serde_json::from_str(text)?;
        let range = |raw: &RawValue| {
            let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
            start..start + raw.get().len()
        };
        let mut members = Vec::with_capacity(raw.len());
        for (name, value) in raw {
            members.push(Member { key: serde_json::from_str(name.get())?, name: range(name), value: range(value) });
        }
        let document = Self { text, open, close, members };
        for key in KEYS {
            if document.members.iter().filter(|member| member.key == key).count() > 1 {
                bail!("it says `{key}` more than once; leave one of them");
            }
        }
        Ok(document)
    }

    /// The value of a top-level key as it is written.
    #[must_use]
    pub fn raw(&self, key: &str) -> Option<&'a str> {
        self.find(key).map(|index| &self.text[self.members[index].value.clone()])
    }

    /// A top-level boolean.
    #[must_use]
    pub fn boolean(&self, key: &str) -> Option<bool> {
        serde_json::from_str(self.raw(key)?).ok()
    }

    /// A top-level string.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.raw(key)?).ok()
    }

    /// Whether all is set as the datapath needs it.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        KEYS.iter().all(|key| self.raw(key) == Some(WANTED))
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn find(&self, key: &str) -> Option<usize> {
        self.members.iter().position(|member| member.key == key)
    }

    fn with(&self, key: &str, value: &str) -> String {
        match self.find(key) {
            Some(index) => self.splice(self.members[index].value.clone(), value),
            None => self.append(key, value),
        }
    }

    /// Adds a member at the end, in the style of the last one.
    fn append(&self, key: &str, value: &str) -> String {
        let Some(last) = self.members.last() else {
            let end = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
            return self.splice(self.open..self.close + 1, &format!("{{{end}  \"{key}\": {value}{end}}}"));
        };
        let colon = &self.text[last.name.end..last.value.start];
        let lead = match self.members.len() {
            1 => match &self.text[self.open + 1..last.name.start] {
                lines if lines.contains('\n') => lines,
                _ if colon.contains(' ') => " ",
                _ => "",
            },
            count => {
                let between = &self.text[self.members[count - 2].value.end..last.name.start];
                between.split_once(',').map_or("", |(_, lead)| lead)
            }
        };
        self.splice(last.value.end..last.value.end, &format!(",{lead}\"{key}\"{colon}{value}"))
    }

    fn without(&self, key: &str) -> String {
        let members = &self.members;
        match self.find(key) {
            None => self.text.to_owned(),
            Some(_) if members.len() == 1 => self.splice(self.open + 1..self.close, ""),
            Some(0) => self.splice(members[0].name.start..members[1].name.start, ""),
            Some(index) => self.splice(members[index - 1].value.end..members[index].value.end, ""),
        }
    }

    fn splice(&self, range: Range<usize>, text: &str) -> String {
        [&self.text[..range.start], text, &self.text[range.end..]].concat()
    }
}

/// The text with our keys set. Without a text, that of a new file.
///
/// # Errors
/// When there is a text that is not a JSON object.
pub fn enable(text: Option<&str>) -> Result<String> {
    let mut text = text.unwrap_or("{}\n").to_owned();
    for key in KEYS {
        let document = Document::parse(&text)?;
        if document.raw(key) != Some(WANTED) {
            text = document.with(key, WANTED);
        }
    }
    Ok(text)
}

/// What taking our keys back comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Undone {
    /// The text; none where there is to be no file.
    pub text: Option<String>,
    /// It is, byte for byte, what was there before.
    pub exact: bool,
    /// Our keys that somebody has changed since. They stay.
    pub kept: Vec<&'static str>,
}

/// Takes our keys back: what was there `before`, if nothing else has changed since; else only the keys that still are
/// as we have set them.
///
/// # Errors
/// When a text is not a JSON object.
pub fn disable(current: &str, before: Option<&str>) -> Result<Undone> {
    if enable(before)? == current {
        return Ok(Undone { text: before.map(str::to_owned), exact: true, kept: Vec::new() });
    }
    let old = before.map(Document::parse).transpose()?;
    let mut text = current.to_owned();
    let mut kept = Vec::new();
    for key in KEYS {
        let document = Document::parse(&text)?;
        let was = old.as_ref().and_then(|old| old.raw(key));
        match document.raw(key) {
            Some(WANTED) => {
                text = match was {
                    Some(value) => document.with(key, value),
                    None => document.without(key),
                }
            }
            changed if changed != was => kept.push(key),
            _ => {}
        }
    }
    let nothing_left = before.is_none() && Document::parse(&text)?.is_empty();
    Ok(Undone { exact: before == Some(text.as_str()), text: (!nothing_left).then_some(text), kept })
}

/// Names and values as they are written.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Entries).map(Members)
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
